"""A policy model behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, OpenAI itself.

What a server lacks is found out by asking, remembered, and made up for. Import this module late: it loads `openai`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError as FutureCancelled
from dataclasses import replace
from functools import cache

import httpx2
import openai

from kaelum_graph.errors import ConfigError, ModelError, UpstreamError
from kaelum_graph.models.background_loop import BackgroundLoop
from kaelum_graph.models.base import (
    CancelToken,
    Capabilities,
    Generation,
    GenerationRequest,
    OnDelta,
    PolicyModel,
)
from kaelum_graph.models.openai_chat import ChatEndpoint, Patience
from kaelum_graph.models.openai_discovery import Discovery
from kaelum_graph.models.openai_wire import display_url, normalize_base_url
from kaelum_graph.models.remote_call import Call, Outcome, conclude, run_call
from kaelum_graph.models.remote_sample import estimate_prompt_tokens, plausible_prompt_tokens
from kaelum_graph.models.upstream_errors import Server
from kaelum_graph.types import Message

DISCOVERY_SECONDS = 5.0
NATIVE_OWNERS = ("vllm", "sglang")

log = logging.getLogger(__name__)


class OpenAIPolicyModel(PolicyModel):
    """Generates on one server. Thread-safe; all requests run on one event loop, at most `max_parallel` at a time.

    `base_url` may end in `/v1` or not. With `model` None the first model that the server lists is taken, and `name`
    says which. `timeout_seconds` bounds one HTTP request, `stall_seconds` the wait between two pieces of its answer,
    `connect_seconds` the making of a connection; a call's deadline comes before all of them. A request that met an
    overloaded or failing server is sent again at most `max_retries` times, `backoff_seconds` later and then twice that.

    Raises `ConfigError` for an address or a key that cannot be used, and `UpstreamError` where the model had to be
    asked for and could not be.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout_seconds: float = 600.0,
        stall_seconds: float = 60.0,
        connect_seconds: float = 5.0,
        max_parallel: int = 32,
        max_retries: int = 2,
        backoff_seconds: float = 0.5,
    ) -> None:
        self._base_url = normalize_base_url(base_url)
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ConfigError("api_key holds blanks or characters that no HTTP header can carry; expected plain ASCII.")
        self._closing = threading.Lock()
        self._closed = False
        self._client = _open_client(
            self._base_url,
            api_key,
            timeout=httpx2.Timeout(timeout_seconds, connect=connect_seconds),
            max_parallel=max_parallel,
        )
        self._discovery = Discovery(
            self._client, self._base_url, timeout_seconds=min(DISCOVERY_SECONDS, timeout_seconds)
        )
        self._endpoint = ChatEndpoint(
            self._client,
            Server(address=display_url(self._base_url), model=model or "", secrets=(api_key,) if api_key else ()),
            self._discovery,
            slots=max_parallel,
            patience=Patience(
                timeout_seconds=timeout_seconds,
                stall_seconds=stall_seconds,
                backoff_seconds=backoff_seconds,
                max_retries=max_retries,
            ),
        )
        self._introduction: asyncio.Task[None] | None = None
        self._loop = BackgroundLoop("kaelum-openai")
        self.name = model or ""
        if not model:
            try:
                self.name = self._loop.submit(self._take_first_model()).result()
            except BaseException:
                self.close()
                raise

    def __repr__(self) -> str:
        return f"OpenAIPolicyModel(base_url={display_url(self._base_url)!r}, model={self.name!r})"

    @property
    def capabilities(self) -> Capabilities:
        """What the server is known to do. Native until it refuses, except for what only a trial can show."""
        features = self._endpoint.features
        return Capabilities(
            context_tokens=features.context_tokens,
            multiple_samples=features.accepts("n"),
            logprobs=features.accepts("logprobs"),
            continuation=features.continues,
            seed=features.accepts("seed"),
            tools=features.accepts("tools"),
            shapes=features.accepts("response_format"),
        )

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        deadline: float | None = None,
        cancel: CancelToken | None = None,
        on_delta: OnDelta | None = None,
    ) -> list[Generation]:
        call = Call(deadline=deadline, cancel=cancel, on_delta=on_delta)
        with self._closing:
            self._check_open()
            future = self._loop.submit(self._generate(list(requests), call))
        try:
            return call.wait(future)
        except FutureCancelled:
            raise ModelError(f"{self!r} was closed while it generated.") from None

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """The server's own count where it has a /tokenize, else 3.5 characters a token and 4 tokens a message."""
        with self._closing:
            self._check_open()
            if self._endpoint.features.tokenize == "none":
                return estimate_prompt_tokens(messages)
            future = self._loop.submit(self._count_tokens(messages))
        try:
            return future.result()
        except FutureCancelled:
            raise ModelError(f"{self!r} was closed while it counted.") from None

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._loop.close(last=self._client.close())

    def _check_open(self) -> None:
        if self._closed:
            raise ModelError(f"{self!r} is closed.")

    async def _generate(self, requests: Sequence[GenerationRequest], call: Call) -> list[Generation]:
        outcomes = [Outcome(request, call) for request in requests]
        if requests and call.halted() is None:
            self._introduce()
        halt = await run_call(call, [self._endpoint.serve(outcome, call) for outcome in outcomes])
        return conclude(outcomes, halt)

    def _introduce(self) -> None:
        """Learn the server's kind and its window once, beside the first generation."""
        if self._introduction is None:
            self._introduction = asyncio.create_task(self._meet())

    async def _meet(self) -> None:
        features = self._endpoint.features
        listed = await self._endpoint.models()
        entry = next((model for model in listed if model.name == self.name), None)
        # llama.cpp serves its one model under any name.
        entry = entry or (listed[0] if len(listed) == 1 else None)
        if entry is not None:
            features.owner = entry.owner
        context = entry.context_tokens if entry else None
        if context is None and features.owner not in NATIVE_OWNERS:
            context = await self._discovery.served_context()
        if context is not None:
            features.context_tokens = context

    async def _take_first_model(self) -> str:
        """The name of the first model that the server lists. Raises `UpstreamError` where there is none."""
        endpoint = self._endpoint
        try:
            listed = await self._discovery.models()
        except Exception as error:
            failure = endpoint.failure(error)
            line = "; name the model to use" if failure.model_missing or not failure.lost_backend else ""
            problem = UpstreamError(f"{failure.error}{line}")
        else:
            if listed:
                name = listed[0].name
                endpoint.server = replace(endpoint.server, model=name)
                self.name = name
                others = f" of {len(listed)}" if len(listed) > 1 else ""
                log.info("%s: no model was named; using %s, the first%s", endpoint.server.address, name, others)
                endpoint.remember(listed)
                self._introduction = asyncio.create_task(self._meet())
                await self._introduction
                return name
            problem = UpstreamError(f"{endpoint.server.address} lists no model; load one there, or name one")
        raise problem

    async def _count_tokens(self, messages: Sequence[Message]) -> int:
        features = self._endpoint.features
        try:
            count, form = await self._discovery.count(messages, self.name, features.tokenize)
        except (openai.OpenAIError, UpstreamError, TimeoutError):
            return estimate_prompt_tokens(messages)
        features.tokenize = form
        return plausible_prompt_tokens(count, estimate_prompt_tokens(messages))


@cache
def _certificates() -> ssl.SSLContext:
    """The trusted certificates, read once."""
    return httpx2.create_ssl_context()


def _open_client(
    base_url: str, api_key: str | None, *, timeout: httpx2.Timeout, max_parallel: int
) -> openai.AsyncOpenAI:
    loopback = httpx2.URL(base_url).host in ("localhost", "127.0.0.1", "::1")
    http_client = httpx2.AsyncClient(
        timeout=timeout,
        limits=httpx2.Limits(max_connections=max_parallel + 4, max_keepalive_connections=max_parallel),
        follow_redirects=True,
        verify=_certificates(),
        # A proxy from the environment is for the world outside, not for a server on this machine.
        trust_env=not loopback,
    )
    # The key that the environment may hold is for OpenAI, not for whatever server this is.
    client = openai.AsyncOpenAI(base_url=base_url, api_key=api_key or "none", max_retries=0, http_client=http_client)
    client.organization = client.project = None
    return client
