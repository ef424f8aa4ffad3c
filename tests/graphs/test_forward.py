"""The forward pass around a model whose words the test chooses."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from kaelum_flow.facade import Kaelum
from kaelum_flow.forward import build_forward, mermaid
from kaelum_flow.state import current_query
from kaelum_graph.answer import Answer, Progress, TextDelta
from kaelum_graph.errors import ContextOverflow, UsageError
from kaelum_graph.models.base import CancelToken, Generation, GenerationRequest
from kaelum_graph.tree import ROOT, SearchTree
from kaelum_graph.types import Message, WorkerName
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import ScriptedModel, always, cycle

EQUATION = "Solve 3x + 5 = 20 for x."
APPLES = "Tom has some apples and gives a few of them to Ann. How many are left in the basket on the table?"


def boxed(answer: str) -> str:
    return f"First I look at what is given.\nThen I work it out.\nThe answer is \\boxed{{{answer}}}"


def model_of(kaelum: Kaelum) -> ScriptedModel:
    model = kaelum.services.model
    assert isinstance(model, ScriptedModel)
    return model


def test_every_node_of_the_design_is_drawn() -> None:
    drawing = mermaid()
    for node in ("embed", "call", "cache", "route", "verify", "reflect", "shape", "feedback", "respond"):
        assert f"{node}(" in drawing
    for node in ("select", "expand", "evaluate", "backpropagate"):
        assert f"lats\\3a{node}" in drawing or f"lats:{node}" in drawing


def test_an_answer_that_satisfies_the_question_is_verified_in_one_wave(make_kaelum: MakeKaelum) -> None:
    answer = make_kaelum(cycle(boxed("7"), boxed("5"), boxed("4"))).ask(EQUATION, worker="math", sims=16)
    assert answer.answer == "5"
    assert answer.status == "verified"
    assert answer.stop_reason == "verified"
    assert answer.cost.waves == 1
    assert any(vote.tier == "V" and vote.outcome == "pass" for vote in answer.evidence)


def test_a_plurality_wins_where_nothing_can_be_checked(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(cycle(boxed("3"), boxed("8"), boxed("3"), boxed("9")))
    answer = kaelum.ask(APPLES, worker="math", sims=8)
    assert answer.answer == "3"
    assert answer.status == "unverified"
    assert 0.15 <= answer.confidence <= 0.85
    assert answer.alternatives[0].share == pytest.approx(0.5)
    assert answer.cost.rollouts == 8


def test_agreement_ends_the_search_early(make_kaelum: MakeKaelum) -> None:
    answer = make_kaelum(always(boxed("3"))).ask(APPLES, worker="math", sims=32)
    assert answer.stop_reason == "margin"
    assert answer.cost.rollouts == 4


def test_refuted_answers_are_reflected_on_with_the_verifiers_message(make_kaelum: MakeKaelum) -> None:
    def script(request: GenerationRequest, k: int) -> str:
        told = any("3x + 5 = 20" in m.content and "7" in m.content for m in request.messages)
        return boxed("5") if k >= 4 and told else boxed("7")

    kaelum = make_kaelum(script, max_reflections=1, wave_size=8)
    events = list(kaelum.stream(EQUATION, worker="math", sims=32))
    stages = [event.stage for event in events if isinstance(event, Progress)]
    assert stages.count("reflect") == 1
    answer = events[-1]
    assert isinstance(answer, Answer)
    reflection = next(e.data["reason"] for e in events if isinstance(e, Progress) and e.stage == "reflect")
    refined = [r for r in model_of(kaelum).requests[1:] if any(reflection in m.content for m in r.messages)]
    assert refined, "the refining rollouts are told what failed"

    at = stages.index("reflect")
    before, after = (
        [event.data["rollouts"] for event in part if isinstance(event, Progress) and event.stage == "wave"]
        for part in (events[:at], events[at:])
    )
    record = kaelum.services.storage.episode(answer.id)
    assert record is not None
    tree = SearchTree.from_json(record["tree"])
    assert 0 < before[-1] < after[0], "the rollouts are counted on"
    assert [rollout.id for rollout in tree.rollouts] == list(range(answer.cost.rollouts))
    assert {rollout.candidate.answer for rollout in tree.rollouts[: before[-1]]} == {"7"}
    assert tree.nodes[ROOT].visits == len(tree.rollouts) == after[-1] > before[-1], "in the same tree"
    assert tree.worker_node(WorkerName("math")).visits == len(tree.rollouts)


def test_when_every_answer_fails_its_check_the_search_says_so(make_kaelum: MakeKaelum) -> None:
    answer = make_kaelum(always(boxed("7"))).ask(EQUATION, worker="math", sims=8)
    assert answer.status == "unsure"
    assert answer.confidence <= 0.05
    assert "Not sure" in answer.text


def test_low_confidence_gives_an_honest_not_sure(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(cycle(*(boxed(str(number)) for number in range(8))))
    answer = kaelum.ask(APPLES, worker="math", sims=8, min_confidence=0.6)
    assert answer.status == "unsure"
    assert answer.text.startswith("Not sure")


def test_no_answer_at_all_says_why(make_kaelum: MakeKaelum) -> None:
    answer = make_kaelum(always("")).ask(APPLES, worker="math", sims=4, max_reflections=0)
    assert answer.status == "unsure"
    assert answer.answer is None
    assert answer.text.startswith("No answer was reached")


def test_the_path_score_gates_what_is_not_anchored(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("3")))  # every token has log-probability -0.5: a path score of 0.61
    assert kaelum.ask(APPLES, worker="math", sims=4, prm_threshold=0.5).status == "unverified"
    assert kaelum.ask(APPLES, worker="math", sims=4, prm_threshold=0.7, cache=False).status == "unsure"


def test_a_program_is_run_and_its_output_is_the_answer(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always("```python\nprint(sum(range(11)))\n```"))
    answer = kaelum.ask("What is the sum of the numbers from 0 to 10?", worker="code", sims=4)
    assert answer.answer == "55"


def test_the_second_time_the_cache_answers(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("5")))
    first = kaelum.ask(EQUATION, worker="math")
    drawn = model_of(kaelum).drawn
    second = kaelum.ask(EQUATION, worker="math")
    assert (first.cache, second.cache) == ("miss", "hit")
    assert second.answer == "5"
    assert second.id == first.id
    assert second.cost.rollouts == 0
    assert model_of(kaelum).drawn == drawn
    assert kaelum.ask(EQUATION, worker="math", cache=False).cache == "off"
    assert kaelum.ask("Solve 3x + 5 = 23 for x.", worker="math").cache == "miss"
    assert kaelum.ask(EQUATION, worker="math", history=[Message("user", "Use base 7.")]).cache == "miss"


def test_a_doubtful_answer_is_not_cached(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(cycle(boxed("3"), boxed("4")))
    assert kaelum.ask(APPLES, worker="math", sims=4).cache == "miss"
    assert kaelum.ask(APPLES, worker="math", sims=4).cache == "miss"


def test_a_bad_rating_takes_the_answer_out_of_the_cache(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("5")))
    answer = kaelum.ask(EQUATION, worker="math")
    assert kaelum.feedback(answer.id, score=0.0, feedback_id="once")
    assert not kaelum.feedback(answer.id, score=0.0, feedback_id="once")
    assert kaelum.ask(EQUATION, worker="math").cache == "miss"


def test_feedback_is_refused_where_it_means_nothing(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("5")))
    answer = kaelum.ask(EQUATION, worker="math")
    with pytest.raises(UsageError, match="between 0 and 1"):
        kaelum.feedback(answer.id, score=1.5)
    with pytest.raises(UsageError, match="says nothing"):
        kaelum.feedback(answer.id)
    with pytest.raises(UsageError, match="plumbing"):
        kaelum.feedback(answer.id, worker="plumbing")
    with pytest.raises(UsageError, match="no such episode"):
        kaelum.feedback("no such id", score=1.0)


def test_the_episode_is_written(make_kaelum: MakeKaelum, tmp_path: Path) -> None:
    kaelum = make_kaelum(always(boxed("5")))
    answer = kaelum.ask(EQUATION, worker="math")
    record = kaelum.services.storage.episode(answer.id)
    assert record is not None
    assert record["answer"]["answer"] == "5"
    assert record["route"]["propensities"]
    assert len(record["tree"]["rollouts"]) == answer.cost.rollouts
    assert kaelum.metrics()["episodes"] == 1


def test_a_full_disk_loses_no_answer(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("5")))
    connection = kaelum.services.storage._file._writer
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
    answer = kaelum.ask(EQUATION, worker="math")
    assert answer.answer == "5"
    assert not answer.recorded
    assert "full" in answer.notices[0]


def test_streaming_gives_progress_then_text_then_the_answer(make_kaelum: MakeKaelum) -> None:
    events = list(make_kaelum(always(boxed("5"))).stream(EQUATION, worker="math"))
    stages = [event.stage if isinstance(event, Progress) else type(event).__name__ for event in events]
    assert stages[:2] == ["cache", "route"]
    assert stages[-1] == "Answer"
    assert stages.index("wave") < stages.index("verify") < stages.index("TextDelta")
    answer = events[-1]
    assert isinstance(answer, Answer)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == answer.text


async def test_async_and_concurrent_queries(make_kaelum: MakeKaelum) -> None:
    inside, most, lock, together = 0, 0, threading.Lock(), threading.Event()

    def script(request: GenerationRequest, k: int) -> str:
        """5, said by the first call only once a second one is under way, or will never be."""
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if inside > 1:
                together.set()
        if not together.wait(timeout=60):
            together.set()
        with lock:
            inside -= 1
        return boxed("5")

    kaelum = make_kaelum(script)
    answers = await asyncio.gather(*(kaelum.aask(f"Solve {n}x = {5 * n} for x.", worker="math") for n in range(2, 6)))
    assert [answer.answer for answer in answers] == ["5"] * 4
    assert all(answer.status == "verified" for answer in answers)
    assert most > 1, "no call of the model began while another was under way"


def test_cancelling_returns_the_best_so_far(make_kaelum: MakeKaelum) -> None:
    token = CancelToken()
    kaelum = make_kaelum(cycle(boxed("3"), boxed("4"), boxed("3")), seconds=0.2, wave_size=4)
    threading.Timer(0.5, token.cancel).start()
    answer = kaelum.ask(APPLES, worker="math", sims=256, cancel=token)
    assert answer.stop_reason == "cancelled"
    assert answer.answer == "3"
    assert answer.cost.rollouts < 256


def test_a_deadline_returns_the_best_so_far(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(cycle(boxed("3"), boxed("4"), boxed("3")), seconds=0.2, wave_size=4)
    answer = kaelum.ask(APPLES, worker="math", sims=256, deadline=0.7)
    assert answer.stop_reason == "deadline"
    assert answer.answer == "3"
    assert answer.cost.seconds < 256 / 4 * 0.2, "the whole search would take longer"


def test_a_token_budget_ends_the_search(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(cycle(boxed("3"), boxed("4")), wave_size=4)
    answer = kaelum.ask(APPLES, worker="math", sims=256, token_budget=100)
    assert answer.stop_reason == "tokens"


def test_an_error_of_the_model_reaches_the_caller(make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    kaelum = make_kaelum(always("never"))
    error = ContextOverflow(limit_tokens=10, prompt_tokens=99)

    def fail(self: ScriptedModel, request: GenerationRequest, on_delta: object) -> Generation:
        return Generation(request_id=request.request_id, error=error)

    monkeypatch.setattr(ScriptedModel, "_answer", fail)
    with pytest.raises(ContextOverflow, match="maximum context length is 10 tokens"):
        kaelum.ask(APPLES, worker="math")


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        ("  ", {}, "empty"),
        ("hello", {"worker": "plumbing"}, "plumbing"),
        ("hello", {"sims": 0}, "sims"),
        ("hello", {"speed": 9}, "speed"),
    ],
)
def test_bad_input_is_one_clear_error(
    make_kaelum: MakeKaelum, query: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make_kaelum(always("x")).ask(query, **options)


def test_the_conversation_reaches_the_model(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("5")))
    result = kaelum.graph.invoke(
        {
            "messages": [
                SystemMessage("Be brief."),
                HumanMessage("My favourite number is five."),
                AIMessage("Good to know."),
                HumanMessage("What is my favourite number?"),
            ]
        }
    )
    prompt = "\n".join(message.content for message in model_of(kaelum).requests[0].messages)
    assert "Be brief." in prompt
    assert "favourite number is five" in prompt
    assert isinstance(result["messages"][-1], AIMessage)


def test_nothing_of_one_query_reaches_the_next_on_the_same_thread(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(cycle(boxed("5")))
    graph = build_forward(kaelum.services).compile(checkpointer=InMemorySaver(), name="kaelum")
    config: RunnableConfig = {"configurable": {"thread_id": "one"}}
    first = graph.invoke({"messages": [HumanMessage(EQUATION)], "options": {"worker": "math"}}, config)
    second = graph.invoke({"messages": [HumanMessage("Solve 4x = 20 for x.")], "options": {"worker": "math"}}, config)
    assert first["answer"]["id"] != second["answer"]["id"]
    assert second["answer"]["cost"]["rollouts"] == first["answer"]["cost"]["rollouts"]
    state: Any = graph.get_state(config).values
    assert current_query(state).text == "Solve 4x = 20 for x."
    assert len(second["messages"]) == 4


def test_state_survives_a_strict_checkpoint(make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "true")
    kaelum = make_kaelum(always(boxed("5")))
    saver = InMemorySaver()
    graph = build_forward(kaelum.services).compile(checkpointer=saver, name="kaelum")
    config: RunnableConfig = {"configurable": {"thread_id": "one"}}
    graph.invoke({"messages": [HumanMessage(EQUATION)], "options": {"worker": "math"}}, config)
    values = graph.get_state(config).values
    assert values["answer"]["answer"] == "5"
    assert values["features"].shape == (398,)


def test_a_question_in_parts_is_not_glued_and_a_picture_in_it_is_refused(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("5")))
    sum_of_two: list[Any] = [{"type": "text", "text": "What is 3 + 1"}, {"type": "text", "text": "2 apples cost 5."}]
    streamed: list[Any] = [{"type": "text", "text": "Good to kn"}, {"type": "text", "text": "ow."}]
    said = [HumanMessage("Hello."), AIMessage(streamed), HumanMessage(sum_of_two)]
    state: Any = kaelum.graph.invoke({"messages": said})
    assert state["answer"]["query"] == "What is 3 + 1\n2 apples cost 5."
    assert "Good to know." in {message.content for message in model_of(kaelum).requests[0].messages}
    picture: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(UsageError, match=r"messages\.0\.content: .* 'image_url'"):
        kaelum.graph.invoke({"messages": [HumanMessage([*sum_of_two, picture])]})


def test_a_message_that_says_its_role_has_it(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("5")))
    said = [
        ChatMessage(role="developer", content="Be brief."),
        HumanMessage("My favourite number is five."),
        ChatMessage(role="assistant", content="Good to know."),
        ChatMessage(role="user", content="What is my favourite number?"),
    ]
    state: Any = kaelum.graph.invoke({"messages": said})
    assert state["answer"]["query"] == "What is my favourite number?"
    assert model_of(kaelum).requests[0].messages[0].role == "system"
    with pytest.raises(UsageError, match="role 'oracle'"):
        kaelum.graph.invoke({"messages": [ChatMessage(role="oracle", content="5")]})
