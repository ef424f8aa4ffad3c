"""Structured output of a chat model: a form for the search, and a parser for what comes back in it."""

from __future__ import annotations

from operator import itemgetter
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.base import BaseOutputParser
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.pydantic import is_basemodel_subclass

from kaelum_adapters.chat_request import response_format
from kaelum_graph.errors import UsageError
from kaelum_graph.types import Json


def structured(
    model: BaseChatModel,
    schema: Any,
    *,
    method: Literal["json_schema", "json_mode"],
    include_raw: bool,
    strict: bool | None,
) -> Runnable[Any, Any]:
    """`model` bound to the form, and the parser after it. Raises `UsageError` without a schema that is needed."""
    if schema is None and method == "json_schema":
        raise UsageError("structured output needs a schema; without one there is the method 'json_mode'.")
    form: Json = {"type": "json_object"} if method == "json_mode" else response_format(schema, strict=strict)
    traced = {"kwargs": {"method": method, "strict": strict}, "schema": schema} if schema is not None else None
    bound = model.bind(response_format=form, ls_structured_output_format=traced)
    parser: BaseOutputParser[Any] = JsonOutputParser()
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        pydantic_class: Any = schema
        parser = PydanticOutputParser(pydantic_object=pydantic_class)
    if not include_raw:
        return bound | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    unparsed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | parsed.with_fallbacks([unparsed], exception_key="parsing_error")
