"""Learning from live queries: what is asked is learned beside serving, survives a restart, and ratings act at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from kaelum_flow import nodes
from kaelum_flow.services import Services
from kaelum_graph.learning.deltas import RewardDeltas
from kaelum_graph.learning.episode import SeenEpisode, SeenRollout
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.learning.router_learner import RouterLearner
from kaelum_graph.learning.stop_head import StopHead
from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.tree import SearchTree
from kaelum_graph.types import WorkerName
from kaelum_graph.verdict import Verdict, decide
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import ScriptedModel
from tests.graphs.test_search import boxed

QUESTIONS = [f"Solve for x: {a}*x + 5 = {5 * a + 5}" for a in range(2, 10)]


def halves(request: GenerationRequest, k: int) -> str:
    """Every other rollout is right."""
    return "So we go.\n" + boxed("5" if k % 2 else "7")


def test_answered_queries_are_learned_beside_serving_and_after_a_restart(make_kaelum: MakeKaelum) -> None:
    first = make_kaelum(halves, wave_size=4, max_reflections=0, cache=False)
    for question in QUESTIONS[:4]:
        first.ask(question, sims=8)
    learner = first.services.learned.learner
    assert learner.drain(60)
    assert learner.status == "learning"
    learned = learner._state  # pyright: ignore[reportPrivateUsage]
    assert learned.counts["episodes"] == 4
    position = learned.position
    first.close()

    again = make_kaelum(halves, wave_size=4, max_reflections=0, cache=False)
    again.ask(QUESTIONS[4], sims=8)
    learner = again.services.learned.learner
    assert learner.drain(60)
    learned = learner._state  # pyright: ignore[reportPrivateUsage]
    assert learned.counts["episodes"] == 5
    assert learned.position > position
    rebuilt = learner.rebuild(60)
    assert rebuilt.same, "what was learned in two lives is what the log says"


def test_what_is_learned_is_of_evidence(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(halves, wave_size=4, max_reflections=0, cache=False)
    for question in QUESTIONS:
        kaelum.ask(question, sims=8)
    learner = kaelum.services.learned.learner
    assert learner.drain(60)
    learned = learner._state  # pyright: ignore[reportPrivateUsage]
    assert learned.component(RouterLearner).episodes > 0
    assert learned.component(NoiseModel).seen > 0


def test_suggested_workers_change_the_route_of_like_queries_at_once(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(halves, wave_size=4, max_reflections=0, cache=False)
    asked = [kaelum.ask(question, sims=4) for question in QUESTIONS[:5]]
    assert {answer.worker for answer in asked} == {"math"}
    learned = kaelum.services.learned
    features = kaelum.services.encoder.features(QUESTIONS[6])
    other = kaelum.services.encoder.features("Write a poem about the sea in four lines.")
    calm = learned.router.probabilities(other)
    for answer in asked:
        kaelum.feedback(answer.id, worker="logic")
    assert learned.learner.drain(60)
    before, after = learned.router.probabilities(features), learned.deltas(features)
    assert learned.router.probabilities(features, deltas=after)[WorkerName("logic")] > 10 * before[WorkerName("logic")]
    assert next(iter(learned.router.probabilities(features, deltas=after))) == "logic"
    assert learned.router.probabilities(other, deltas=learned.deltas(other)) == pytest.approx(calm)
    assert kaelum.ask(QUESTIONS[6], sims=4).worker == "logic"


def test_learning_off_keeps_to_what_was_learned(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(halves, wave_size=4, max_reflections=0, learning=False)
    kaelum.ask(QUESTIONS[0], sims=4)
    assert kaelum.services.learned.learner.status == "off"
    assert kaelum.services.storage.last_learning_event() == 0
    thread = next(thread for thread in threading.enumerate() if thread.name == "kaelum-learner")
    kaelum.close()
    assert not thread.is_alive(), "it followed what others promote"


def test_the_state_version_names_what_was_learned(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(halves, wave_size=4, max_reflections=0, cache=False)
    answer = kaelum.ask(QUESTIONS[0], sims=4)
    kaelum.feedback(answer.id, worker="logic")
    assert kaelum.services.learned.learner.drain(60)
    assert kaelum.services.learned.learner.serving_version
    assert kaelum.state_version != answer.state_version


def test_no_fault_in_what_was_learned_costs_an_answer(
    make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of order")

    kaelum = make_kaelum(halves, wave_size=4, max_reflections=0, cache=False)
    monkeypatch.setattr(Services, "reward_model", property(lambda self: self.learned.reward_model))
    for part, method in ((RewardModel, "score"), (StopHead, "should_stop"), (RewardDeltas, "worker_deltas")):
        monkeypatch.setattr(part, method, broken)
    monkeypatch.setattr(SeenEpisode, "to_bytes", broken)
    answer = kaelum.ask("Ann has 3 apples and gets some more. How many apples has she?", sims=8)
    assert answer.recorded
    assert answer.answer in ("5", "7")
    told = caplog.text
    for part in ("the reward model", "the stop head", "what ratings add to the route", "telling the learners"):
        assert part in told


def test_the_reward_model_sees_as_much_where_learning_is_off(
    make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaelum = make_kaelum(halves, wave_size=4, max_reflections=0, cache=False, learning=False)
    kaelum.ask(QUESTIONS[0], sims=4)
    model = kaelum.services.model
    assert isinstance(model, ScriptedModel)
    assert not any(request.insight for request in model.requests)
    monkeypatch.setattr(Services, "reward_model", property(lambda self: self.learned.reward_model))
    model.requests.clear()
    kaelum.ask(QUESTIONS[1], sims=4)
    assert all(request.insight for request in model.requests)


def test_the_answer_is_weighed_by_scores_beside_all_siblings(
    make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch
) -> None:
    weighed: list[list[tuple[float | None, ...]]] = []

    def score(self: RewardModel, features: object, rollouts: Sequence[SeenRollout]) -> list[tuple[float, ...]]:
        return [(len(rollouts) / 100,)] * len(rollouts)

    def decided(tree: SearchTree, **settings: Any) -> Verdict:
        weighed.append([one.step_scores for one in tree.rollouts])
        return decide(tree, **settings)

    monkeypatch.setattr(RewardModel, "score", score)
    monkeypatch.setattr(Services, "reward_model", property(lambda self: self.learned.reward_model))
    monkeypatch.setattr(nodes, "decide", decided)
    kaelum = make_kaelum(halves, wave_size=4, max_reflections=0, cache=False, early_stop=False)
    kaelum.ask("Ann has 3 apples and gets some more. How many apples has she?", worker="math", sims=8)
    assert weighed == [[(0.08,)] * 8]
