"""The OpenAPI page: every route with every error it can answer, and a plain page of it without outside assets."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, cast

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from kaelum_graph.types import Json

router = APIRouter(include_in_schema=False)


class ErrorDetail(BaseModel):
    """What went wrong: one line, its kind, the field at fault as a dotted path, and a word for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every response that isn't a success."""

    error: ErrorDetail


ERRORS = {
    400: "The request is malformed, or asks for what can't be had.",
    401: "An API key is missing, unknown or revoked.",
    403: "A web page of another site asked without an API key.",
    404: "There is no such thing, or no such address.",
    405: "The address does not take this method.",
    408: "The body did not arrive in time.",
    413: "The body is too long.",
    429: "The key's rate or the server's queue is at its limit; `retry-after` says when to come back.",
    500: "The server failed.",
    502: "The model server behind this one failed.",
    503: "The model is not there yet, or the server is shutting down; `retry-after` says when to come back.",
    504: "The model server behind this one did not answer in time.",
    507: "The answer could not be stored.",
}
"""What any route may answer: most of these arise before a route is reached."""

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text} for status, text in ERRORS.items()
}


def install_openapi(app: FastAPI) -> None:
    """Make `/openapi.json` tell the truth: no 422, which becomes a 400, and how to show a key."""

    def schema() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = _told(app)
        return app.openapi_schema

    app.openapi = schema


def _told(app: FastAPI) -> Json:
    page: Json = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
    )
    for operations in cast("Mapping[str, Mapping[str, Any]]", page.get("paths", {})).values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    components = page.setdefault("components", {})
    for name in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(name, None)
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "A key made by `kaelum keys add`."},
        "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    page["security"] = [{"key": []}, {"header": []}, {}]
    return page


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The routes as a page that needs nothing from anywhere else."""
    return HTMLResponse(
        as_page(request.app.openapi()),
        headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )


def as_page(schema: Mapping[str, Any]) -> str:
    """HTML for an OpenAPI document: each operation with its summary, parameters and body fields."""
    parts: list[str] = []
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            said = operation.get("description") or operation.get("summary") or ""
            parts.append(f"<p>{escape(said)}</p>")
            fields = [*operation.get("parameters", []), *_body_fields(schema, operation)]
            if fields:
                parts.append("<table>" + "".join(map(_row, fields)) + "</table>")
    title = escape(f"{schema['info']['title']} {schema['info']['version']}")
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>"
        "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "h2{margin:2rem 0 0;font-size:1.1rem}td{padding:.1rem 1rem .1rem 0;vertical-align:top}"
        "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}}"
        f"</style><h1>{title}</h1><p>{escape(schema['info'].get('description', ''))} "
        f"The whole of it for programs: <a href='openapi.json'>openapi.json</a></p>{''.join(parts)}</html>"
    )


def _body_fields(schema: Mapping[str, Any], operation: Mapping[str, Any]) -> list[Json]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    name = body.get("$ref", "").rpartition("/")[2]
    model = schema["components"].get("schemas", {}).get(name, body)
    required = model.get("required", [])
    return [
        {"name": field, "in": "body", "required": field in required, **told}
        for field, told in model.get("properties", {}).items()
    ]


def _row(field: Mapping[str, Any]) -> str:
    need = "required" if field.get("required") else ""
    cells = (f"<code>{escape(field['name'])}</code>", escape(field["in"]), need, escape(field.get("description", "")))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
