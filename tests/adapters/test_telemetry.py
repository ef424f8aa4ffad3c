"""What is counted, when, and that nothing else becomes a label."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from kaelum_adapters.openai_api.exchange import Ask, Piece, RunEvent, Started, Thought
from kaelum_adapters.openai_api.telemetry import ObservedRunner, Telemetry
from kaelum_flow.facade import Kaelum
from kaelum_graph.answer import Cost
from kaelum_graph.config import Settings
from kaelum_graph.errors import ContextOverflow, StorageError, UpstreamError
from kaelum_graph.types import Tool, ToolCall, WorkerName
from tests.adapters.scripted_runner import QUESTION, ScriptedRunner, answer, ask, finished, started, whole_run
from tests.graphs.conftest import MakeKaelum

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(telemetry: Telemetry) -> Series:
    return parsed(generate_latest(telemetry.registry).decode())


def parsed(text: str) -> Series:
    """All samples, by name and sorted labels, as Prometheus' own parser reads them."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def value(series: Series, name: str, **labels: str) -> float | None:
    return series.get((f"kaelum:{name}", tuple(sorted(labels.items()))))


async def run(telemetry: Telemetry, events: list[RunEvent | BaseException | float], what: Ask | None = None) -> None:
    async for _ in ObservedRunner(ScriptedRunner(events), telemetry).run(what or ask()):
        pass


async def test_a_run_that_ends_well_is_counted_once() -> None:
    telemetry = Telemetry()
    seen = [event async for event in ObservedRunner(ScriptedRunner(whole_run(answer())), telemetry).run(ask(n=2))]
    assert seen == whole_run(answer())  # handed on untouched
    series = scrape(telemetry)
    model = {"model_name": "kaelum"}
    expected = {
        "prompt_tokens_total": 100,
        "prompt_tokens_cached_total": 32,
        "generation_tokens_total": 60,
        "tokens_discarded_total": 50,
        "request_prompt_tokens_sum": 100,
        "request_generation_tokens_sum": 60,
        "e2e_request_latency_seconds_count": 1,
        "time_to_first_token_seconds_count": 1,
        "request_time_per_output_token_seconds_count": 1,
        "request_params_n_sum": 2,
    }
    assert {name: value(series, name, **model) for name in expected} == expected
    assert value(series, "request_success_total", finished_reason="stop", **model) == 1
    assert value(series, "request_params_max_tokens_count", **model) is None  # it was not given
    assert value(series, "route_total", worker="math") == 1  # what the router preferred, not who won
    assert value(series, "cache_total", state="miss") == 1
    assert value(series, "waves_total") == 2
    assert value(series, "rollouts_total") == 6
    assert value(series, "rollouts_per_request_sum") == 6
    assert value(series, "search_stop_total", reason="verified") == 1
    assert value(series, "answer_status_total", status="verified") == 1
    assert value(series, "answer_confidence_bucket", le="0.95") == 1
    assert value(series, "answer_confidence_bucket", le="0.9") == 0
    assert value(series, "operators_total", operator="sample") == 4
    assert value(series, "operators_total", operator="refine") == 1
    assert value(series, "evidence_total", tier="V", outcome="pass") == 4
    assert value(series, "evidence_total", tier="V", outcome="fail") == 1
    assert value(series, "evidence_total", tier="X", outcome="unscored") == 1
    assert value(series, "num_requests_running") == 0
    assert not [key for key in series if key[0] == "kaelum:request_failure_total"]


async def test_time_to_the_first_token_is_that_of_the_answer_not_of_a_thought() -> None:
    telemetry = Telemetry()
    await run(telemetry, [started(), Thought(text="…"), 0.12, Piece(text="4"), 0.06, finished(answer())])
    series = scrape(telemetry)
    first = value(series, "time_to_first_token_seconds_sum", model_name="kaelum") or 0
    whole = value(series, "e2e_request_latency_seconds_sum", model_name="kaelum") or 0
    assert 0.1 < first < whole - 0.04
    each = value(series, "request_time_per_output_token_seconds_sum", model_name="kaelum")
    assert each == pytest.approx(whole / 60, rel=1e-3)


