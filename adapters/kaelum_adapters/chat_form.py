"""Structured output of a chat model: a form for the search, and a parser for what comes back in it."""

from __future__ import annotations

from operator import itemgetter
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.base import BaseOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.pydantic import is_basemodel_subclass

from kaelum_adapters.chat_request import response_format, tools_of
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
    bound = model.bind(response_format=form, ls_structured_output_format=_traced(schema, method, strict))
    parser: BaseOutputParser[Any] = JsonOutputParser()
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        pydantic_class: Any = schema
        parser = PydanticOutputParser(pydantic_object=pydantic_class)
    return _parsed(bound, parser, include_raw=include_raw)


def called(model: BaseChatModel, schema: Any, *, include_raw: bool, strict: bool | None) -> Runnable[Any, Any]:
    """`model` bound to call a tool with the arguments of `schema`, and the parser of its call.

    Raises `UsageError` without a schema, and for what is none.
    """
    if schema is None:
        raise UsageError("structured output by function calling needs a schema.")
    traced = _traced(schema, "function_calling", strict)
    bound = model.bind_tools([schema], tool_choice="any", strict=strict, ls_structured_output_format=traced)
    parser: BaseOutputParser[Any]
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        parser = PydanticToolsParser(tools=[schema], first_tool_only=True)
    else:
        parser = JsonOutputKeyToolsParser(key_name=tools_of([schema])[0].name, first_tool_only=True)
    return _parsed(bound, parser, include_raw=include_raw)


def _traced(schema: Any, method: str, strict: bool | None) -> Json | None:
    return {"kwargs": {"method": method, "strict": strict}, "schema": schema} if schema is not None else None


def _parsed(bound: Runnable[Any, Any], parser: BaseOutputParser[Any], *, include_raw: bool) -> Runnable[Any, Any]:
    if not include_raw:
        return bound | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    unparsed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | parsed.with_fallbacks([unparsed], exception_key="parsing_error")
