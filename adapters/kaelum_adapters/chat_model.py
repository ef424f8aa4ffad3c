"""Kaelum as a LangChain chat model, in this process."""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, Literal, Self, cast
from uuid import uuid4
from weakref import WeakKeyDictionary

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from kaelum_adapters.chat_form import called, structured
from kaelum_adapters.chat_request import (
    choice_of,
    shape_of,
    tools_of,
    wire_tools,
    with_answered_calls,
)
from kaelum_adapters.chat_turn import PROFILE, ChatAsk, ChatTurn
from kaelum_adapters.openai_api.model_names import DIRECT, SEARCH, model_names, worker_of
from kaelum_adapters.progress import forward
from kaelum_adapters.replies import prompt_length
from kaelum_flow.facade import Kaelum
from kaelum_flow.messages import asked
from kaelum_flow.services import PER_QUERY
from kaelum_flow.state import checked_tenant, read_message, turn_of
from kaelum_graph.config import Effort, Settings, with_overrides
from kaelum_graph.documents import Documents
from kaelum_graph.errors import UsageError
from kaelum_graph.retrieval import Retriever
from kaelum_graph.types import Json, Message
from kaelum_graph.workers import worker as find_worker

FIELD_OF = {name: "answer_cache" if name == "cache" else name for name in sorted(PER_QUERY)}
"""The model's field for each option of a query; a chat model's `cache` is LangChain's own."""

ARGUMENTS = frozenset(
    {"cancel", "model", "parallel_tool_calls", "response_format", "shape", "stream", "tenant", "tool_choice",
     "tools"}
)  # fmt: skip
"""What a call may be given beside options and messages."""
CALL = ARGUMENTS | {"timeout"} | set(FIELD_OF.values())

_retrievers: WeakKeyDictionary[Retriever, str] = WeakKeyDictionary()
"""A name for each retriever that a Kaelum was given: nobody else can say what it finds, so no two are the same."""