async def test_an_answer_that_comes_all_at_once_has_a_first_token_too() -> None:
    telemetry = Telemetry()
    await run(telemetry, [started(), finished(None)])
    series = scrape(telemetry)
    assert value(series, "time_to_first_token_seconds_count", model_name="kaelum") == 1
    assert value(series, "cache_total", state="miss") is None  # no search, so nothing of one


async def test_a_cache_hit_counts_no_search_again() -> None:
    telemetry = Telemetry()
    await run(telemetry, list(whole_run(answer(cache="hit", stop_reason="cache", cost=Cost()))))
    series = scrape(telemetry)
    assert value(series, "cache_total", state="hit") == 1
    assert value(series, "search_stop_total", reason="cache") == 1
    assert value(series, "waves_total") == value(series, "rollouts_total") == 0
    names = {name for name, _ in series}
    assert not names & {"kaelum:route_total", "kaelum:operators_total", "kaelum:evidence_total"}


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ContextOverflow(limit_tokens=10, prompt_tokens=20), "ContextOverflow"),
        (UpstreamError(f"the server said: {QUESTION}"), "UpstreamError"),
        (ValueError("a bug"), "ValueError"),
    ],
)
async def test_an_error_is_a_failure_and_goes_on_to_the_caller(error: Exception, name: str) -> None:
    telemetry = Telemetry()
    with pytest.raises(type(error)):
        await run(telemetry, [started(), Piece(text="4"), error])
    series = scrape(telemetry)
    assert value(series, "request_failure_total", model_name="kaelum", error=name) == 1
    assert value(series, "time_to_first_token_seconds_count", model_name="kaelum") == 1  # there had been one
    assert value(series, "num_requests_running") == 0
    names = {name for name, _ in series}
    assert "kaelum:request_success_total" not in names
    assert "kaelum:e2e_request_latency_seconds_count" not in names


async def test_a_client_that_leaves_is_cancelled_and_the_inner_run_closed() -> None:
    telemetry, inner = Telemetry(), ScriptedRunner(whole_run(answer()))
    async with aclosing(ObservedRunner(inner, telemetry).run(ask())) as events:
        await anext(events)
        assert value(scrape(telemetry), "num_requests_running") == 1
    assert inner.closed
    series = scrape(telemetry)
    assert value(series, "request_failure_total", model_name="kaelum", error="cancelled") == 1
    assert value(series, "num_requests_running") == 0
    assert value(series, "generation_tokens_total", model_name="kaelum") is None


async def test_a_cancelled_task_counts_as_cancelled() -> None:
    telemetry = Telemetry()
    task = asyncio.create_task(run(telemetry, [started(), 30.0]))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert value(scrape(telemetry), "request_failure_total", model_name="kaelum", error="cancelled") == 1


async def test_a_client_that_leaves_after_the_answer_was_served() -> None:
    telemetry = Telemetry()
    async with aclosing(ObservedRunner(ScriptedRunner(whole_run(answer())), telemetry).run(ask())) as events:
        for _ in whole_run():
            await anext(events)
    series = scrape(telemetry)
    assert value(series, "request_success_total", model_name="kaelum", finished_reason="stop") == 1
    assert "kaelum:request_failure_total" not in {name for name, _ in series}


async def test_a_run_without_an_end_is_incomplete() -> None:
    telemetry = Telemetry()
    await run(telemetry, [started()])
    assert value(scrape(telemetry), "request_failure_total", model_name="kaelum", error="incomplete") == 1


async def test_the_learned_state_is_that_of_the_newest_run() -> None:
    telemetry = Telemetry()
    assert "kaelum:learned_state_info" not in {name for name, _ in scrape(telemetry)}
    for state in ("state-0", "state-1"):
        begun = Started(id="ep", created=1, model="kaelum", system_fingerprint=state)
        await run(telemetry, [begun, finished(answer())])
    assert [dict(labels) for name, labels in scrape(telemetry) if name == "kaelum:learned_state_info"] == [
        {"version": "state-1"}
    ]


async def test_an_answer_that_calls_tools_was_not_routed() -> None:
    telemetry = Telemetry()
    await run(telemetry, list(whole_run(answer(route={}, worker=WorkerName("call"), trace=None))))
    series = scrape(telemetry)
    assert value(series, "rollouts_total") == 6
    assert not {"kaelum:route_total", "kaelum:operators_total"} & {name for name, _ in series}


