"""The MCP server's tools, through the official client in this process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from kaelum_adapters import mcp_server
from kaelum_adapters.mcp_progress import SearchProgress, Step
from kaelum_adapters.mcp_server import create_mcp_server
from kaelum_graph.answer import Progress
from kaelum_graph.learning.ratings import from_person
from tests.adapters.mcp_hosts import Heard, text_of
from tests.adapters.rated_server import keep_episode
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always, cycle

BOXED = "First I subtract.\nThe answer is \\boxed{5}"
QUESTION = "Solve 3x + 5 = 20 for x."
TOOLS = {"reason", "continue_search", "feedback", "report_outcome"}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_tools_tell_what_they_do_and_what_they_give(make_kaelum: MakeKaelum, mode: str) -> None:
    async with Client(create_mcp_server(make_kaelum(always(BOXED))), mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        templates = (await client.list_resource_templates()).resource_templates
    assert set(tools) == TOOLS
    reason = tools["reason"]
    assert set(reason.input_schema["properties"]) == {"question", "effort", "worker", "deadline_seconds"}
    assert reason.input_schema["required"] == ["question"]
    assert all(field.get("description") for field in reason.input_schema["properties"].values())
    assert reason.output_schema is not None
    assert {"answer", "text", "status", "confidence", "id", "alternatives"} <= set(reason.output_schema["required"])
    for tool in tools.values():
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is (tool.name in ("reason", "continue_search"))
        assert tool.description
        assert "\n" not in tool.description
        assert "ctx" not in tool.input_schema["properties"]
    assert [template.uri_template for template in templates] == ["kaelum://answers/{id}/trace"]


async def test_reason_answers_in_both_forms_and_tells_its_progress(make_kaelum: MakeKaelum) -> None:
    heard = Heard()
    async with Client(create_mcp_server(make_kaelum(always(BOXED)))) as client:
        result = await client.call_tool("reason", {"question": QUESTION, "worker": "math"}, progress_callback=heard)
        trace = await client.read_resource(result.structured_content["trace"])  # pyright: ignore[reportOptionalSubscript]
    assert not result.is_error
    data = result.structured_content
    assert data is not None
    assert (data["answer"], data["status"], data["worker"]) == ("5", "verified", "math")
    assert data["alternatives"][0]["answer"] == "5"
    said = text_of(result)
    assert "verified" in said
    assert data["id"] in said
    assert "\\boxed" in getattr(trace.contents[0], "text")  # noqa: B009
    done = [step[0] for step in heard.steps]
    assert done == sorted(set(done)), "each report is further on than the one before"
    totals = [step[1] for step in heard.steps if step[1] is not None]
    assert totals
    assert all(step[0] <= step[1] for step in heard.steps if step[1] is not None)
    assert any(step[2].startswith("Routed to math") for step in heard.steps)
    assert any(step[2].startswith("Rollouts 4 of") and step[0] == 4 for step in heard.steps)


async def test_a_silent_search_is_told_of(make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_server, "QUIET_SECONDS", 0.05)
    heard = Heard()
    async with Client(create_mcp_server(make_kaelum(always(BOXED), seconds=0.5))) as client:
        await client.call_tool("reason", {"question": QUESTION}, progress_callback=heard)
    assert any(step[2].startswith("Still at work") for step in heard.steps)
    done = [step[0] for step in heard.steps]
    assert done == sorted(set(done))


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_cancelled_request_stops_the_search(make_kaelum: MakeKaelum, mode: str) -> None:
    # No two answers agree, so that only the budget or a cancellation ends it.
    texts = [f"The answer is \\boxed{{{number}}}" for number in range(500)]
    kaelum = make_kaelum(cycle(*texts), seconds=0.2, wave_size=4)
    heard = Heard()
    async with Client(create_mcp_server(kaelum), mode=mode) as client:
        call = asyncio.create_task(
            client.call_tool("reason", {"question": "What is it?", "effort": "max"}, progress_callback=heard)
        )
        async with asyncio.timeout(20):
            while not any(step[2].startswith("Rollouts") for step in heard.steps):
                await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.sleep(1.0)
        drawn = kaelum.services.model.drawn  # pyright: ignore[reportAttributeAccessIssue]
        await asyncio.sleep(1.0)
        assert kaelum.services.model.drawn == drawn, "nothing is sampled for whoever left"  # pyright: ignore[reportAttributeAccessIssue]
        assert drawn < 128


async def test_a_deadline_gives_the_best_answer_so_far(make_kaelum: MakeKaelum) -> None:
    texts = [f"The answer is \\boxed{{{number}}}" for number in range(500)]
    kaelum = make_kaelum(cycle(*texts), seconds=0.3, wave_size=4)
    async with Client(create_mcp_server(kaelum)) as client:
        result = await client.call_tool("reason", {"question": "Which?", "effort": "max", "deadline_seconds": 1})
    assert result.structured_content is not None
    assert result.structured_content["stop_reason"] == "deadline"
    assert "Other answers" in text_of(result)


async def test_a_search_is_taken_up_again(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED))
    async with Client(create_mcp_server(kaelum)) as client:
        first = (await client.call_tool("reason", {"question": QUESTION})).structured_content
        assert first is not None
        second = await client.call_tool("continue_search", {"id": first["id"], "rollouts": 4})
    assert second.structured_content is not None
    assert second.structured_content["id"] != first["id"]
    assert second.structured_content["answer"] == "5"


async def test_feedback_is_kept_as_said_by_whom(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED))
    episode = keep_episode(kaelum)
    async with Client(create_mcp_server(kaelum)) as client:
        told = [
            await client.call_tool("feedback", {"id": episode, **said})
            for said in (
                {"score": 0.2, "comment": "I doubt it"},
                {"score": 0.2, "comment": "I doubt it"},
                {"score": 0.9},
                {"right_answer": "[4]", "worker": "math", "said_by": "user"},
            )
        ]
    assert not any(result.is_error for result in told), [text_of(result) for result in told]
    assert [result.structured_content["changed"] for result in told if result.structured_content] == [
        True,
        False,
        True,
        True,
    ]
    agent, user = kaelum.services.storage.list_feedback(limit=10)
    said_last = (agent.source, agent.score, agent.comment)
    assert said_last == ("mcp:model", 0.9, None), "what is said later takes the place of all that was said"
    assert not from_person(agent), "an agent's opinion is nobody's label"
    assert (user.source, user.correction, user.worker) == ("mcp", "[4]", "math")
    assert from_person(user)


async def test_an_outcome_is_kept_as_one(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED))
    episode = keep_episode(kaelum)
    async with Client(create_mcp_server(kaelum)) as client:
        changed = [
            (await client.call_tool("report_outcome", {"id": episode, "score": score})).structured_content
            for score in (1, 1, 0)
        ]
    assert [found["changed"] for found in changed if found] == [True, False, True]
    (kept,) = kaelum.services.storage.list_feedback(limit=10)
    assert (kept.source, kept.score) == ("outcome", 0)


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("reason", {}, "question: field required."),
        ("reason", {"question": "  "}, "the query is empty."),
        ("reason", {"question": QUESTION, "efort": "low"}, "efort: unknown argument; known: question, effort"),
        ("reason", {"question": QUESTION, "effort": "hard"}, "effort: input should be 'low', 'medium'"),
        ("reason", {"question": QUESTION, "deadline_seconds": 0}, "deadline_seconds: input should be greater than 0."),
        ("feedback", {"id": "gone", "score": 1}, "feedback for 'gone': no such episode."),
        ("feedback", {"id": "gone"}, "feedback says nothing"),
        ("feedback", {"id": "gone", "score": 2}, "score: input should be less than or equal to 1."),
        ("report_outcome", {"id": "gone", "score": 1}, "no such episode."),
        ("continue_search", {"id": "gone"}, "no such episode"),
        ("raeson", {"question": QUESTION}, "Unknown tool: raeson"),
    ],
)
async def test_a_mistake_is_one_clear_line(
    make_kaelum: MakeKaelum, tool: str, arguments: dict[str, Any], told: str
) -> None:
    async with Client(create_mcp_server(make_kaelum(always(BOXED)))) as client:
        result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert told in text_of(result)
    assert "\n" not in text_of(result)


async def test_what_breaks_is_not_told_to_strangers(make_kaelum: MakeKaelum, caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: object, k: int) -> str:
        raise RuntimeError("a secret path")

    async with Client(create_mcp_server(make_kaelum(broken))) as client:
        result = await client.call_tool("reason", {"question": QUESTION})
    assert result.is_error
    assert "secret" not in text_of(result)
    assert "a secret path" in caplog.text


async def test_an_unknown_trace_is_not_found(make_kaelum: MakeKaelum) -> None:
    async with Client(create_mcp_server(make_kaelum(always(BOXED)))) as client:
        with pytest.raises(MCPError, match=r"episode.*gone"):
            await client.read_resource("kaelum://answers/gone/trace")


def test_progress_never_stands_still() -> None:
    progress = SearchProgress()
    wave = {"id": "x", "wave": 1, "leader": "5", "share": 1.0, "tokens": 9}
    events = [
        None,
        Progress(stage="route", data={"worker": "math", "probabilities": {"math": 1.0}, "rollouts": 8, "depth": 3}),
        Progress(stage="wave", data={**wave, "rollouts": 8, "budget": 8}),
        Progress(stage="verify", data={"status": "verified", "confidence": 0.9, "reason": ""}),
    ]
    steps = [step for event in events if isinstance(step := progress.about(event), Step)]
    assert [(step.done, step.total) for step in steps] == [
        (0.125, None),
        (0.234375, 8),
        (8.0, 8),
        (8.125, 8.125),
    ]
