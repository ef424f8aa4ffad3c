"""The rollout bank: what is recorded is judged, packed, and read again as it was."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks import replay
from benchmarks.bank import Bank, queries, record
from benchmarks.replay import bank_queries, judge, pack, unpack
from kaelum_graph.encoder import Encoder
from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.sandbox import ProcessSandbox
from tests.graphs.scripted_model import ScriptedModel
from tests.graphs.test_search import boxed


@dataclass
class Recorded:
    """A folder with the first queries of the plan, as a scripted model answers them."""

    folder: Path
    model: ScriptedModel


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    monkeypatch.setattr("benchmarks.bank.queries", lambda: queries()[:2])
    monkeypatch.setattr("benchmarks.bank.UNITS_A_CALL", 5)

    def script(request: GenerationRequest, k: int) -> str:
        return boxed(str(k)) if "boxed" in request.messages[0].content else f"First.\nAnswer: {k}"

    model = ScriptedModel(script)
    sandbox = ProcessSandbox()
    record(Bank(tmp_path / "bank"), model, sandbox, samples=2, minutes=5.0)
    sandbox.close()
    return Recorded(tmp_path / "bank", model)


def test_every_worker_is_asked_once_and_a_second_run_asks_nothing(recorded: Recorded) -> None:
    units = list(Bank(recorded.folder).units())
    assert len({(unit["query"], unit["worker"]) for unit in units}) == len(units) == 12
    assert {len(unit["rollouts"]) for unit in units} == {2}
    drawn, sandbox = recorded.model.drawn, ProcessSandbox()
    record(Bank(recorded.folder), recorded.model, sandbox, samples=2, minutes=5.0)
    sandbox.close()
    assert recorded.model.drawn == drawn


def test_a_packed_bank_is_the_same_bank_and_counts_as_recorded(
    recorded: Recorded, tmp_path: Path, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(encoder_folder)
    judge(Bank(recorded.folder), encoder)
    before = bank_queries(recorded.folder)
    assert [query.name for query in before] == [asked.name for asked in queries()[:2]]
    packed, elsewhere = tmp_path / "packed.jsonl.xz", tmp_path / "elsewhere"
    assert pack(recorded.folder, packed) == 12
    monkeypatch.setattr(replay, "PACKED", packed)
    monkeypatch.setattr(replay, "encoder", lambda: encoder)
    unpack(elsewhere, encoder, packed)
    after = bank_queries(elsewhere)
    for one, other in zip(before, after, strict=True):
        assert (one.name, one.question) == (other.name, other.question)
        np.testing.assert_allclose(one.features, other.features, atol=1e-5)
        for name, rollouts in one.drawn.items():
            for mine, theirs in zip(rollouts, other.drawn[name], strict=True):
                assert (mine.text, mine.answer, mine.evidence) == (theirs.text, theirs.answer, theirs.evidence)
                assert (mine.tokens, mine.right) == (theirs.tokens, theirs.right)
                np.testing.assert_allclose(mine.features.embeddings, theirs.features.embeddings, atol=2e-3)
                np.testing.assert_array_equal(mine.features.scalars, theirs.features.scalars)
    assert Bank(elsewhere).recorded() == Bank(recorded.folder).recorded()


def test_a_unit_of_another_question_is_passed_over(recorded: Recorded) -> None:
    path = min(recorded.folder.glob("*.jsonl.gz"))
    with gzip.open(path, "rt", encoding="utf-8") as file:
        units = [json.loads(line) for line in file]
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for unit in units:
            file.write(json.dumps({**unit, "question": "another"}) + "\n")
    assert sum(Bank(recorded.folder).recorded().values()) == 2 * (12 - len(units))
