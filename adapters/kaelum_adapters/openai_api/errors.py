"""Every failure of the server in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from kaelum_adapters.openai_api.request_id import request_id_of
from kaelum_graph.errors import (
    ContextOverflow,
    FormError,
    HashMismatch,
    KaelumError,
    ModelError,
    StorageError,
    UnknownEpisode,
    UpstreamError,
    UsageError,
    WeightsError,
)
from kaelum_graph.types import Json

logger = logging.getLogger("kaelum.server")

RETRY_SECONDS = 5
"""What a client is told to wait where nothing better is known."""

_TURNS = frozenset({"system", "user", "assistant", "tool", "function"})
PASSING = ("model_loading", "shutting_down")
"""Codes of 5xx answers that are states, not failures: the request log has them, the error log doesn't."""

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """A request that can't be served, as the client is told: HTTP `status`, one clear line, OpenAI's fields.

    `param` is the field at fault as a dotted path ("messages.0.role"). `retry` false tells clients that asking again
    won't help (`x-should-retry`); it is so for 4xx but 408, 409 and 429. `headers` go on the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        plain = type == "invalid_request_error"
        self.type = "server_error" if plain and status >= 500 else _TYPES.get(status, type) if plain else type
        self.param = param
        self.code = code
        self.retry = (status >= 500 or status in (408, 409, 429)) if retry is None else retry
        self.headers = {"x-should-retry": "true" if self.retry else "false", **(headers or {})}
        if self.retry and status in (429, 503):
            self.headers.setdefault("retry-after", str(RETRY_SECONDS))


def error_body(error: ApiError) -> Json:
    """The JSON of an error: a response's body, or an event in the middle of a stream."""
    return {
        "error": {"message": _sendable(error.message), "type": error.type, "param": error.param, "code": error.code}
    }


def error_response(error: ApiError) -> JSONResponse:
    """The whole response of an error."""
    return JSONResponse(error_body(error), status_code=error.status, headers=error.headers)


def as_api_error(error: BaseException) -> ApiError:
    """What a client is told of `error`.

    What the package raises on purpose speaks for itself. Of anything else only "internal error" is said: its text may
    hold a path, a prompt or a secret, and belongs in the log.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ContextOverflow):
        return ApiError(400, str(error), param="messages", code="context_length_exceeded")
    if isinstance(error, UnknownEpisode):
        return ApiError(404, str(error), code="not_found")
    if isinstance(error, UsageError):
        return ApiError(400, str(error), code="invalid_value")
    if isinstance(error, UpstreamError):
        return _upstream(error)
    if isinstance(error, HashMismatch | WeightsError):
        return ApiError(503, str(error), code="model_unavailable", headers={"retry-after": "30"})
    if isinstance(error, ModelError):
        return ApiError(503, str(error), code="model_error", retry=not isinstance(error, FormError))
    if isinstance(error, StorageError):
        return ApiError(507, str(error), code="storage_error", retry=False)
    if isinstance(error, KaelumError):
        return ApiError(500, str(error), code="internal_error")
    if isinstance(error, TimeoutError):
        return ApiError(504, "The request took longer than it may.", code="timeout")
    return ApiError(500, "internal error", code="internal_error")


def _upstream(error: UpstreamError) -> ApiError:
    """By what the model server said: its 429 and 503 are passed on, silence is a 504, the rest a 502."""
    status, silent = error.status, False
    wait = None if error.retry_after is None else str(max(1, math.ceil(error.retry_after)))
    for cause in _causes(error):
        if status is None and isinstance(found := getattr(cause, "status_code", None), int):
            status = found
            wait = _retry_after(getattr(getattr(cause, "response", None), "headers", None))
        silent = silent or isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__
    headers = None if wait is None else {"retry-after": wait}
    message = str(error)
    if status in (400, 413, 422):
        return ApiError(400, message, code="upstream_refused")
    if status == 429:
        return ApiError(429, message, code="upstream_rate_limited", headers=headers)
    if status == 503:
        return ApiError(503, message, code="upstream_unavailable", headers=headers)
    if status in (408, 504) or (status is None and (silent or "in time" in message or "stopped answering" in message)):
        return ApiError(504, message, code="upstream_timeout")
    return ApiError(502, message, code="upstream_error", retry=status not in (401, 403, 404))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _retry_after(headers: Any) -> str | None:
    value = None if headers is None else headers.get("retry-after")
    return value if isinstance(value, str) and value.isascii() and value.isdigit() and int(value) <= 3600 else None


def install_error_handlers(app: FastAPI) -> None:
    """Make every failure of `app` answer in OpenAI's shape."""

    async def api_error(request: Request, error: Exception) -> JSONResponse:
        told = as_api_error(error)
        if told.status >= 500 and told.code not in PASSING:
            log_failure(error, told, request_id_of(request.scope))
        return error_response(told)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(validation_error(error.errors()))

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return error_response(_http_error(request, error))

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(KaelumError, api_error)
    app.add_exception_handler(TimeoutError, api_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)


