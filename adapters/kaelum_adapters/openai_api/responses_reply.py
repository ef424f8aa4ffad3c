"""The Response object of `/v1/responses`: what the request said, the output items, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import TokenLogprob, Usage
from kaelum_adapters.openai_api.responses_body import ResponseBody
from kaelum_adapters.openai_api.responses_tools import FunctionTool
from kaelum_graph.types import Json, ToolCall

Status = Literal["in_progress", "completed", "incomplete", "failed"]


def echo(body: ResponseBody, tools: Sequence[FunctionTool], *, temperature: float, top_p: float) -> Json:
    """The fields of a Response that repeat the request, defaults filled in; the sampling defaults are given."""
    effort = None if body.reasoning is None else body.reasoning.effort
    return {
        "object": "response",
        "previous_response_id": body.previous_response_id,
        "instructions": body.instructions,
        "tools": [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "strict": tool.strict,
            }
            for tool in tools
        ],
        "tool_choice": "auto" if body.tool_choice is None else body.tool_choice,
        "truncation": "disabled",
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "text": _text_config(body),
        "temperature": temperature if body.temperature is None else body.temperature,
        "top_p": top_p if body.top_p is None else body.top_p,
        "frequency_penalty": body.frequency_penalty or 0.0,
        "presence_penalty": body.presence_penalty or 0.0,
        "top_logprobs": body.top_logprobs or 0,
        "reasoning": {"effort": effort, "summary": body.summary},
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "store": body.store is not False,
        "background": False,
        "service_tier": "default",
        "metadata": body.metadata or {},
        "user": body.user,
        "safety_identifier": body.safety_identifier,
        "prompt_cache_key": body.prompt_cache_key,
        "prompt_cache_retention": body.prompt_cache_retention,
    }


def _text_config(body: ResponseBody) -> Json:
    config: Json = {"format": {"type": "text"}, "verbosity": "medium"}
    if body.text is not None and body.text.format is not None:
        form = body.text.format
        config["format"] = form.model_dump(by_alias=True, exclude_none=True)
        if form.type == "json_schema":
            config["format"] = {"description": None, "strict": bool(form.strict), **config["format"]}
    if body.text is not None and body.text.verbosity is not None:
        config["verbosity"] = body.text.verbosity
    return config


@dataclass(slots=True, kw_only=True)
class Draft:
    """A Response while it comes to be. `snapshot` is its JSON now."""

    id: str
    created: int
    model: str
    echo: Json
    status: Status = "in_progress"
    output: list[Json] = field(default_factory=list[Json])
    usage: Usage | None = None
    story: Json | None = None
    error: ApiError | None = None
    incomplete_reason: str | None = None
    completed: int | None = None

    def snapshot(self) -> Json:
        """The whole object; a value of its own."""
        data: Json = {
            "id": self.id,
            **self.echo,
            "created_at": self.created,
            "completed_at": self.completed,
            "status": self.status,
            "model": self.model,
            "output": [dict(item) for item in self.output],
            "usage": None if self.usage is None else usage_json(self.usage),
            "error": None if self.error is None else {"code": error_code(self.error), "message": self.error.message},
            "incomplete_details": None if self.incomplete_reason is None else {"reason": self.incomplete_reason},
        }
        if self.story is not None:
            data["kaelum"] = self.story
        return data


def usage_json(usage: Usage) -> Json:
    """Tokens in the words of the Responses API. Nothing is billed for writing a cache here."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def error_code(error: ApiError) -> str:
    """One of the codes that a Response's `error` may have."""
    if error.status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if error.status < 500 else "server_error"


def reasoning_item(item_id: str, text: str, *, status: Status, encrypted: str | None) -> Json:
    """What the search did, in its own words."""
    summary = [{"type": "summary_text", "text": text}] if text else []
    item: Json = {"id": item_id, "type": "reasoning", "status": status, "summary": summary}
    return item if encrypted is None else {**item, "encrypted_content": encrypted}


def text_part(text: str, logprobs: Sequence[TokenLogprob] | None) -> Json:
    """The text of an answer."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs_json(logprobs)}


def message_item(item_id: str, parts: Sequence[Json], *, status: Status) -> Json:
    """The assistant's turn."""
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": list(parts)}


def call_item(item_id: str, call: ToolCall, *, arguments: str, status: Status) -> Json:
    """One tool call, with as much of its `arguments` as is known yet."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments,
    }


def logprobs_json(logprobs: Sequence[TokenLogprob] | None) -> list[Json]:
    """Log-probabilities of tokens, with the bytes that clients join to characters."""
    return [
        {
            **_token(entry.token, entry.logprob),
            "top_logprobs": [_token(token, logprob) for token, logprob in entry.top],
        }
        for entry in logprobs or ()
    ]


def _token(token: str, logprob: float) -> Json:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode(errors="replace"))}
