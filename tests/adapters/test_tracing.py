"""The spans of a run, by OpenTelemetry's own libraries into its in-memory exporter."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import aclosing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from kaelum_adapters.openai_api.exchange import Finished
from kaelum_adapters.openai_api.tracing import TracedRunner, Tracing, start_tracing
from kaelum_graph.errors import UpstreamError
from kaelum_graph.types import Message, ToolCall
from tests.adapters.scripted_runner import QUESTION, ScriptedRunner, answer, ask, finished, started, whole_run
from tests.graphs.conftest import MakeKaelum

ROOT = Path(__file__).parents[2]
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    monkeypatch.delenv(CAPTURE, raising=False)
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Generator[Tracing]:
    tracing = make_tracing(exporter)
    yield tracing
    tracing.close()


def make_tracing(exporter: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider)


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """The finished spans by name, each name once."""
    found = exporter.get_finished_spans()
    assert len({span.name for span in found}) == len(found)
    return {span.name: span for span in found}


async def test_a_run_is_a_chat_span_with_its_story(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    what = ask("kaelum-math", temperature=0.5, max_tokens=99, seed=7, n=2, stop=("END",), effort="high")
    runner = TracedRunner(ScriptedRunner(whole_run(answer())), tracing)
    assert [event async for event in runner.run(what)] == whole_run(answer())
    span = spans(exporter)["chat kaelum-math"]
    assert span.kind is SpanKind.CLIENT
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "kaelum",
        "gen_ai.request.model": "kaelum-math",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 99,
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.reasoning.level": "high",
        "gen_ai.response.model": "kaelum",
        "gen_ai.response.id": "ep-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 60,
        "gen_ai.usage.reasoning.output_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 32,
        "kaelum.worker": "code",
        "kaelum.route": "math",
        "kaelum.cache": "miss",
        "kaelum.confidence": 0.93,
        "kaelum.status": "verified",
        "kaelum.stop_reason": "verified",
        "kaelum.rollouts": 6,
        "kaelum.waves": 2,
    }
    assert span.status.status_code is StatusCode.UNSET


async def test_an_error_is_on_the_span_without_its_words(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    runner = TracedRunner(ScriptedRunner([started(), UpstreamError(f"refused: {QUESTION}")]), tracing)
    with pytest.raises(UpstreamError):
        [event async for event in runner.run(ask())]
    span = spans(exporter)["chat kaelum"]
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "UpstreamError"
    assert "secret" not in span.to_json()


async def test_a_client_that_leaves_ends_the_span(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    inner = ScriptedRunner([*whole_run(), 30.0])
    async with aclosing(TracedRunner(inner, tracing).run(ask())) as events:
        await anext(events)
    assert inner.closed
    assert (spans(exporter)["chat kaelum"].attributes or {})["error.type"] == "cancelled"
    exporter.clear()
    async with aclosing(TracedRunner(ScriptedRunner(whole_run()), tracing).run(ask())) as events:
        while not isinstance(await anext(events), Finished):
            pass
    span = spans(exporter)["chat kaelum"]
    assert span.status.status_code is StatusCode.UNSET  # it had its answer
    assert "error.type" not in (span.attributes or {})


async def test_nothing_of_the_span_leaks_between_events(tracing: Tracing) -> None:
    async with aclosing(TracedRunner(ScriptedRunner(whole_run()), tracing).run(ask())) as events:
        async for _ in events:
            assert not get_current_span().get_span_context().is_valid
            # Another task may take over the reading, as a server's cancelled one is closed by another.
            await asyncio.create_task(anext(events, None))  # pyright: ignore[reportArgumentType]
            break


async def test_content_is_there_only_where_it_is_asked_for(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CAPTURE, "SPAN_ONLY")
    tracing = make_tracing(exporter)
    call = ToolCall("call_1", "weather", '{"city": "Oslo"}')
    turns = (
        Message("system", "Be brief."),
        Message("user", QUESTION),
        Message("assistant", "", calls=(call,)),
        Message("tool", "12 degrees", call_id="call_1"),
    )
    from dataclasses import replace

    runner = TracedRunner(ScriptedRunner([started(), finished(answer(), calls=(call,))]), tracing)
    assert [event async for event in runner.run(replace(ask(), messages=turns))]
    tracing.close()
    attributes = spans(exporter)["chat kaelum"].attributes or {}
    asked, given = str(attributes["gen_ai.input.messages"]), str(attributes["gen_ai.output.messages"])
    for text in ("Be brief.", QUESTION, "call_1", "weather", "Oslo", "12 degrees"):
        assert text in asked
    assert "weather" in given
    assert "tool_call" in given


async def test_the_clients_trace_goes_on_through_the_server_into_the_graph(
    tracing: Tracing, exporter: InMemorySpanExporter, make_kaelum: MakeKaelum
) -> None:
    kaelum = make_kaelum(lambda request, k: "2 + 2 = 4\n\\boxed{4}")

    class GraphRunner(ScriptedRunner):
        async def run(self, ask: object):  # pyright: ignore
            yield started()
            yield finished(await kaelum.aask("What is 2 + 2?", sims=2))

    app, runner = FastAPI(), TracedRunner(GraphRunner([]), tracing)
    seen: list[str] = []

    @app.post("/v1/chat/completions")
    async def chat() -> str:
        seen.append(tracing.trace_id())
        return [event async for event in runner.run(ask())][-1].id  # pyright: ignore

    @app.get("/health")
    async def health() -> str:
        return "ok"

    tracing.instrument(app)
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as http:
        headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
        assert (await http.post("/v1/chat/completions", headers=headers)).json() == "ep-1"
        assert (await http.get("/health")).json() == "ok"
    found = spans(exporter)
    assert set(found) == {"POST /v1/chat/completions", "chat kaelum", "invoke_workflow kaelum"}
    assert seen == [trace_id]
    assert {f"{span.context.trace_id:032x}" for span in found.values() if span.context} == {trace_id}

    def parent(name: str) -> int | None:
        above = found[name].parent
        return above and above.span_id

    server, chat_span = found["POST /v1/chat/completions"], found["chat kaelum"]
    assert parent("POST /v1/chat/completions") == 0xB7AD6B7169203331
    assert parent("chat kaelum") == (server.context and server.context.span_id)
    assert parent("invoke_workflow kaelum") == (chat_span.context and chat_span.context.span_id)
    assert not any("2 + 2" in span.to_json() for span in found.values())


def test_a_closed_tracing_leaves_the_graph_alone(exporter: InMemorySpanExporter, make_kaelum: MakeKaelum) -> None:
    make_tracing(exporter).close()
    make_kaelum(lambda request, k: "\\boxed{4}").ask("What is 2 + 2?", sims=1)
    assert not exporter.get_finished_spans()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_an_endpoint_there_is_no_tracing(environ: dict[str, str]) -> None:
    assert start_tracing(environ) is None


async def test_spans_go_to_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            endpoint = f"http://127.0.0.1:{server.server_port}"
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            tracing = start_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
            assert tracing is not None
            assert [event async for event in TracedRunner(ScriptedRunner(whole_run()), tracing).run(ask())]
            await asyncio.to_thread(tracing.close)
        finally:
            server.shutdown()
            thread.join()
    ((path, body),) = received
    text = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
    assert path == "/v1/traces"
    assert b"chat kaelum" in text
    assert b"service.name" in text
    assert b"secret" not in text


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


def test_untraced_no_instrumentation_is_imported() -> None:
    # LangSmith, which LangGraph brings along, imports OpenTelemetry's own interfaces by itself.
    code = (
        "import sys\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from kaelum_adapters.openai_api.tracing import start_tracing\n"
        "assert start_tracing({'OTEL_EXPORTER_OTLP_ENDPOINT': ''}) is None\n"
        "started = ('opentelemetry.util.genai', 'opentelemetry.instrumentation', 'opentelemetry.exporter')\n"
        "print([name for name in sys.modules if name.startswith(started)])"
    )
    done = run_python(code)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_the_provider_of_a_surrounding_program_is_used_and_every_span_is_there_once() -> None:
    code = (
        "import sys, asyncio\n"
        f"sys.path[:0] = {[str(ROOT), *sys.path]!r}\n"
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "exporter, provider = InMemorySpanExporter(), TracerProvider()\n"
        "provider.add_span_processor(SimpleSpanProcessor(exporter))\n"
        "trace.set_tracer_provider(provider)\n"
        "import httpx2\n"
        "from fastapi import FastAPI\n"
        "from kaelum_adapters.openai_api.tracing import TracedRunner, start_tracing\n"
        "from tests.adapters.scripted_runner import ScriptedRunner, ask, whole_run\n"
        "tracing, app = start_tracing({}), FastAPI()\n"
        "@app.post('/v1/answers')\n"
        "async def answers() -> int:\n"
        "    runner = TracedRunner(ScriptedRunner(whole_run()), tracing)\n"
        "    return len([event async for event in runner.run(ask())])\n"
        "tracing.instrument(app)\n"
        "async def main():\n"
        "    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url='http://localhost') as http:\n"
        "        assert (await http.post('/v1/answers')).json() == 4\n"
        "asyncio.run(main())\n"
        "tracing.close()\n"
        "print([span.name for span in exporter.get_finished_spans()])"
    )
    done = run_python(code)
    assert (done.stdout.strip(), done.returncode) == ("['chat kaelum', 'POST /v1/answers']", 0), done.stderr


def test_an_endpoint_without_the_libraries_is_one_warning() -> None:
    code = (
        "import sys\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "sys.modules['opentelemetry'] = None\n"
        "from kaelum_adapters.openai_api.tracing import start_tracing\n"
        "assert start_tracing({'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://localhost:4318'}) is None"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert "pip install 'kaelum-graph[otel]'" in done.stderr
