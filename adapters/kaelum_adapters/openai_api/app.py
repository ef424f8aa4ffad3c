"""The whole server as an ASGI application."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware import Middleware

from kaelum_adapters.openai_api import (
    api_page,
    chat_routes,
    completions_routes,
    embeddings_routes,
    feedback_routes,
    health_routes,
    langsmith_routes,
    metrics_routes,
    models_routes,
    responses_routes,
)
from kaelum_adapters.openai_api.admission import Admission, KeyLimits
from kaelum_adapters.openai_api.body_limits import BodyLimits
from kaelum_adapters.openai_api.completion_store import CompletionStore
from kaelum_adapters.openai_api.deadline import TimelyRunner
from kaelum_adapters.openai_api.drain import Drain
from kaelum_adapters.openai_api.embeddings import Embedder
from kaelum_adapters.openai_api.errors import install_error_handlers
from kaelum_adapters.openai_api.exchange import Runner
from kaelum_adapters.openai_api.failures import LastResort
from kaelum_adapters.openai_api.keys import KeyBook
from kaelum_adapters.openai_api.options import ServerOptions, check_access
from kaelum_adapters.openai_api.readiness import Readiness
from kaelum_adapters.openai_api.request_id import RequestIds
from kaelum_adapters.openai_api.request_log import NotedRunner, RequestLog
from kaelum_adapters.openai_api.responses_store import ResponsesStore
from kaelum_adapters.openai_api.retries import SharedRunner
from kaelum_adapters.openai_api.runner import ModelRunner
from kaelum_adapters.openai_api.server import Server
from kaelum_adapters.openai_api.telemetry import ObservedRunner, Telemetry
from kaelum_adapters.openai_api.tracing import TracedRunner, Tracing, start_tracing
from kaelum_adapters.openai_api.under_way import UnderWay
from kaelum_flow.facade import Kaelum
from kaelum_graph.storage import STORE_FILE

ROUTERS = (
    health_routes.router,
    metrics_routes.router,
    models_routes.router,
    chat_routes.router,
    completions_routes.router,
    responses_routes.router,
    embeddings_routes.router,
    feedback_routes.router,
    langsmith_routes.router,
    api_page.router,
)


SPARE_THREADS = 32
"""Threads beside those of the runs: for stores, keys and embeddings."""


def create_app(kaelum: Kaelum, options: ServerOptions | None = None, *, runner: Runner | None = None) -> FastAPI:
    """The application over `kaelum`, which stays the caller's to close.

    Its lifespan loads the model in the background. `runner` answers in place of the search. Raises `UsageError` where
    the options would open the server to strangers.
    """
    options = options or ServerOptions()
    keys = KeyBook(kaelum.settings.data_dir)
    check_access(options, has_keys=keys.any())
    readiness = Readiness(lambda: load(kaelum))
    drain = Drain(seconds=options.drain_seconds)
    admission = Admission(
        max_running=options.max_running,
        queue_size=options.queue_size,
        deadline_seconds=options.request_deadline,
        limits_of=lambda key_id: limits_of(keys, options, key_id),
        ready=readiness.wait,
    )
    responses = ResponsesStore(kaelum.settings.data_dir / STORE_FILE)
    completions = CompletionStore(kaelum.settings.data_dir / STORE_FILE)
    telemetry = Telemetry(kaelum=kaelum, waiting=lambda: admission.waiting)
    tracing = start_tracing(os.environ)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        # Every run blocks a thread while the model works. Python's usual pool has six of them on two cores.
        pool = ThreadPoolExecutor(2 * options.max_running + SPARE_THREADS, thread_name_prefix="kaelum-run")
        asyncio.get_running_loop().set_default_executor(pool)
        readiness.start()
        try:
            yield
        finally:
            responses.close()
            completions.close()
            if tracing is not None:
                tracing.close()

    app = FastAPI(
        title="Kaelum",
        version=version("kaelum-graph"),
        description="A reasoning model that searches, behind OpenAI's API.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=api_page.ERROR_RESPONSES,
        # From the outside in. The id comes first, so that every response has one; a body is whole before its request
        # counts as under way.
        middleware=[
            Middleware(RequestIds),
            Middleware(RequestLog, form=options.log_format, telemetry=telemetry, tracing=tracing),
            Middleware(LastResort),
            Middleware(BodyLimits, options=options),
            Middleware(UnderWay, drain=drain, deadline_seconds=options.request_deadline),
        ],
    )
    app.state.server = Server(
        kaelum=kaelum,
        options=options,
        keys=keys,
        admission=admission,
        runner=_around(runner or ModelRunner(kaelum, drain=drain), kaelum, options, telemetry, tracing),
        readiness=readiness,
        drain=drain,
        completions=completions,
        responses=responses,
        embedder=Embedder(lambda: kaelum.services.encoder),
        telemetry=telemetry,
    )
    install_error_handlers(app)
    api_page.install_openapi(app)
    for router in ROUTERS:
        app.include_router(router)
    if tracing is not None:
        tracing.instrument(app)
    return app


def load(kaelum: Kaelum) -> None:
    """Bring what a query needs into memory; minutes on a machine where the model must be fetched first."""
    services = kaelum.services
    for part in ("storage", "encoder", "router", "model", "cache", "sandbox"):
        getattr(services, part)


def limits_of(keys: KeyBook, options: ServerOptions, key_id: str) -> KeyLimits:
    """A key's own limits, where it has none the server's."""
    record = keys.record(key_id) if key_id else None
    rate = record and record.requests_per_minute
    concurrent = record and record.concurrent
    return KeyLimits(
        requests_per_minute=rate or options.requests_per_minute, concurrent=concurrent or options.concurrent
    )


def _around(
    runner: Runner, kaelum: Kaelum, options: ServerOptions, telemetry: Telemetry, tracing: Tracing | None
) -> Runner:
    """From the inside out: runs are counted and traced once each; then come the requests, of which several may share
    one."""
    runner = ObservedRunner(runner, telemetry)
    if tracing is not None:
        runner = TracedRunner(runner, tracing)
    shared = SharedRunner(runner, kept=lambda tenant, name: kaelum.services.storage.has_episode(name, tenant=tenant))
    timely = TimelyRunner(shared, request_seconds=options.request_deadline, default_seconds=kaelum.settings.deadline)
    return NotedRunner(timely)
