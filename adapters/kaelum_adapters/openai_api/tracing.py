"""OpenTelemetry traces: a server span a request, in it a GenAI "chat" span a run, in that the graph's own.

The spans are written by OpenTelemetry's maintained libraries (`pip install 'kaelum-graph[otel]'`). Without them, or
where nothing says to whom spans shall go, nothing is imported and no runner is wrapped. What was asked and answered is
on no span unless OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT says so.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from kaelum_adapters.openai_api.exchange import Ask, Finished, RunEvent, Runner, Started
from kaelum_adapters.openai_api.telemetry import error_name, preferred_worker
from kaelum_graph.types import Message

if TYPE_CHECKING:
    from fastapi import FastAPI
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.util.genai.invocation import InferenceInvocation
    from opentelemetry.util.genai.types import InputMessage, MessagePart, OutputMessage

logger = logging.getLogger("kaelum.server")

SCOPE = "kaelum_adapters.openai_api"
PROVIDER = "kaelum"
UNTRACED = "/(health|ready|metrics)$"
"""What monitoring asks for every few seconds; a pattern for the path."""


def start_tracing(environ: Mapping[str, str]) -> Tracing | None:
    """Traces to where OpenTelemetry's own variables say; None where they say nothing, or the libraries are missing.

    Spans go to OTEL_EXPORTER_OTLP_ENDPOINT, or through the provider that `opentelemetry-instrument` has set up. With
    OTEL_SDK_DISABLED=true, or OTEL_TRACES_EXPORTER=none, there are none.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    try:
        provider = _provider_in_use()
        if provider is not None:
            return Tracing(provider)
        if not (environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
            return None
        if environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
            return None
        return Tracing(_exporting_provider(environ), owned=True)
    except ImportError as error:
        logger.warning("traces are off: %s is missing; pip install 'kaelum-graph[otel]'", error.name)
        return None


class Tracing:
    """Spans through `provider`; an `owned` one is flushed and ended by `close`."""

    def __init__(self, provider: TracerProvider, *, owned: bool = False) -> None:
        from opentelemetry.util.genai.completion_hook import load_completion_hook
        from opentelemetry.util.genai.handler import TelemetryHandler

        self._provider = provider
        self._owned = owned
        self._handler = TelemetryHandler(
            tracer_provider=provider,
            completion_hook=load_completion_hook(),
            instrumentation_scope_name=SCOPE,
            instrumentation_scope_version=version("kaelum-graph"),
        )
        self._graph_instrumentor = _instrument_graph(provider)

    def instrument(self, app: FastAPI) -> None:
        """Give each request of `app` a server span, the child of the client's `traceparent`. Call it before it runs."""
        try:
            from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
        except ImportError:
            return
        if getattr(app, "_is_instrumented_by_opentelemetry", False):
            return
        # A span for each chunk of a stream would be thousands.
        FastAPIInstrumentor.instrument_app(
            app, tracer_provider=self._provider, excluded_urls=UNTRACED, exclude_spans=["receive", "send"]
        )

    def start(self, ask: Ask) -> InferenceInvocation:
        """The span of one run, begun with what is asked for. It is no one's parent until it is activated."""
        span = self._handler.inference(PROVIDER, request_model=ask.model)
        span.suspend()
        span.request_choice_count = ask.n
        span.temperature, span.top_p, span.max_tokens = ask.temperature, ask.top_p, ask.max_tokens
        span.seed, span.stop_sequences = ask.seed, ask.stop or None
        span.frequency_penalty, span.presence_penalty = ask.frequency_penalty or None, ask.presence_penalty or None
        span.reasoning_level = ask.effort
        if span.should_capture_content:
            span.input_messages = [_input_message(message) for message in ask.messages]
        return span

    def trace_id(self) -> str:
        """The id of the trace that this code runs in, 32 hexadecimal digits; "" outside of one."""
        from opentelemetry.trace import format_trace_id, get_current_span

        context = get_current_span().get_span_context()
        return format_trace_id(context.trace_id) if context.is_valid else ""

    def close(self) -> None:
        """Send what is left, and stop tracing the graph."""
        if self._graph_instrumentor is not None:
            self._graph_instrumentor.uninstrument()
            self._graph_instrumentor = None
        if self._owned:
            self._provider.shutdown()


class TracedRunner:
    """A `Runner` that draws a span around each run of another one."""

    def __init__(self, runner: Runner, tracing: Tracing) -> None:
        self._runner = runner
        self._tracing = tracing

    async def run(self, ask: Ask) -> AsyncGenerator[RunEvent]:
        """The events of the inner runner, as they are."""
        span = self._tracing.start(ask)
        events = cast("AsyncGenerator[RunEvent]", self._runner.run(ask))
        try:
            async with aclosing(events):
                while True:
                    # The span is current only while the inner runner works: between two events this generator is
                    # suspended, and what its reader does then is none of this span's.
                    with span.activate():
                        event = await anext(events, None)
                    if event is None:
                        break
                    _note(span, event)
                    yield event
        except BaseException as error:
            # Once the answer is there, a reader that goes is no failure.
            if span.finish_reasons is None:
                _fail(span, error)
            raise
        finally:
            span.stop()


def _note(span: InferenceInvocation, event: RunEvent) -> None:
    """Puts on the span what an event tells of the whole run."""
    if isinstance(event, Started):
        span.response_id, span.response_model_name = event.id or None, event.model
    if not isinstance(event, Finished):
        return
    span.response_id = event.id
    span.finish_reasons = [reply.finish for reply in event.replies]
    span.input_tokens, span.output_tokens = event.usage.prompt_tokens, event.usage.completion_tokens
    span.thinking_tokens, span.cache_read_input_tokens = event.usage.reasoning_tokens, event.usage.cached_tokens
    if (answer := event.answer) is not None:
        span.attributes.update(
            {
                "kaelum.worker": answer.worker,
                "kaelum.cache": answer.cache,
                "kaelum.confidence": answer.confidence,
                "kaelum.status": answer.status,
                "kaelum.stop_reason": answer.stop_reason,
                "kaelum.rollouts": answer.cost.rollouts,
                "kaelum.waves": answer.cost.waves,
            }
        )
        if (preferred := preferred_worker(answer)) is not None:
            span.attributes["kaelum.route"] = preferred
    if span.should_capture_content:
        span.output_messages = _output_messages(event)


def _fail(span: InferenceInvocation, error: BaseException) -> None:
    from opentelemetry.util.genai.types import Error

    # An error may quote what was asked.
    message = str(error) if span.should_capture_content else None
    span.fail(Error(message=message, type=error_name(error)))


def _input_message(message: Message) -> InputMessage:
    from opentelemetry.util.genai.types import InputMessage, TextPart, ToolCallRequestPart, ToolCallResponsePart

    if message.role == "tool":
        return InputMessage(role="tool", parts=[ToolCallResponsePart(response=message.content, id=message.call_id)])
    parts: list[MessagePart] = [TextPart(content=message.content)] if message.content else []
    parts += [ToolCallRequestPart(arguments=call.arguments, name=call.name, id=call.id) for call in message.calls]
    return InputMessage(role=message.role, parts=parts)


def _output_messages(event: Finished) -> list[OutputMessage]:
    from opentelemetry.util.genai.types import OutputMessage, TextPart, ToolCallRequestPart

    messages: list[OutputMessage] = []
    for reply in event.replies:
        parts: list[MessagePart] = [TextPart(content=reply.text)] if reply.text else []
        parts += [ToolCallRequestPart(arguments=call.arguments, name=call.name, id=call.id) for call in reply.calls]
        messages.append(OutputMessage(role="assistant", parts=parts, finish_reason=reply.finish))
    return messages


def _provider_in_use() -> TracerProvider | None:
    """The process's provider, where somebody has set one up; asking imports nothing."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return None
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import get_tracer_provider

    provider = get_tracer_provider()
    return provider if isinstance(provider, TracerProvider) else None


def _exporting_provider(environ: Mapping[str, str]) -> TracerProvider:
    """A provider that sends over OTLP: by HTTP, or by gRPC where that is asked for."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    if protocol.strip() == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # pyright: ignore[reportMissingImports]
            OTLPSpanExporter,
        )
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    # What is given here wins over the environment, where the user's own name for the service may stand.
    named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create(None if named else {"service.name": "kaelum"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _instrument_graph(provider: TracerProvider) -> Any:
    """LangChain's instrumentor, switched on here; None where it is not installed or on already."""
    try:
        from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor
    except ImportError:
        return None
    instrumentor = LangChainInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        return None
    # Its own check asks for the package `langchain`, but all that it wraps is in langchain-core and langgraph.
    instrumentor.instrument(skip_dep_check=True, tracer_provider=provider)
    return instrumentor