async def test_calls_are_counted_by_whether_they_are_well_formed() -> None:
    telemetry = Telemetry()
    calls = (
        ToolCall("1", "weather", '{"city": "Oslo"}'),
        ToolCall("2", "weather", "[1]"),
        ToolCall("3", "weather", '{"city"'),
        ToolCall("4", "other", "{}"),
    )
    await run(telemetry, list(whole_run(answer(), calls=calls)), ask(tools=(Tool(name="weather"),)))
    series = scrape(telemetry)
    assert value(series, "calls_total", valid="true") == 1
    assert value(series, "calls_total", valid="false") == 3
    assert value(series, "request_success_total", model_name="kaelum", finished_reason="tool_calls") == 1


async def test_no_label_comes_from_a_client() -> None:
    telemetry = Telemetry()
    for index in range(50):
        await run(telemetry, list(whole_run()), ask(f"model-{index}\n{QUESTION}"))
        telemetry.served(method=f"M{index}", route="/v1/models", status=200, seconds=0.01)
    await run(telemetry, list(whole_run()), ask("kaelum-math"))
    series = scrape(telemetry)
    models = {dict(labels)["model_name"] for _, labels in series if "model_name" in dict(labels)}
    methods = {dict(labels)["method"] for _, labels in series if "method" in dict(labels)}
    assert models == {"other", "kaelum-math"}
    assert methods == {"other"}
    assert value(series, "http_requests_total", method="other", route="/v1/models", status="200") == 50
    assert "secret" not in generate_latest(telemetry.registry).decode()


def test_waiting_requests_are_asked_for_at_each_scrape() -> None:
    waiting = 3
    telemetry = Telemetry(waiting=lambda: waiting)
    assert value(scrape(telemetry), "num_requests_waiting") == 3
    waiting = 1
    assert value(scrape(telemetry), "num_requests_waiting") == 1


def test_two_servers_in_a_process_count_apart() -> None:
    one, other = Telemetry(), Telemetry()
    one.rated("api")
    one.rated("what a client wrote")
    assert value(scrape(one), "feedback_total", source="api") == 1
    assert value(scrape(one), "feedback_total", source="other") == 1
    assert value(scrape(other), "feedback_total", source="api") is None
    assert ("process_resident_memory_bytes", ()) in scrape(one)


def test_what_is_stored_and_learned_is_told(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: "2 + 2 = 4\n\\boxed{4}")
    telemetry = Telemetry(kaelum=kaelum)
    assert value(scrape(telemetry), "stored_episodes") == 0
    made = kaelum.ask("What is 2 + 2?", sims=2)
    kaelum.feedback(made.id, score=1.0)
    series = scrape(telemetry)
    assert value(series, "stored_episodes") == 1
    assert value(series, "stored_feedback") == 1
    assert value(series, "store_readable") == 1
    assert 0 <= (value(series, "prm_weight") or 0) <= 1
    assert value(series, "learner_up") == 1
    assert ("kaelum:slots_waiting", ()) not in series, "a scripted model's batch has no known size"
    assert [dict(labels) for name, labels in series if name == "kaelum:model_info"] == [
        {"name": kaelum.services.model_name}
    ]


def test_how_the_batch_is_shared_is_told(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: "2 + 2 = 4\n\\boxed{4}", slots=8)
    telemetry = Telemetry(kaelum=kaelum)
    assert value(scrape(telemetry), "slots", state="free") is None
    kaelum.ask("What is 2 + 2?", sims=2)
    series = scrape(telemetry)
    assert value(series, "slots", state="free") == 8
    assert value(series, "slots", state="used") == 0
    assert value(series, "slot_grants_total") == 1


def test_a_store_that_cannot_be_read_costs_its_own_series_alone() -> None:
    class Broken(Kaelum):
        def metrics(self, *, tenant: str | None = None) -> dict[str, float]:
            raise StorageError("the disk is gone")

    series = scrape(Telemetry(kaelum=Broken(Settings())))
    assert value(series, "store_readable") == 0
    assert value(series, "num_requests_running") == 0
    assert value(series, "stored_episodes") is None
