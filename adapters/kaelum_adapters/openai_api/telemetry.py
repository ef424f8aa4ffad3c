"""Prometheus metrics of the server, in vLLM's shapes under `kaelum:`; what each means is in docs/observability.md.

No label comes from a client: names of models, workers, reasons and errors are those of the code, others are "other".
A run is counted once, when it ends: with `Finished` as a success, with an error or by the client's leaving as a
failure. A failed run adds no tokens, for what it generated is not known, and no time from end to end.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter as Tally
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import aclosing, contextmanager
from importlib.metadata import version
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from kaelum_adapters.openai_api.exchange import Ask, Called, Finished, Piece, RunEvent, Runner, Started
from kaelum_graph.answer import Answer
from kaelum_graph.errors import KaelumError
from kaelum_graph.types import Tool, ToolCall
from kaelum_graph.workers import all_workers

if TYPE_CHECKING:
    from kaelum_flow.facade import Kaelum

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800)
"""From a cached answer to a search of half an hour."""
HTTP_SECONDS = (0.001, 0.005, *SECONDS)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
TOKENS = (1, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
SMALL_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHARES = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.9, 0.95, 0.99, 1.0)

STORED = {
    "episodes": "Answers kept in the episode store.",
    "feedback": "Ratings kept.",
    "cache_entries": "Answers that may be served again.",
    "measurements": "Episodes whose checks measured something to learn from.",
}
FEEDBACK_SOURCES = frozenset({"api", "langsmith", "openai"})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"


class Telemetry:
    """The metrics of one server, in a registry of their own.

    `kaelum` is asked at each scrape for what is stored and learned; `waiting` says how many requests are queued.
    """

    def __init__(self, *, kaelum: Kaelum | None = None, waiting: Callable[[], int] | None = None) -> None:
        self.registry = CollectorRegistry()
        self._models = {"kaelum", "kaelum-direct", *(f"kaelum-{name}" for name in all_workers())}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"kaelum:{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"kaelum:{name}", text, labels, buckets=buckets, registry=self.registry)

        by_model = "model_name"
        self._running = Gauge("kaelum:num_requests_running", "Requests being answered.", registry=self.registry)
        queue = Gauge("kaelum:num_requests_waiting", "Requests waiting for a place.", registry=self.registry)
        queue.set_function(waiting or (lambda: 0))
        self._first_token = histogram(
            "time_to_first_token_seconds", "Seconds to the answer's first text or tool call.", SECONDS, by_model
        )
        self._latency = histogram("e2e_request_latency_seconds", "Seconds from start to end.", SECONDS, by_model)
        self._per_token = histogram(
            "request_time_per_output_token_seconds",
            "Seconds of the whole request by generated tokens, discarded ones among them.",
            TOKEN_SECONDS,
            by_model,
        )
        self._prompt_tokens = counter("prompt_tokens", "Prompt tokens, as the replies state them.", by_model)
        self._cached_tokens = counter("prompt_tokens_cached", "Those of them that were in a prefix cache.", by_model)
        self._generated_tokens = counter("generation_tokens", "Tokens generated, shown or not.", by_model)
        self._discarded_tokens = counter("tokens_discarded", "Tokens generated and not shown.", by_model)
        self._prompt_size = histogram("request_prompt_tokens", "Prompt tokens of a request.", TOKENS, by_model)
        self._generated_size = histogram("request_generation_tokens", "Tokens generated for it.", TOKENS, by_model)
        self._asked_n = histogram("request_params_n", "The parameter n.", SMALL_COUNTS[:5], by_model)
        self._asked_tokens = histogram("request_params_max_tokens", "The parameter max_tokens.", TOKENS, by_model)
        self._successes = counter("request_success", "Requests answered.", by_model, "finished_reason")
        self._failures = counter("request_failure", "Requests not answered, by error.", by_model, "error")
        self._calls = counter("calls", "Tool calls returned, by whether they are well formed.", "valid")
        self._routes = counter("route", "Searches by the worker the router preferred.", "worker")
        self._caches = counter("cache", "Queries by what the answer cache did.", "state")
        self._waves = counter("waves", "Waves of rollouts.")
        self._rollouts = counter("rollouts", "Rollouts.")
        self._rollouts_each = histogram("rollouts_per_request", "Rollouts of a search.", SMALL_COUNTS)
        self._stops = counter("search_stop", "Searches by what ended them.", "reason")
        self._statuses = counter("answer_status", "Answers by what speaks for them.", "status")
        self._confidence = histogram("answer_confidence", "P(correct) of an answer.", SHARES)
        self._evidence = counter("evidence", "Votes of the checks on rollouts.", "tier", "outcome")
        self._operators = counter("operators", "Rollouts by search operator.", "operator")
        self._feedback = counter("feedback", "Ratings taken by this process, by the door they came in.", "source")
        self._http = counter("http_requests", "HTTP requests.", "method", "route", "status")
        self._http_seconds = histogram("http_request_seconds", "Seconds to the last byte.", HTTP_SECONDS, "route")
        ProcessCollector(registry=self.registry)
        self._fingerprint = ""
        self.registry.register(cast("Any", _State(kaelum, fingerprint=lambda: self._fingerprint)))

    @contextmanager
    def watch(self, ask: Ask) -> Generator[Watch]:
        """Counts one run of `ask`: give each event to the `Watch`."""
        model = ask.model if ask.model in self._models else OTHER
        self._asked_n.labels(model).observe(ask.n)
        if ask.max_tokens is not None:
            self._asked_tokens.labels(model).observe(ask.max_tokens)
        watch = Watch(self, ask, model)
        self._running.inc()
        try:
            yield watch
        except BaseException as error:
            watch.failed(error_name(error))
            raise
        else:
            watch.failed("incomplete")
        finally:
            self._running.dec()

    def rated(self, source: str) -> None:
        """Counts one rating that was kept; `source` is the front it came through."""
        self._feedback.labels(source if source in FEEDBACK_SOURCES else OTHER).inc()

    def served(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one HTTP request. `route` is the template of its path, never the path."""
        self._http.labels(method if method in METHODS else OTHER, route, str(status)).inc()
        self._http_seconds.labels(route).observe(seconds)

    def _first(self, model: str, seconds: float) -> None:
        self._first_token.labels(model).observe(seconds)

    def _failed(self, model: str, error: str) -> None:
        self._failures.labels(model, error).inc()

    def _finished(self, model: str, ask: Ask, done: Finished, seconds: float) -> None:
        usage = done.usage
        self._successes.labels(model, done.replies[0].finish if done.replies else OTHER).inc()
        self._latency.labels(model).observe(seconds)
        self._prompt_tokens.labels(model).inc(usage.prompt_tokens)
        self._cached_tokens.labels(model).inc(usage.cached_tokens)
        self._generated_tokens.labels(model).inc(usage.completion_tokens)
        self._discarded_tokens.labels(model).inc(usage.reasoning_tokens)
        self._prompt_size.labels(model).observe(usage.prompt_tokens)
        self._generated_size.labels(model).observe(usage.completion_tokens)
        if usage.completion_tokens:
            self._per_token.labels(model).observe(seconds / usage.completion_tokens)
        for reply in done.replies:
            for call in reply.calls:
                self._calls.labels(str(well_formed(call, ask.tools)).lower()).inc()
        if done.answer is not None:
            self._answered(done.answer)

    def _answered(self, answer: Answer) -> None:
        self._caches.labels(answer.cache).inc()
        self._stops.labels(answer.stop_reason).inc()
        self._statuses.labels(answer.status).inc()
        self._confidence.observe(answer.confidence)
        self._waves.inc(answer.cost.waves)
        self._rollouts.inc(answer.cost.rollouts)
        if answer.cache == "hit":  # its route and votes were counted when they were made
            return
        self._rollouts_each.observe(answer.cost.rollouts)
        if (preferred := preferred_worker(answer)) is not None:
            self._routes.labels(preferred).inc()
        rollouts: list[dict[str, Any]] = (answer.trace or {}).get("rollouts", [])
        for operator, count in Tally(rollout["operator"] for rollout in rollouts).items():
            self._operators.labels(operator).inc(count)
        votes = Tally((str(vote["tier"]), vote["outcome"]) for rollout in rollouts for vote in rollout["evidence"])
        for labels, count in votes.items():
            self._evidence.labels(*labels).inc(count)


