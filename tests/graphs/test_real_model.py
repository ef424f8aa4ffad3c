"""The whole forward pass on the real 0.5B Qwen: few questions, each telling."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from kaelum_flow.facade import Kaelum
from kaelum_graph.config import Settings
from kaelum_graph.encoder import Encoder
from kaelum_graph.models.local import LocalPolicyModel
from kaelum_graph.sandbox import ProcessSandbox

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def kaelum(
    qwen_folder: Path, encoder: Encoder, sandbox: ProcessSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Kaelum]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), seed=7, sims=8, max_tokens=256)
    with (
        LocalPolicyModel.load(qwen_folder, name="qwen2.5-coder-0.5b") as model,
        Kaelum(settings, model=model, encoder=encoder, sandbox=sandbox) as made,
    ):
        yield made


@pytest.mark.timeout(600)
def test_an_equation_is_solved_checked_and_then_served_from_the_cache(kaelum: Kaelum) -> None:
    answer = kaelum.ask("Solve 3x + 5 = 20 for x.", worker="math")
    assert answer.answer is not None
    assert "5" in answer.answer
    assert answer.status == "verified"
    assert answer.cost.completion_tokens > 50
    assert kaelum.ask("Solve 3x + 5 = 20 for x.", worker="math").cache == "hit"


@pytest.mark.timeout(600)
def test_a_program_counts_letters(kaelum: Kaelum) -> None:
    answer = kaelum.ask('How many times does the letter "r" appear in the word "strawberry"?', worker="code")
    assert answer.answer == "3"
    assert answer.trace is not None
    assert any(rollout["program"] for rollout in answer.trace["rollouts"])


@pytest.mark.timeout(600)
def test_a_deadline_is_kept_by_the_real_engine(kaelum: Kaelum) -> None:
    answer = kaelum.ask("Explain in detail how a bicycle stays upright.", worker="analysis", deadline=4, cache=False)
    assert answer.stop_reason in ("deadline", "budget")
    assert answer.cost.seconds < 30
