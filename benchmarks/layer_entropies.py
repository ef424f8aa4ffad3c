"""What the entropies that a language model has on its way up would tell the reward model: the logit lens, measured.

    python benchmarks/layer_entropies.py score --folder bench-results/bank --keep lens.jsonl     # hours; resumable
    python benchmarks/layer_entropies.py judge --folder bench-results/bank --keep lens.jsonl     # minutes; tables

`score` has the local model read recorded rollouts again and looks at the ends of steps, where a layer's state, through
the model's last norm and output matrix, is a distribution over the next token (nostalgebraist 2020, the logit lens).
Of it are kept the entropy, and the Kullback-Leibler divergence of the output's distribution from it, in nats, at two
places: "after" the step's last token, and "before" it, where that token was drawn. Rollouts without an answer are left
out: no figure counts them. `judge` asks how well these numbers tell right rollouts from wrong ones of the same query.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bank import Asked, Bank, queries, request_of
from benchmarks.replay import BankQuery, bank_queries
from kaelum_graph.models.local import quiet_loading
from kaelum_graph.models.prompts import ChatPrompt, trailing_blanks
from kaelum_graph.reward import tokens_by_step
from kaelum_graph.types import Json, WorkerName
from kaelum_graph.workers import all_workers
from kaelum_graph.workers.base import Worker

SHARES = (1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0)
"""Which layers are read, as shares of the model's depth: 8, 12, 16, 20 and the last of 24."""
ROWS_AT_ONCE = 24
"""Places whose distributions are in memory at once, over all layers."""
PLACES = ("before", "after")
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forced:
    """A recorded rollout as tokens to be read. `ends[s]` is the place of step s's last token; None: it has none."""

    ids: list[int]
    ends: list[int | None]
    recorded: list[float | None]
    """The entropies in nats that were noted when those last tokens were drawn."""


class Lens:
    """Reads rollouts with a model of transformers, and what its layers hold at chosen places."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._decoder = model.model
        depth = len(self._decoder.layers)
        self.layers = sorted({max(1, round(depth * share)) for share in SHARES})
        self._held: dict[int, Tensor] = {}
        self._prompts: dict[str, tuple[list[int], Any]] = {}
        self.tokens = 0
        """Read so far, padding left out."""
        for layer in self.layers:
            self._decoder.layers[layer - 1].register_forward_hook(self._holder(layer))

    @torch.inference_mode()
    def read(
        self, prompt: Sequence[int], texts: Sequence[Sequence[int]], places: Sequence[Sequence[int]], *, owner: str = ""
    ) -> list[tuple[Doubles, Doubles]]:
        """For each text after `prompt`, the entropies `[P, L]` and divergences `[P, L]` at its P `places`.

        Place i is the state after text token i; -1 is the prompt's end. Prompts of one `owner` share their beginnings.
        """
        head, last = list(prompt[:-1]), prompt[-1]
        cache = deepcopy(self._prefill(owner, head))
        cache.batch_repeat_interleave(len(texts))
        rows = [[last, *text] for text in texts]
        width = max(len(row) for row in rows)
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * (len(head) + len(row)) + [0] * (width - len(row)) for row in rows])
        self._decoder(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
        self.tokens += sum(len(row) for row in rows)
        picked = [(row, place + 1) for row, held in enumerate(places) for place in held]
        entropies, divergences = self._distributions(picked)
        ends = np.cumsum([len(held) for held in places])[:-1]
        return list(zip(np.split(entropies, ends), np.split(divergences, ends), strict=True))

    def _prefill(self, owner: str, head: list[int]) -> Any:
        """The cache of `head`, made from what is known of the owner's last prompt."""
        from transformers import DynamicCache

        known, cache = self._prompts.get(owner, ([], DynamicCache(config=self._model.config)))
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(known, head, strict=False)))
        if same < len(known):
            cache.crop(same - len(known))
        if same < len(head):
            self._decoder(input_ids=torch.tensor([head[same:]]), past_key_values=cache, use_cache=True)
            self.tokens += len(head) - same
        self._prompts[owner] = head, cache
        return cache

    def _distributions(self, picked: Sequence[tuple[int, int]]) -> tuple[Doubles, Doubles]:
        """Entropies and divergences `[P, L]` in nats at (row, column) of the newest pass."""
        entropies = np.zeros((len(picked), len(self.layers)))
        divergences = np.zeros_like(entropies)
        for at in range(0, len(picked), ROWS_AT_ONCE):
            part = slice(at, at + ROWS_AT_ONCE)
            rows, columns = (torch.tensor(one) for one in zip(*picked[part], strict=True))
            states = torch.stack([self._held[layer][rows, columns] for layer in self.layers], dim=1)
            # All layers at once: the output matrix is as much memory as half of the model.
            logits: Tensor = self._model.lm_head(self._decoder.norm(states)).float()  # [P, L, V]
            scale = logits.logsumexp(-1)
            shares = (logits - scale[..., None]).exp_()
            entropies[part] = (scale - torch.einsum("plv,plv->pl", shares, logits)).numpy()
            crossed = scale - torch.einsum("pv,plv->pl", shares[:, -1], logits)
            divergences[part] = crossed.numpy() - entropies[part, -1:]
        return entropies, divergences

    def _holder(self, layer: int) -> Any:
        def hold(module: Any, arguments: Any, output: Any) -> None:
            self._held[layer] = output[0] if isinstance(output, tuple) else output

        return hold