def log_failure(error: BaseException, told: ApiError, request_id: str) -> None:
    """Write a failure of ours to the log, with the traceback where the reason isn't one that we name.

    Not a 503 of the server's own (loading, draining, a full queue): probes ask every few seconds, and the request log
    has the status.
    """
    if isinstance(error, ApiError) and error.status == 503:
        return
    unknown = told.code == "internal_error"
    line = error.without_quotation if isinstance(error, KaelumError) else str(error)
    logger.error(
        "request %s failed with %d: %s",
        request_id,
        told.status,
        f"{type(error).__name__}: {line}",
        exc_info=error if unknown else None,
    )


def validation_error(problems: Sequence[Any]) -> ApiError:
    """pydantic's findings as one 400: the first problem, `param` its place as a dotted path; others are counted."""
    if not problems:
        return ApiError(400, "The request is not valid.", code="invalid_value")
    first = problems[0]
    place = _without_roles([str(part) for part in first.get("loc", ())])
    if place and place[0] in ("body", "query", "path", "header"):
        place = place[1:]
    kind = str(first.get("type", ""))
    if kind == "json_invalid":
        return ApiError(400, "The body is not valid JSON.", code="invalid_json")
    # The rejected value itself is left out: it may be the whole prompt.
    path = ".".join(place) or None
    said = str(first.get("msg", "not valid")).removeprefix("Value error, ").rstrip(".")
    if kind == "extra_forbidden":
        said, code = "unknown parameter", "unknown_parameter"
    elif kind == "missing":
        said, code = "required, but not given", "missing_required_parameter"
    else:
        code = "invalid_type" if kind.endswith(("_type", "_parsing")) else "invalid_value"
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    return ApiError(400, f"{path or 'The body'}: {said}.{more}", param=path, code=code)


def _without_roles(place: Sequence[str]) -> list[str]:
    """A place in the body without what isn't there: under a message pydantic names the kind of turn it took it for."""
    return [
        part
        for at, part in enumerate(place)
        if not (part in _TURNS and place[at - 2 : at - 1] == ["messages"] and place[at - 1].isdecimal())
    ]


def _http_error(request: Request, error: HTTPException) -> ApiError:
    method, path = request.method, request.url.path
    if error.status_code == 404:
        return ApiError(404, f"Unknown address: {method} {path}", code="unknown_url")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("allow") or (error.headers or {}).get("Allow")
        may = f"; it takes {allowed}" if allowed else ""
        return ApiError(405, f"{path} does not take {method}{may}.", code="method_not_allowed", headers=error.headers)
    return ApiError(error.status_code, str(error.detail), headers=error.headers)


def _sendable(text: str) -> str:
    """`text` without what UTF-8 can't carry."""
    return text.encode(errors="replace").decode()
