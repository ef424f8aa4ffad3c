"""A reward model that has shown skill, in a search; and searches for which nothing learned can be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaelum_flow.scoring import BLIND_SHARE, PRM
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.skill import Skill
from kaelum_graph.tree import SearchTree
from tests.graphs.conftest import MakeKaelum
from tests.graphs.test_search import APPLES, EQUATION, boxed


def scattered(request: GenerationRequest, k: int) -> str:
    return f"Let us see.\nIt may be {k % 3}.\n" + boxed(str(k % 3))


def tree_of(kaelum: object, answer_id: str) -> tuple[SearchTree, dict[str, object]]:
    record = kaelum.services.storage.episode(answer_id)  # type: ignore[attr-defined]
    return SearchTree.from_json(record["tree"]), record["route"]


def test_a_skilled_reward_model_scores_the_steps_and_leaves_a_quarter_blind(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(scattered, wave_size=16, max_reflections=0, cache=False, early_stop=False)
    model = kaelum.services.learned.state.component(RewardModel)
    model._skills[kaelum.services.model_name] = Skill(queries=60, mean=0.95, squares=0.1)  # pyright: ignore[reportPrivateUsage]
    answer = kaelum.ask(APPLES, worker="math", sims=64)
    tree, route = tree_of(kaelum, answer.id)
    assert route["scored_by"] == PRM
    assert route["prm_weight"] == pytest.approx(1.0)
    assert route["blind_share"] == BLIND_SHARE
    assert {rollout.scored_by for rollout in tree.rollouts} == {PRM}
    assert all(score is not None and 0 <= score <= 1 for one in tree.rollouts for score in one.step_scores)
    blind = sum(not rollout.simulation.sighted for rollout in tree.rollouts)
    assert 4 <= blind <= 32, "a quarter of 64, drawn by chance"
    (event,) = kaelum.services.storage.learning_events(after=0)
    assert event.episode is not None
    assert sum(rollout.blind for rollout in event.episode.rollouts) == blind


def test_without_skill_the_likelihood_scores_and_nothing_is_led_by_it(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(scattered, wave_size=8, max_reflections=0, cache=False)
    answer = kaelum.ask(APPLES, worker="math", sims=8)
    tree, route = tree_of(kaelum, answer.id)
    assert (route["scored_by"], route["prm_weight"], route["blind_share"]) == ("likelihood", 0.0, 1.0)
    assert not any(rollout.simulation.sighted for rollout in tree.rollouts)


def test_a_folder_that_cannot_be_used_costs_no_answer(make_kaelum: MakeKaelum, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "state").write_text("this is no folder", encoding="utf-8")
    kaelum = make_kaelum(lambda request, k: boxed("5"), max_reflections=0)
    answer = kaelum.ask(EQUATION, worker="math", sims=4)
    assert answer.answer == "5"
    assert answer.recorded
    assert kaelum.services.learner_status == "stopped: its folder can't be used"
    assert kaelum.services.storage.last_learning_event() > 0, "another process may learn of it"
