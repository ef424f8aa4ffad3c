"""The benchmark's contenders without scores, and with random ones: what they leave alone, and what they replace."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search_contenders import NO_SCORES, RANDOM_SCORES, SEARCHES, TRUSTED_NOISE, opened
from benchmarks.stand_ins import RandomModel
from kaelum_flow.facade import Kaelum
from kaelum_flow.scoring import PRM
from kaelum_graph.config import Settings
from kaelum_graph.encoder import Encoder
from kaelum_graph.learning.episode import SeenEpisode, is_audit
from kaelum_graph.learning.labels import Label, rollout_labels
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.learning.service import new_state
from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.skill import Skill
from kaelum_graph.tree import SearchTree
from tests.graphs.scripted_model import ScriptedModel
from tests.graphs.test_search import APPLES, boxed

Contending = Callable[[str], Kaelum]
QUESTIONS = (APPLES, *(f"Solve for x: {a}*x + 5 = {5 * a + 5}" for a in (2, 3, 4)))
SIMS = 8


def scattered(request: GenerationRequest, k: int) -> str:
    """Two of three are wrong, in several steps, each in words of its own."""
    return f"Let us see, for the {k}th time.\nIt may be {k % 3 + 4}.\n" + boxed(str(k % 3 + 4))


@pytest.fixture
def contending(tmp_path: Path, encoder: Encoder) -> Generator[Contending]:
    made: list[Kaelum] = []

    def make(name: str) -> Kaelum:
        folder = tmp_path / str(len(made))
        # One wave, so that no score can lead the search elsewhere than in another contender.
        settings = Settings(
            cache=False, data_dir=folder, wave_size=SIMS, max_reflections=0, early_stop=False, seed=1, sims=SIMS
        )
        made.append(opened(SEARCHES[name], settings, ScriptedModel(scattered), seed=6, encoder=encoder))
        return made[-1]

    yield make
    for kaelum in made:
        kaelum.close()


def ask_all(kaelum: Kaelum) -> tuple[list[SearchTree], list[SeenEpisode]]:
    """What was searched, and what the learners were shown of it."""
    trees: list[SearchTree] = []
    for question in QUESTIONS:
        answer = kaelum.ask(question, worker="math")
        record = kaelum.services.storage.episode(answer.id)
        assert record is not None
        trees.append(SearchTree.from_json(record["tree"]))
    episodes = [event.episode for event in kaelum.services.storage.learning_events(after=0)]
    return trees, [one for one in episodes if one is not None]


def weights_of(kaelum: Kaelum) -> set[float]:
    """λ of every query."""
    found: set[float] = set()
    for event in kaelum.services.storage.learning_events(after=0):
        record = kaelum.services.storage.episode(event.episode_id)
        assert record is not None
        found.add(record["route"]["prm_weight"])
    return found


def labels_of(episodes: list[SeenEpisode]) -> list[list[Label]]:
    return [rollout_labels(one, NoiseModel()) for one in episodes]


def prove(kaelum: Kaelum) -> None:
    """Make whatever reward model serves one that has shown all the skill there is."""
    model = kaelum.services.learned.state.component(RewardModel)
    model._skills[kaelum.services.model_name] = Skill(queries=60, mean=0.95, squares=0.1)  # pyright: ignore[reportPrivateUsage]


def test_without_a_reward_model_no_score_counts_however_skilled_it_is(contending: Contending) -> None:
    usual, kaelum = contending("search"), contending(NO_SCORES)
    prove(usual)
    prove(kaelum)
    trees, _ = ask_all(kaelum)
    rollouts = [one for tree in trees for one in tree.rollouts]
    assert len(rollouts) == SIMS * len(QUESTIONS)
    assert not any(one.scored_by == PRM for one in rollouts)
    assert {score for one in rollouts for score in one.step_scores} == {None}, "no likelihood either"
    assert weights_of(kaelum) == {0.0}
    ask_all(usual)
    assert weights_of(usual) != {0.0}, "the same skill counts in a search with its reward model"
    assert kaelum.services.learned.learner.drain(60)
    assert kaelum.services.learned.learner.status == "learning"


def test_random_scores_change_no_label_and_have_the_weight_that_they_earn(contending: Contending) -> None:
    usual, noise = contending("search"), contending(RANDOM_SCORES)
    _, others = ask_all(usual)
    trees, episodes = ask_all(noise)
    assert labels_of(episodes) == labels_of(others)
    assert weights_of(noise) == {0.0}, "nothing is measured of four queries"
    assert not any(one.scored_by == PRM for tree in trees for one in tree.rollouts)

    prove(noise)
    answer = noise.ask(APPLES, worker="math")
    assert (answer.trace or {})["route"]["scored_by"] == PRM, "it would be believed, had it shown skill"


def test_trusted_noise_has_all_the_weight_and_scores_at_random(contending: Contending) -> None:
    trusted = contending(TRUSTED_NOISE)
    trees, _ = ask_all(trusted)
    assert weights_of(trusted) == {1.0}
    rollouts = [one for tree in trees for one in tree.rollouts]
    assert {one.scored_by for one in rollouts} == {PRM}
    levels = [set(one.step_scores) for one in rollouts]
    assert all(len(one) == 1 for one in levels), "one level a rollout"
    assert len({min(score or 0.0 for score in one) for one in levels}) == len(rollouts), "each its own"


def test_noise_is_uniform_repeatable_blind_to_outcomes_and_measured(contending: Contending) -> None:
    kaelum = contending("search")
    _, episodes = ask_all(kaelum)
    names = [name for name in (f"episode {number}" for number in range(400)) if not is_audit(name)][:60]
    usual, noise = (
        new_state(kaelum.services.router, reward_model=make).component(RewardModel)
        for make in (RewardModel, RandomModel)
    )
    for at, name in enumerate(names):
        # Other features of the query: other noise, as of another query.
        episode = episodes[1 + at % 3]
        features = episode.features.copy()
        features[0] = at
        made = replace(episode, id=name, features=features)
        usual.learn_episode(made)
        noise.learn_episode(made)
    measured = noise.skill(kaelum.services.model_name)
    assert measured.queries == usual.skill(kaelum.services.model_name).queries == len(names), "measured as ever"
    assert abs(measured.mean - 0.5) < 0.1
    assert measured.weight == 0.0

    episode = episodes[1]
    scores = np.array([min(one) for one in noise.score(episode.features, episode.rollouts)])
    assert scores.tolist() == [min(one) for one in noise.score(episode.features, episode.rollouts)]
    alone = noise.score(episode.features, episode.rollouts[:1])
    assert min(alone[0]) == scores[0], "whatever its siblings"
    many = np.array(
        [min(one) for at in range(100) for one in noise.score(episode.features + np.float32(at), episode.rollouts)]
    )
    assert np.abs(np.histogram(many, bins=4, range=(0, 1))[0] / len(many) - 0.25).max() < 0.06