class Watch:
    """One run that is being counted."""

    def __init__(self, telemetry: Telemetry, ask: Ask, model: str) -> None:
        self._telemetry = telemetry
        self._ask = ask
        self._model = model
        self._began = perf_counter()
        self._first_seen = False
        self._over = False

    def event(self, event: RunEvent) -> None:
        """Takes in the run's next event."""
        seconds = perf_counter() - self._began
        if not self._first_seen and isinstance(event, (Piece, Called, Finished)):
            self._first_seen = True
            self._telemetry._first(self._model, seconds)
        if isinstance(event, Started):
            self._telemetry._fingerprint = event.system_fingerprint
        if isinstance(event, Finished) and not self._over:
            self._over = True
            self._telemetry._finished(self._model, self._ask, event, seconds)

    def failed(self, error: str) -> None:
        """The run ended with `error`; means nothing once it has finished."""
        if not self._over:
            self._over = True
            self._telemetry._failed(self._model, error)


class ObservedRunner:
    """A `Runner` that counts what another one does."""

    def __init__(self, runner: Runner, telemetry: Telemetry) -> None:
        self._runner = runner
        self._telemetry = telemetry

    async def run(self, ask: Ask) -> AsyncGenerator[RunEvent]:
        """The events of the inner runner, as they are."""
        with self._telemetry.watch(ask) as watch:
            async with aclosing(cast("AsyncGenerator[RunEvent]", self._runner.run(ask))) as events:
                async for event in events:
                    watch.event(event)
                    yield event