def forced(worker: Worker, tokenizer: Any, rollout: Json, *, blanks: str = "") -> Forced:
    """A rollout's tokens as they were drawn, what it was shown among them. `blanks` ended what it was given."""
    texts: list[str] = rollout["token_texts"]
    ids: list[int] = []
    ends: list[int] = []
    for index, text in enumerate(texts):
        ids += tokenizer.encode(blanks + text if index == 0 else text, add_special_tokens=False)
        ends.append(len(ids) - 1)
    by_step = tokens_by_step(worker.split_steps(rollout["text"]), texts)
    lasts = [tokens[-1] if tokens and ends[tokens[-1]] >= 0 else None for tokens in by_step]
    return Forced(
        ids=ids,
        ends=[None if last is None else ends[last] for last in lasts],
        recorded=[None if last is None else rollout["entropies"][last] for last in lasts],
    )


def read_unit(lens: Lens, prompt: ChatPrompt, tokenizer: Any, asked: Asked, unit: Json, able: Sequence[bool]) -> Json:
    """The lens numbers of a unit's `able` rollouts; None for the others. Equal texts are read once."""
    worker = all_workers()[WorkerName(unit["worker"])]
    request = request_of(asked, worker, samples=1)
    blanks = trailing_blanks(request.partial_answer)
    start, before = time.perf_counter(), lens.tokens
    wanted: dict[str, Forced] = {}
    for rollout, one in zip(unit["rollouts"], able, strict=True):
        if one and rollout["token_texts"]:
            wanted[json.dumps(rollout["token_texts"])] = forced(worker, tokenizer, rollout, blanks=blanks)
    found: dict[str, Json] = {}
    if wanted:
        texts = list(wanted.values())
        ends = [[end for end in text.ends if end is not None] for text in texts]
        places = [[place for end in held for place in (end - 1, end)] for held in ends]
        ids = prompt.encode(request.messages, request.partial_answer)
        read = lens.read(ids, [text.ids for text in texts], places, owner=unit["worker"])
        found = {key: _told(text, *numbers) for (key, text), numbers in zip(wanted.items(), read, strict=True)}
    return {
        "query": unit["query"],
        "worker": unit["worker"],
        "layers": lens.layers,
        "tokens": lens.tokens - before,
        "seconds": round(time.perf_counter() - start, 3),
        "rollouts": [
            found.get(json.dumps(rollout["token_texts"])) if one else None
            for rollout, one in zip(unit["rollouts"], able, strict=True)
        ],
    }


def _told(text: Forced, entropies: Doubles, divergences: Doubles) -> Json:
    """`{"before": {"entropy": [S, L], "divergence": [S, L]}, "after": …, "recorded": [S]}`; None: no such token."""
    told: Json = {"recorded": text.recorded}
    for offset, place in enumerate(PLACES):
        told[place] = {}
        for kind, table in (("entropy", entropies), ("divergence", divergences)):
            rows = iter(table[offset::2].round(4).tolist())
            told[place][kind] = [None if end is None else next(rows) for end in text.ends]
    return told


