"""The form that a caller asks an answer to have, as the search takes it."""

from __future__ import annotations

from kaelum_graph.types import Json, Shape


def schema_form(schema: Json, *, name: str = "", description: str | None = None, strict: bool | None = None) -> Shape:
    """JSON that fits `schema`; a description that is given beside it is read with it."""
    described = {"description": description, **schema} if description else schema
    return Shape(kind="json_schema", name=name, schema=described, strict=bool(strict))