def preferred_worker(answer: Answer) -> str | None:
    """The worker that the router thought best; None where it was not asked, as for tool calls."""
    return max(answer.route, key=lambda name: answer.route[name], default=None)


def well_formed(call: ToolCall, tools: Iterable[Tool]) -> bool:
    """Whether a call names one of the tools and its arguments are a JSON object."""
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        return False
    return isinstance(arguments, dict) and any(tool.name == call.name for tool in tools)


def error_name(error: BaseException) -> str:
    """A label for what ended a run: the error's class, or "cancelled" where the client left or the server stopped."""
    return "cancelled" if isinstance(error, (GeneratorExit, asyncio.CancelledError)) else type(error).__name__


class _State:
    """Collects at scrape time what is stored and learned. `fingerprint` is that of the newest run."""

    def __init__(self, kaelum: Kaelum | None, *, fingerprint: Callable[[], str]) -> None:
        self._kaelum = kaelum
        self._fingerprint = fingerprint

    def describe(self) -> Iterable[Metric]:
        """Nothing: without it, registering would open the store."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The families. A store that can't be read is told by `store_readable`, and what is in it is left out."""
        yield InfoMetricFamily("kaelum:build", "Version of Kaelum.", {"version": version("kaelum-graph")})
        if state := self._fingerprint():
            yield InfoMetricFamily(
                "kaelum:learned_state", "The learned state that the newest run used.", {"version": state}
            )
        kaelum = self._kaelum
        if kaelum is None:
            return
        # Which model is the default may have to be asked of a hub, so the name is only told once it is known.
        model = kaelum.settings.model or kaelum.services.known_model_name
        if model:
            yield InfoMetricFamily("kaelum:model", "The model behind the search.", {"name": model})
        try:
            kept = kaelum.metrics()
            searched = kaelum.services.learner_status is not None
            services = kaelum.services
            weight = services.prm_weight() if searched else services.measurements.prm_weight() if model else None
        except (KaelumError, sqlite3.Error):
            yield GaugeMetricFamily("kaelum:store_readable", "Whether the episode store can be read.", 0)
            return
        yield GaugeMetricFamily("kaelum:store_readable", "Whether the episode store can be read.", 1)
        for table, text in STORED.items():
            yield GaugeMetricFamily(f"kaelum:stored_{table}", text, kept[table])
        if weight is not None:
            yield GaugeMetricFamily("kaelum:prm_weight", "Weight of the reward model in the search, 0 to 1.", weight)
        yield from _in_use(kaelum)


def _in_use(kaelum: Kaelum) -> Iterable[Metric]:
    """The learner and the shared batch; nothing before the first search."""
    if (status := kaelum.services.learner_status) is not None:
        up = float(status.partition(",")[0] in ("learning", "following", "starting"))
        yield GaugeMetricFamily("kaelum:learner_up", "Whether what is answered is learned from, here or elsewhere.", up)
    if (use := kaelum.services.slot_use) is not None:
        places = GaugeMetricFamily("kaelum:slots", "Places in the model's batch.", labels=["state"])
        places.add_metric(["used"], use.used)
        places.add_metric(["free"], use.total - use.used)
        yield places
        yield GaugeMetricFamily("kaelum:slots_waiting", "Searches that wait for places.", use.waiting)
        yield CounterMetricFamily("kaelum:slot_grants", "Waves that were given places.", use.grants)
        yield GaugeMetricFamily(
            "kaelum:slots_longest_wait_seconds", "Longest wait for places so far.", use.longest_wait
        )
        yield GaugeMetricFamily(
            "kaelum:slots_loaded_share", "Mean share of the places in use while anyone waited.", use.loaded_share
        )