class ChatKaelum(BaseChatModel):
    """A chat model that searches for its answer. Sync and async; streams; calls tools; answers in a given form.

    `kaelum` is the one that answers; without it, one is made out of the environment's settings, which `close` frees.
    Share one among many chat models: each Kaelum loads a model, at its first question. `model` is "kaelum", or
    "kaelum-<worker>" to force a worker. The other fields are per-query settings of the search; None leaves the Kaelum's
    own. Every field but `kaelum` may also be given to a single call, or bound. `timeout` is `deadline`, in seconds: the
    best answer so far comes then.

    A message's content is the answer's text; what the search was doing is its reasoning, which `content_blocks` has
    first; `usage_metadata` counts the tokens of discarded rollouts as reasoning; `response_metadata["kaelum"]` says how
    sure the answer is, and has its `id`, the handle for feedback. A copy shares the Kaelum, and doesn't own it.

    Made with a field that doesn't exist, or of the wrong type, it raises pydantic's `ValidationError`; with a value out
    of range `ConfigError`, with an unknown worker or model `UsageError`. A call raises what `Kaelum.ask` raises, and
    `UsageError` for unknown options and for messages that hold more than text.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    kaelum: Kaelum = Field(default_factory=Kaelum, exclude=True, repr=False)
    model: str = SEARCH
    tenant: str = ""
    stop: list[str] | None = Field(default=None, validation_alias=AliasChoices("stop", "stop_sequences"))
    streaming: bool = False
    answer_cache: bool | None = None
    answers: int | None = None
    deadline: float | None = Field(default=None, validation_alias=AliasChoices("deadline", "timeout"))
    depth: int | None = None
    early_stop: bool | None = None
    effort: Effort | None = None
    first_wave: int | None = None
    judge: Literal["auto", "on", "off"] | None = None
    learning: bool | None = None
    max_reflections: int | None = None
    max_tokens: int | None = None
    min_confidence: float | None = None
    prm_threshold: float | None = None
    routing: bool | None = None
    seed: int | None = None
    sims: int | None = None
    temperature: float | None = None
    token_budget: int | None = None
    top_p: float | None = None
    wave_size: int | None = None
    worker: str | None = None

    _own_kaelum: bool = PrivateAttr(default=False)

    @model_validator(mode="before")
    @classmethod
    def _without_retries(cls, given: Json) -> Json:
        # LangChain hands `max_retries` to every model; a search in this process has nobody to ask again.
        kept = {key: value for key, value in given.items() if key != "max_retries"}
        return {key: value for key, value in kept.items() if key != "kaelum" or value is not None}

    @model_validator(mode="after")
    def _checked(self) -> ChatKaelum:
        checked_tenant(self.tenant)
        with_overrides(Settings(), self._options({}, self.model))
        if self.worker is not None:
            find_worker(self.worker)
        self._own_kaelum = "kaelum" not in self.model_fields_set
        return self

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._own_kaelum = False
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        copied = super().__deepcopy__({**(memo or {}), id(self.kaelum): self.kaelum})
        copied._own_kaelum = False
        return copied

    def close(self) -> None:
        """Free the Kaelum that was made for this model; one that it was given, or that it is a copy with, stays open.

        Idempotent.
        """
        if self._own_kaelum:
            self.kaelum.close()

    @property
    def _llm_type(self) -> str:
        return "kaelum"

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """True. The Kaelum itself stays out: what is loaded again takes its settings from the environment."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where LangChain finds the class again."""
        return cls.__module__.split(".")

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        given = {name: getattr(self, name) for name in ("tenant", "stop", *FIELD_OF.values())}
        return {"model": self.model, **{name: value for name, value in given.items() if value not in (None, "")}}

    def _resolve_model_profile(self) -> ModelProfile:
        return PROFILE

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return super()._get_ls_params(stop=stop or self.stop, **kwargs)

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """LangChain's cache knows a model by this.

        Other settings, another policy model or other sources give other answers.
        """
        services = self.kaelum.services
        known = [services.model_name, self.kaelum.settings.model_dump_json(), sources_of(self.kaelum)]
        digest = hashlib.sha256("\n".join(known).encode()).hexdigest()
        return f"{super()._get_llm_string(stop=stop, **kwargs)}---{digest}"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        ask = self._ask(messages, stop, kwargs)
        turn = self._turn(ask)
        with closing(self._events(ask)) as events:
            for event in events:
                list(turn.feed(forward(event)))
        return turn.result

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        ask = self._ask(messages, stop, kwargs)
        turn = await asyncio.to_thread(self._turn, ask)
        async with aclosing(self._aevents(ask)) as events:
            async for event in events:
                list(turn.feed(forward(event)))
        return turn.result

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        ask = self._ask(messages, stop, kwargs)
        turn = self._turn(ask)
        with closing(self._events(ask)) as events:
            for event in events:
                yield from turn.feed(forward(event))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        ask = self._ask(messages, stop, kwargs)
        turn = await asyncio.to_thread(self._turn, ask)
        async with aclosing(self._aevents(ask)) as events:
            async for event in events:
                for chunk in turn.feed(forward(event)):
                    yield chunk

    def get_num_tokens(self, text: str) -> int:
        """How many tokens of the policy model `text` is, without those of a turn. Loads the model."""
        count = self.kaelum.services.model.count_tokens
        return max(0, count([Message("user", text)]) - count([Message("user", "")]))

    def get_num_tokens_from_messages(self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """How many tokens the policy model reads for a conversation; tools count as their JSON. Loads the model."""
        turns = [read_message(turn_of(message)) for message in messages]
        counted = self.kaelum.services.model.count_tokens(turns) if turns else 0
        return counted + (self.get_num_tokens(json.dumps(wire_tools(tools))) if tools else 0)

    def get_token_ids(self, text: str) -> list[int]:
        """Raises `UsageError`: a policy model counts tokens, and doesn't number them."""
        raise UsageError("this model counts tokens (get_num_tokens), and has no ids of them to give.")

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | Mapping[str, Any] | bool | None = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """This model with tools that it may call; the caller runs them.

        `tools` are anything that LangChain takes for a tool. `tool_choice`: "auto", "any", "required", "none", a tool's
        name, True for "any", or OpenAI's object. Without `parallel_tool_calls` one call is made at a time. Raises
        `UsageError` for what is no tool, or a choice of a tool that isn't there.
        """
        wired = wire_tools(tools, strict=strict)
        choice_of(tool_choice, tools_of(wired))
        given: Json = {"tool_choice": tool_choice, "parallel_tool_calls": parallel_tool_calls}
        bound = {key: value for key, value in given.items() if value is not None}
        return self.bind(tools=wired, **bound, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Literal["json_schema", "json_mode", "function_calling"] = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """A model whose answers are values of `schema`: a pydantic class, a TypedDict or a JSON schema.

        By "json_schema" the search itself puts its answer in that form, and what comes back fits it. "json_mode"
        takes any JSON object for the answer: say in the prompt which. "function_calling" makes the answer the
        arguments of a call. With `include_raw` the value is `{"raw", "parsed", "parsing_error"}`. Raises `UsageError`
        for what is no schema.
        """
        if kwargs:
            raise UsageError(f"unknown argument '{sorted(kwargs)[0]}' for structured output.")
        if method == "function_calling":
            return called(self, schema, include_raw=include_raw, strict=strict)
        return structured(self, schema, method=method, include_raw=include_raw, strict=strict)

    def _turn(self, ask: ChatAsk) -> ChatTurn:
        model = self.kaelum.services.model
        return ChatTurn(ask, prompt_tokens=prompt_length(model, ask.conversation, ask.tools, ask.tool_choice))

    def _events(self, ask: ChatAsk) -> Any:
        return self.kaelum.stream(ask.question, **ask.arguments)

    def _aevents(self, ask: ChatAsk) -> Any:
        return self.kaelum.astream(ask.question, **ask.arguments)

    def _ask(self, messages: Sequence[BaseMessage], stop: list[str] | None, given: Json) -> ChatAsk:
        check_arguments(given)
        question, turns = asked(cast("Sequence[AnyMessage]", with_answered_calls(messages)))
        tools = tools_of(given.get("tools") or ())
        choice = choice_of(given.get("tool_choice"), tools, parallel=given.get("parallel_tool_calls"))
        model = given.get("model") or self.model
        options = self._options(given, model)
        if tools and choice.mode != "none":
            # What an agent is told depends on what its tools say by then; and the id is known from the start.
            options["cache"] = False
        return ChatAsk(
            question=question,
            tools=tools,
            tool_choice=choice,
            shape=shape_of(given.get("shape") or given.get("response_format")),
            tenant=given.get("tenant") or self.tenant,
            cancel=given.get("cancel"),
            options=options,
            stop=tuple(one for one in (self.stop if stop is None else stop) or () if one),
            model=model,
            messages=tuple(messages),
            **turns,
        )

    def _options(self, given: Mapping[str, Any], model: str) -> Json:
        values = {
            option: given[name] if given.get(name) is not None else getattr(self, name)
            for option, name in FIELD_OF.items()
        }
        options: Json = {option: value for option, value in values.items() if value is not None}
        if given.get("timeout") is not None:
            options["deadline"] = given["timeout"]
        if model == DIRECT or model not in model_names():
            searching = ", ".join(name for name in model_names() if name != DIRECT)
            raise UsageError(f"the model '{model}' does not search; there are {searching}.")
        forced = worker_of(model)
        if forced is not None:
            if options.get("worker") not in (None, forced):
                raise UsageError(f"the model {model} is worker {forced}, not {options['worker']}.")
            options["worker"] = forced
        return options


def sources_of(kaelum: Kaelum) -> str:
    """Names the sources that a Kaelum asks, "" where it has none: another name wherever they may say something else."""
    key = kaelum.services.sources_key()
    retriever = kaelum.services.retriever
    if retriever is None or isinstance(retriever, Documents):
        return key or ""
    return _retrievers.setdefault(retriever, uuid4().hex)


def check_arguments(given: Mapping[str, Any], known: Collection[str] = CALL) -> None:
    """Raise `UsageError` for an argument that is not among the `known`."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            raise UsageError(
                f"unknown option '{name}'" + (f"; did you mean '{near[0]}'?" if near else f"; known: {sorted(known)}.")
            )
