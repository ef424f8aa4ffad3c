"""The parts of the search benchmark that decide what its tables say: the record, equal tokens, votes and intervals."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.outcomes import Outcome, Results
from benchmarks.recorded import RecordedModel
from benchmarks.search_baselines import baseline_answer, likeliest, samples_for, vote
from benchmarks.search_contenders import NO_SCORES, RANDOM_SCORES, TRUSTED_NOISE
from benchmarks.search_tables import calibration_lines, stratified, tables
from benchmarks.stand_ins import Rescored
from benchmarks.tasks import Task
from kaelum_graph.models.base import GenerationRequest, PolicyModel, Sample, Sampling
from kaelum_graph.types import Message
from tests.graphs.scripted_model import ScriptedModel

TASK = Task(family="sums", index=0, question="1 + 1?", reference="2", right=lambda answer: answer == "2")


def sample(text: str, *, tokens: int = 10, logprob: float = -0.5) -> Sample:
    return Sample(text=text, finish="stop", completion_tokens=tokens, token_logprobs=(logprob,), token_texts=(text,))


def read(task: Task, one: Sample) -> str | None:
    return baseline_answer(task, one.text)


def request(n: int, *, seed: int = 1) -> GenerationRequest:
    return GenerationRequest(messages=(Message("user", "go"),), n=n, sampling=Sampling(seed=seed))


class TestRecord:
    def test_the_same_request_gets_the_same_samples_and_more_of_them_later(self, tmp_path: Path) -> None:
        loads: list[ScriptedModel] = []

        def load() -> PolicyModel:
            loads.append(ScriptedModel(lambda request, k: f"text {k}"))
            return loads[-1]

        path = tmp_path / "record.jsonl.gz"
        model = RecordedModel(path, name="m", load=load)
        first = model.generate([request(2)])[0].samples
        more = model.generate([request(5)])[0].samples
        assert more[:2] == first
        assert len({one.text for one in more}) == 5
        assert loads[0].drawn == 5
        assert model.generate([request(2, seed=2)])[0].samples != first

        again = RecordedModel(path, name="m", load=load)
        assert again.generate([request(5)])[0].samples == more
        assert len(loads) == 1

    def test_a_record_that_was_cut_off_keeps_what_was_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "record.jsonl.gz"
        model = RecordedModel(path, name="m", load=lambda: ScriptedModel(lambda request, k: f"text {k}"))
        kept = model.generate([request(1)])[0].samples
        whole = path.read_bytes()
        model.generate([request(1, seed=2)])
        path.write_bytes(path.read_bytes()[: len(whole) + 12])
        again = RecordedModel(path, name="m", load=lambda: ScriptedModel(lambda request, k: "new"))
        assert again.generate([request(1)])[0].samples == kept
        assert again.generate([request(1, seed=2)])[0].samples[0].text == "new"
        with gzip.open(path, "rt") as file:
            assert len(file.readlines()) == 2


class TestContenders:
    def test_equal_tokens_are_never_fewer_than_the_searchs(self) -> None:
        pools = [[sample("a", tokens=30)] * 8, [sample("a", tokens=50)] * 8]
        assert samples_for(pools, 1) == 1
        assert samples_for(pools, 40) == 1
        assert samples_for(pools, 41) == 2
        assert samples_for(pools, 10_000) == 8

    def test_a_vote_is_the_largest_cluster_and_likelihood_the_best_sample(self) -> None:
        pool = [sample("Answer: 3", logprob=-0.1), sample("Answer: 2"), sample("Answer: 2.0"), sample("no idea")]
        assert vote(TASK, pool, read)
        assert not likeliest(TASK, pool, read)
        assert likeliest(TASK, [sample("Answer: 2", logprob=-0.01), *pool], read)
        assert not vote(TASK, [sample("")], read)

    @pytest.mark.parametrize(
        ("text", "answer"), [("So 1 + 1.\nAnswer: 2", "2"), ("\\boxed{2}", "2"), ("It is\n2", "2"), ("", None)]
    )
    def test_a_plain_reply_is_read_generously(self, text: str, answer: str | None) -> None:
        assert baseline_answer(TASK, text) == answer


class TestTables:
    def outcome(self, method: str, family: str, index: int, right: float, *, status: str = "unverified") -> Outcome:
        detail = {"status": status, "plain": 0.0} if method == "search" else {}
        return Outcome(method=method, family=family, index=index, right=right, tokens=100.0, detail=detail)

    def test_gaps_are_paired_and_checked_families_summed_apart(self, tmp_path: Path) -> None:
        results = Results(tmp_path / "results.jsonl")
        for index in range(10):
            results.add([self.outcome("search", "sums", index, 1.0, status="verified")])
            results.add([self.outcome("self-consistency", "sums", index, 0.0)])
            results.add([self.outcome("search", "facts", index, index % 2)])
            results.add([self.outcome("self-consistency", "facts", index, index % 2)])
        text = tables(Results(tmp_path / "results.jsonl"), ["sums", "facts"])
        lines = {line.split(" | ")[0]: line for line in text.splitlines()}
        assert "75.0%" in lines["| search"]
        assert "+50.0 (+50.0 to +50.0)" in lines["| self-consistency"]
        assert "+0.0 (+0.0 to +0.0)" in lines["| unchecked families: self-consistency"]
        assert "0.0% (0.0%–0.0%) | +75.0" in text
        assert "| sums * |" in text
        assert "| facts |" in text

    def test_random_scores_are_held_against_none_on_the_tasks_of_both(self, tmp_path: Path) -> None:
        results = Results(tmp_path / "results.jsonl")
        for index in range(8):
            results.add([self.outcome("search", "sums", index, 1.0), self.outcome(NO_SCORES, "sums", index, 1.0)])
        assert "paired:" not in tables(results, ["sums"])
        for index in range(4):
            made = self.outcome(RANDOM_SCORES, "sums", index, 1.0)
            results.add([replace(made, detail={"prm_weight": index / 4})])
            results.add([self.outcome(TRUSTED_NOISE, "sums", index, 0.0)])
        text = tables(results, ["sums"])
        assert (
            "\nrandom − none, paired: +0.0 points (+0.0 to +0.0, 4 tasks; λ 0.38 in the mean, 0.75 at most)\n" in text
        )
        assert "\ntrusted random − none, paired: -100.0 points (-100.0 to -100.0, 4 tasks;" in text

    def test_resampling_keeps_to_the_families(self) -> None:
        assert stratified([1.0] * 5 + [0.0] * 5, ["a"] * 5 + ["b"] * 5) == (0.5, 0.5)
        low, high = stratified([1.0, 0.0] * 10, ["a"] * 20)
        assert low < 0.4
        assert high > 0.6


def test_random_scores_tell_nothing_and_withheld_ones_are_gone() -> None:
    model = ScriptedModel(lambda request, k: f"text {k % 40}")
    asked = request(40)
    own = model.generate([asked])[0].samples
    random_ = Rescored(model, noise=True).generate([asked])[0].samples
    none = Rescored(model, noise=False).generate([asked])[0].samples
    assert [one.text for one in random_] == [one.text for one in none]
    assert all(one.token_logprobs is None for one in none)
    assert own[0].token_logprobs is not None
    assert len({one.token_logprobs for one in random_}) == 40
    assert Rescored(model, noise=True).generate([asked])[0].samples == random_


def test_the_calibration_error_is_the_mean_gap_over_bins() -> None:
    def told(confidence: float, right: float) -> Outcome:
        detail = {"confidence": confidence}
        return Outcome(method="search", family="sums", index=0, right=right, tokens=1, detail=detail)

    honest = [told(0.5, float(index % 2)) for index in range(20)]
    assert calibration_lines(honest)[0].startswith("Calibration error 0.000 (20 answers")
    boasting = [told(0.9, 0.4) for _ in range(20)]
    assert calibration_lines(boasting)[0].startswith("Calibration error 0.500")
    assert calibration_lines(boasting[:3]) == []
