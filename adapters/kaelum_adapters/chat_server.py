"""A Kaelum server as a LangChain chat model. Needs langchain-openai (the extra `client`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, Literal
from uuid import uuid4

from langchain_core.language_models import LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessageChunk, BaseMessage, get_buffer_string
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import BaseModel, Field, PrivateAttr, SecretStr

from kaelum_adapters.chat_form import called, structured
from kaelum_adapters.chat_request import response_format, wire_tools
from kaelum_adapters.chat_turn import PROFILE, REASONING_KEY
from kaelum_adapters.replies import CHARACTERS_PER_TOKEN
from kaelum_flow.messages import ABOUT_KEY, own_id
from kaelum_graph.errors import UsageError
from kaelum_graph.types import Json

try:
    from langchain_openai import ChatOpenAI
except ImportError as error:
    raise ImportError("ChatKaelumServer needs langchain-openai: pip install 'kaelum-graph[client]'.") from error

ADDRESS = "http://127.0.0.1:8000/v1"
"""Where `kaelum serve` listens."""
ANONYMOUS = SecretStr("anonymous")
READ_SECONDS = 600.0
ID_PREFIX = "chatcmpl-"
PROVIDER = "kaelum"
CALLS_FROM = 100
"""Where content is blocks, calls are counted from here: LangChain adds up blocks of one index, and counts the reasoning
and the text from 0 itself."""


class ChatKaelumServer(ChatOpenAI):
    """`ChatOpenAI` for a server started by `kaelum serve`, with all that the server says.

    What the search was doing is kept as reasoning (`ChatOpenAI` drops it), the message's id is the answer's, and
    `response_metadata["kaelum"]` is the server's story of the answer. `kaelum` holds settings of the search, as the
    `kaelum` object of a request's body does: `{"sims": 16, "deadline_ms": 5000}`. Also `invoke` streams, so that a long
    search is never silent and leaving early ends it; `timeout` bounds the silence, not the search. The client's own
    retries stay on: the server lets one join the run that it asks for again.

    Neither `OPENAI_API_KEY` nor `OPENAI_BASE_URL` is read: the one is not this server's to see.
    """

    model_name: str = Field(default="kaelum", alias="model")
    openai_api_base: str | None = Field(default=ADDRESS, alias="base_url")
    openai_api_key: SecretStr | Callable[[], str] | Callable[[], Awaitable[str]] | None = Field(
        default=ANONYMOUS, alias="api_key"
    )
    request_timeout: float | tuple[float, float] | Any | None = Field(default=READ_SECONDS, alias="timeout")
    stream_usage: bool | None = True
    stream_chunk_timeout: float | None = Field(default=None, exclude=True)
    use_responses_api: bool | None = False
    kaelum: Mapping[str, Any] | None = None

    _of_its_own: str = PrivateAttr(default_factory=lambda: uuid4().hex)

    def model_post_init(self, context: Any, /) -> None:
        """Stream, unless the caller says otherwise or asks for several answers at once."""
        super().model_post_init(context)
        if "streaming" not in self.model_fields_set and self.n in (None, 1):
            self.streaming = True

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """False: LangChain would fill in the key for OpenAI's own servers when it loads the model again."""
        return False

    @property
    def _llm_type(self) -> str:
        return "kaelum-server"

    @property
    def _identifying_params(self) -> Json:
        return {**super()._identifying_params, "base_url": self.openai_api_base}

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """LangChain's cache knows a model by this. Each key is a tenant of the server's, whose answers are theirs."""
        key = self.openai_api_key
        # What a function gives may differ from call to call: then nobody shares the answers.
        said = key.get_secret_value() if isinstance(key, SecretStr) else f"{self._of_its_own}:{id(key)}"
        headers = sorted((self.default_headers or {}).items())
        whose = repr((said, headers, self.openai_organization, sorted((self.default_query or {}).items())))
        return f"{super()._get_llm_string(stop=stop, **kwargs)}---{hashlib.sha256(whose.encode()).hexdigest()}"

    def get_num_tokens(self, text: str) -> int:
        """About how many tokens `text` is: one for 4 characters, since the server's tokenizer is not here."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return -(-len(text) // CHARACTERS_PER_TOKEN)

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None, **kwargs: Any
    ) -> int:
        """About how many tokens a conversation is: one for 4 characters, and 3 a turn; or by `custom_get_token_ids`."""
        if self.custom_get_token_ids is not None:
            offered = json.dumps(wire_tools(tools)) if tools else ""
            return sum(map(self.get_num_tokens, [*(get_buffer_string([message]) for message in messages), offered]))
        wired: Any = wire_tools(tools) if tools else None
        return count_tokens_approximately(messages, chars_per_token=CHARACTERS_PER_TOKEN, tools=wired)

    def get_token_ids(self, text: str) -> list[int]:
        """What `custom_get_token_ids` gives. Raises `UsageError` without it: the server's tokenizer is not here."""
        if self.custom_get_token_ids is None:
            raise UsageError("the server's tokens have no ids here; give custom_get_token_ids, or use get_num_tokens.")
        return self.custom_get_token_ids(text)

    def _resolve_model_profile(self) -> ModelProfile:
        return PROFILE

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = PROVIDER
        return params

    @property
    def _default_params(self) -> Json:
        params = super()._default_params
        if self.kaelum:
            params["extra_body"] = {**(params.get("extra_body") or {}), "kaelum": dict(self.kaelum)}
        return params

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Literal["function_calling", "json_mode", "json_schema"] = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """As `ChatKaelum.with_structured_output`."""
        if kwargs:
            raise UsageError(f"unknown argument '{sorted(kwargs)[0]}' for structured output.")
        if method == "function_calling":
            return called(self, schema, include_raw=include_raw, strict=strict)
        return structured(self, schema, method=method, include_raw=include_raw, strict=strict)

    def _get_request_payload(self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any) -> Json:
        payload = super()._get_request_payload(input_, stop=stop, **kwargs)
        if (form := payload.pop("response_format", None)) is not None:
            # Named outright, it would go through the openai client's helper for forms, which gives everything twice
            # and raises where an answer is cut short.
            given = form if isinstance(form, dict) else response_format(form)
            payload["extra_body"] = {**(payload.get("extra_body") or {}), "response_format": given}
        return payload

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return _named_apart(super()._generate(messages, *args, **kwargs), messages)

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return _named_apart(await super()._agenerate(messages, *args, **kwargs), messages)

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        chunks: Any = super()._stream(messages, *args, **kwargs)
        named = ended = None
        with closing(chunks):
            for chunk in chunks:
                named = chunk.message.id = own_id(chunk.message.id, messages)
                ended = chunk.message.chunk_position
                yield chunk
        if ended is None:
            yield _end(named)

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        chunks: Any = super()._astream(messages, *args, **kwargs)
        named = ended = None
        async with aclosing(chunks):
            async for chunk in chunks:
                named = chunk.message.id = own_id(chunk.message.id, messages)
                ended = chunk.message.chunk_position
                yield chunk
        if ended is None:
            yield _end(named)

    def _create_chat_result(self, response: Any, generation_info: Json | None = None) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        told: Json = response if isinstance(response, dict) else response.model_dump(warnings=False)
        for place, generation in enumerate(result.generations):
            message = generation.message
            message.id = _answer_id(told) if place == 0 else None
            message.response_metadata |= {"model_provider": PROVIDER, ABOUT_KEY: told.get("kaelum") or {}}
            if thought := told["choices"][place]["message"].get(REASONING_KEY):
                message.additional_kwargs[REASONING_KEY] = thought
        result.llm_output = {**(result.llm_output or {}), "model_provider": PROVIDER}
        return result

    def _convert_chunk_to_generation_chunk(
        self, chunk: Json, default_chunk_class: type, base_generation_info: Json | None
    ) -> ChatGenerationChunk | None:
        made = super()._convert_chunk_to_generation_chunk(chunk, default_chunk_class, base_generation_info)
        if made is None:
            return None
        made.message.id = _answer_id(chunk)
        made.message.response_metadata["model_provider"] = PROVIDER
        if story := chunk.get("kaelum"):
            made.message.response_metadata[ABOUT_KEY] = story
        choices = chunk.get("choices") or ()
        if choices and (thought := (choices[0].get("delta") or {}).get(REASONING_KEY)):
            made.message.additional_kwargs[REASONING_KEY] = thought
        if self.output_version == "v1" and isinstance(made.message, AIMessageChunk):
            for call in made.message.tool_call_chunks:
                call["index"] = CALLS_FROM + (call["index"] or 0)
        return made


def _answer_id(told: Mapping[str, Any]) -> str | None:
    given = told.get("id")
    return given.removeprefix(ID_PREFIX) if isinstance(given, str) else None


def _end(named: str | None) -> ChatGenerationChunk:
    # LangChain would end the stream itself, with a chunk of another id.
    return ChatGenerationChunk(message=AIMessageChunk(content="", id=named, chunk_position="last"))


def _named_apart(result: ChatResult, messages: list[BaseMessage]) -> ChatResult:
    message = result.generations[0].message
    message.id = own_id(message.id, messages)
    return result
