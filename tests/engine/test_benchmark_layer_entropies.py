"""The lens reads recorded rollouts where their steps end, alone or in a batch alike, and its judges see what it saw."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.bank import Bank, queries, record
from benchmarks.layer_entropies import Lens, evenly, forced, is_mixed, kept, score
from benchmarks.layer_entropies_judged import agreement, cross_validated, table_of
from benchmarks.learning_prm import auroc
from benchmarks.replay import BankQuery, Drawn
from kaelum_graph.learning.episode import STATE_SIZE, STEP_SCALARS, RolloutFeatures
from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.router import FEATURES
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.types import Json, WorkerName
from kaelum_graph.workers import all_workers
from tests.engine.tiny_models import byte_tokenizer, random_qwen2
from tests.graphs.scripted_model import ScriptedModel
from tests.graphs.test_search import boxed

PROMPT = list(range(3, 40))
TEXTS = [[5, 6, 7, 8, 9, 10, 11], [12], [90, 3, 4]]
PLACES = [[-1, 0, 6], [-1, 0], [2]]
NAMES = list(all_workers())


def tiny_lens() -> tuple[Any, Lens]:
    """A model with random weights, read at its first and its last layer."""
    model = random_qwen2(context=4096).to("cpu")
    lens = Lens(model)
    assert lens.layers == [1, 2]
    return model, lens


def test_a_padded_batch_reads_as_each_text_alone() -> None:
    _, lens = tiny_lens()
    together = lens.read(PROMPT, TEXTS, PLACES)
    for text, places, numbers in zip(TEXTS, PLACES, together, strict=True):
        (alone,) = tiny_lens()[1].read(PROMPT, [text], [places])
        for one, other in zip(numbers, alone, strict=True):
            assert one.shape == (len(places), 2)
            np.testing.assert_allclose(one, other, atol=1e-5)
    assert lens.tokens == len(PROMPT) - 1 + sum(len(text) + 1 for text in TEXTS)


def test_entropies_and_divergences_are_those_of_the_models_own_logits() -> None:
    model, lens = tiny_lens()
    ((entropies, divergences),) = lens.read(PROMPT, [TEXTS[0]], [[-1, 0, 6]])
    with torch.inference_mode():
        whole = model(torch.tensor([PROMPT + TEXTS[0]]), output_hidden_states=True)
        output = whole.logits[0].log_softmax(-1)
        below = model.lm_head(model.model.norm(whole.hidden_states[1][0])).log_softmax(-1)
    for row, place in enumerate((-1, 0, 6)):
        at = len(PROMPT) + place
        entropy = torch.distributions.Categorical(logits=output[at]).entropy()
        divergence = torch.nn.functional.kl_div(below[at], output[at], log_target=True, reduction="sum")
        assert entropies[row, 1] == pytest.approx(float(entropy), abs=1e-5)
        assert entropies[row, 0] == pytest.approx(float(-(below[at].exp() * below[at]).sum()), abs=1e-5)
        assert divergences[row].tolist() == pytest.approx([float(divergence), 0.0], abs=1e-5)
    assert np.ptp(entropies, axis=0).min() > 1e-3  # places and layers that could be mixed up would go unseen
    assert divergences[:, 0].min() > 1e-3


def test_prompts_of_one_owner_share_their_beginning() -> None:
    _, lens = tiny_lens()
    lens.read(PROMPT, [TEXTS[0]], [[6]], owner="math")
    before = lens.tokens
    other = [*PROMPT[:30], 100, 101]
    (shared,) = lens.read(other, [TEXTS[0]], [[-1, 6]], owner="math")
    assert lens.tokens - before == 1 + 1 + len(TEXTS[0])
    (fresh,) = tiny_lens()[1].read(other, [TEXTS[0]], [[-1, 6]])
    np.testing.assert_allclose(shared[0], fresh[0], atol=1e-5)
    (again,) = lens.read(PROMPT, [TEXTS[0]], [[6]], owner="math")
    (first,) = tiny_lens()[1].read(PROMPT, [TEXTS[0]], [[6]])
    np.testing.assert_allclose(again[1], first[1], atol=1e-5)


def test_steps_end_at_their_last_tokens_and_what_was_shown_is_read_too() -> None:
    tokenizer, worker = byte_tokenizer(), all_workers()[WorkerName("math")]
    pieces = ["First", " step", ".\n\n", "", "Sécond", "\nshown", "\n\n", "Third."]
    entropies = [0.1, 0.2, 0.3, 0.4, 0.5, None, 0.7, 0.8]
    text = "Well:\n\n" + "".join(pieces)
    steps = ("Well:\n", "\nFirst step.\n", "\nSécond\n", "shown\n", "\nThird.")
    assert worker.split_steps(text) == steps
    made = forced(worker, tokenizer, {"text": text, "token_texts": pieces, "entropies": entropies})
    lasts = [None, 2, 5, 6, 7]  # a token belongs to the step in which it begins
    assert made.recorded == [None, 0.3, None, 0.7, 0.8]
    assert tokenizer.decode(made.ids) == "".join(pieces)
    for end, last in zip(made.ends, lasts, strict=True):
        assert (end is None) == (last is None)
        if end is not None and last is not None:
            assert tokenizer.decode(made.ids[: end + 1]) == "".join(pieces[: last + 1])


def test_a_blank_that_ended_the_given_part_is_read_with_the_first_token() -> None:
    worker, rollout = all_workers()[WorkerName("math")], {"text": "x = 7", "token_texts": ["7"], "entropies": [0.5]}
    tokenizer = byte_tokenizer()
    assert tokenizer.decode(forced(worker, tokenizer, rollout, blanks=" ").ids) == " 7"
    assert forced(worker, tokenizer, rollout).ends == [0]


def mixed_query(number: int, generator: np.random.Generator) -> BankQuery:
    """Four rollouts of every worker, every other one right, whose features know nothing of that."""

    def one(worker: WorkerName, place: int) -> Drawn:
        scalars = generator.standard_normal((2, len(STEP_SCALARS))).astype(np.float32)
        scalars[:, 6] = 1.0
        return Drawn(
            worker=worker, text="a\nb", answer=None if place == 3 else str(place % 2), evidence=(), tokens=4,
            finish="stop", right=place % 2 == 0,
            features=RolloutFeatures(
                embeddings=generator.standard_normal((2, 384)).astype(np.float16), scalars=scalars,
                states=generator.standard_normal((2, STATE_SIZE)).astype(np.float16),
            ),
        )  # fmt: skip

    sort = "stream" if number % 2 else "unseen"
    return BankQuery(
        name=f"{sort}/gcd/{number}", sort=sort, family=f"family {number}", question="?",
        features=np.zeros(FEATURES, dtype=np.float32),
        drawn={name: tuple(one(name, place) for place in range(4)) for name in NAMES},
    )  # fmt: skip


def lines_of(query: BankQuery, generator: np.random.Generator) -> list[Json]:
    """As `score` writes them: right rollouts have low entropies at layer 8 after steps, and nothing else is known."""

    def told(drawn: Drawn) -> Json:
        noise = generator.random((2, 2, 2, 2)).round(4).tolist()
        made: Json = {
            place: {"entropy": noise[at][0], "divergence": noise[at][1]} for at, place in enumerate(("before", "after"))
        }
        made["after"]["entropy"] = [[row[0] + (not drawn.right), row[1]] for row in noise[1][0]]
        return {**made, "recorded": [row[-1] + 0.01 for row in made["before"]["entropy"]]}

    return [
        {
            "query": query.name, "worker": name, "layers": [8, 24], "tokens": 9, "seconds": 0.1,
            "rollouts": [told(one) if one.answer is not None else None for one in drawn],
        }
        for name, drawn in query.drawn.items()
    ]  # fmt: skip


def test_judges_find_what_the_lens_knows_and_nothing_where_there_is_nothing() -> None:
    generator = np.random.default_rng(0)
    found = [mixed_query(number, generator) for number in range(16)]
    lines = [line for query in found for line in lines_of(query, generator)]
    table = table_of(found, lines[:-1])  # the last query lacks a worker
    assert len(table.cases) == 15
    assert len(table.right) == 15 * 18
    assert table.groups["entropy after"].shape == (270, 4)
    assert table.groups["divergence before"].shape == (270, 2)

    def mean_auroc(scores: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        return float(np.mean([auroc(one, case) for one, case in zip(table.by_case(scores), table.cases, strict=True)]))

    assert mean_auroc(-table.lens["entropy 8 after mean"]) == 1.0
    assert mean_auroc(-table.lens["entropy 8 before mean"]) == pytest.approx(0.5, abs=0.1)
    assert mean_auroc(cross_validated(table, ("entropy after",), table.query, seed=0)) > 0.95
    assert mean_auroc(cross_validated(table, ("scalars", "hidden"), table.family, seed=0)) == pytest.approx(
        0.5, abs=0.15
    )
    assert "correlation 1.0000, median gap 0.0100" in agreement(lines)


def test_queries_are_taken_evenly_and_the_never_streamed_first() -> None:
    generator = np.random.default_rng(0)
    found = [mixed_query(number, generator) for number in range(12)]
    assert all(is_mixed(query) for query in found)
    assert [query.name for query in evenly(found, 3)] == ["unseen/gcd/0", "unseen/gcd/4", "unseen/gcd/8"]
    assert [query.sort for query in evenly(found, 8)] == ["unseen"] * 6 + ["stream"] * 2
    assert len(evenly(found, 99)) == 12


def test_a_run_that_was_cut_short_goes_on_and_reads_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.bank.queries", lambda: queries()[:2])

    def script(request: GenerationRequest, k: int) -> str:
        return boxed(str(k)) if "boxed" in request.messages[0].content else f"First.\n\nAnswer: {k}"

    bank, keep = Bank(tmp_path / "bank"), tmp_path / "lens.jsonl"
    sandbox = ProcessSandbox()
    record(bank, ScriptedModel(script), sandbox, samples=4, minutes=5.0)
    sandbox.close()
    generator = np.random.default_rng(0)
    chosen = [
        BankQuery(
            name=asked.name, sort="stream", family="gcd", question=asked.task.question,
            features=np.zeros(FEATURES, dtype=np.float32), drawn=mixed_query(0, generator).drawn,
        )
        for asked in queries()[:2]
    ]  # fmt: skip
    tokenizer = byte_tokenizer()
    assert score(tiny_lens()[1], tokenizer, bank, chosen, keep) == 12
    whole = keep.read_text(encoding="utf-8")
    assert score(tiny_lens()[1], tokenizer, bank, chosen, keep) == 0
    assert keep.read_text(encoding="utf-8") == whole
    lines = list(kept(keep))
    assert {len(line["rollouts"]) for line in lines} == {4}
    for line in lines:
        assert [rollout is None for rollout in line["rollouts"]] == [False, False, False, True]
        for place in ("before", "after"):
            rows = [row for rollout in line["rollouts"][:3] for row in rollout[place]["entropy"] if row is not None]
            assert len(rows) >= 3
            assert all(0 < value < math.log(300) for row in rows for value in row)
    keep.write_text(whole[: int(len(whole) * 0.7)], encoding="utf-8")
    missing = 12 - len(list(kept(keep)))
    assert 0 < missing < 12
    assert score(tiny_lens()[1], tokenizer, bank, chosen, keep) == missing
    again = list(kept(keep))
    assert len({(line["query"], line["worker"]) for line in again}) == len(again) == 12
    by_key = {(line["query"], line["worker"]): line for line in again}
    for line in lines:
        same = by_key[line["query"], line["worker"]]
        for one, other in zip(line["rollouts"][:3], same["rollouts"][:3], strict=True):
            flat = [json.dumps(row) for row in (one["recorded"], other["recorded"])]
            assert flat[0] == flat[1]
            for place in ("before", "after"):
                mine, theirs = ([row for row in told[place]["entropy"] if row is not None] for told in (one, other))
                np.testing.assert_allclose(mine, theirs, atol=2e-4)