def answered(query: BankQuery) -> dict[WorkerName, list[bool]]:
    """Which rollouts have an answer."""
    return {name: [one.answer is not None for one in drawn] for name, drawn in query.drawn.items()}


def is_mixed(query: BankQuery) -> bool:
    """Whether it has a right and a wrong answer."""
    return {one.right for drawn in query.drawn.values() for one in drawn if one.answer is not None} == {True, False}


def evenly(found: Sequence[BankQuery], count: int) -> list[BankQuery]:
    """`count` mixed queries, those that are never streamed first, evenly taken in the order of recording."""
    picked: list[BankQuery] = []
    for streamed in (False, True):
        sort = [one for one in found if (one.sort == "stream") == streamed and is_mixed(one)]
        wanted = min(count - len(picked), len(sort))
        picked += [sort[int(at)] for at in np.linspace(0, len(sort), wanted, endpoint=False)]
    return picked


def kept(path: Path) -> Iterator[Json]:
    """The lines of a file of `score`; one that was cut short is passed over."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def score(
    lens: Lens, tokenizer: Any, bank: Bank, chosen: Sequence[BankQuery], keep: Path, *, minutes: float = 1e6
) -> int:
    """Read what is missing in `keep`, query by query, for at most so many minutes; how many units were read."""
    known = {(line["query"], line["worker"]) for line in kept(keep)}
    asked = {one.name: one for one in queries()}
    wanted = {query.name for query in chosen}
    units = {(unit["query"], unit["worker"]): unit for unit in bank.units() if unit["query"] in wanted}
    prompt = ChatPrompt(tokenizer)
    end, read = time.monotonic() + 60 * minutes, 0
    cut_short = keep.exists() and not keep.read_bytes().endswith(b"\n") and keep.stat().st_size > 0
    with keep.open("a", encoding="utf-8") as file:
        file.write("\n" if cut_short else "")
        for query in chosen:
            for worker, able in answered(query).items():
                if (query.name, worker) in known:
                    continue
                if time.monotonic() >= end:
                    return read
                unit = units[query.name, worker]
                if any("token_texts" not in rollout for rollout in unit["rollouts"]):
                    sys.exit(f"{bank.folder}: the tokens of {query.name} are not there; record the bank first")
                line = read_unit(lens, prompt, tokenizer, asked[query.name], unit, able)
                file.write(json.dumps(line, separators=(",", ":")) + "\n")
                file.flush()
                read += 1
    return read


def load(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a `save_pretrained` folder, on the CPU.

    In float32: read in short pieces, bfloat16 weights gain nothing by bfloat16 arithmetic there.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_loading():
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def main() -> None:
    """Read rollouts, or judge what was read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("score", "judge"))
    parser.add_argument("--folder", type=Path, default=Path("bench-results/bank"))
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="a name or a folder")
    parser.add_argument("--queries", type=int, default=100, help="to read")
    parser.add_argument("--part", default="0/1", help="which of several equal parts to read, so that two can run")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop reading after them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path, nargs="+", required=True, help="a file; to judge, all files of the parts")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = bank_queries(arguments.folder)
    if arguments.what == "judge":
        from benchmarks.layer_entropies_judged import report

        report(found, [line for path in arguments.keep for line in kept(path)])
        return
    from kaelum_graph.models.weights import default_cache_dir, resolve_model

    named = Path(arguments.model)
    folder = named if named.is_dir() else resolve_model(arguments.model, cache_dir=default_cache_dir())
    number, parts = (int(one) for one in arguments.part.split("/"))
    model, tokenizer = load(folder)
    lens, start = Lens(model), time.perf_counter()
    chosen = evenly(found, arguments.queries)[number::parts]
    read = score(lens, tokenizer, Bank(arguments.folder), chosen, arguments.keep[0], minutes=arguments.minutes)
    spent = time.perf_counter() - start
    print(f"{read} units, {lens.tokens} tokens, {spent:.0f} s, {lens.tokens / spent:.0f} tokens/s")


if __name__ == "__main__":
    main()
