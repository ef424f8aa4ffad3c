"""Does a discovered structure help? One-sample accuracy and tokens with and without it, side by side in one run.

    python benchmarks/structures.py --job math:gsm_symbolic --job code:letter_counting --tasks 24 --samples 4
    python benchmarks/structures.py --job logic:knights_knaves --model path/to/folder --keep texts.jsonl

For each `--job WORKER:FAMILY` the model makes itself a structure from three questions of seed 1 (questions alone, no
answers), then answers the questions of seed 2 with and without it. The difference is paired by question; its interval
comes from a bootstrap over questions. "At equal tokens" discounts the accuracy with the structure by what it costs
more, as the live trial does. With `--keep FILE` an interrupted run goes on where it stopped, and nothing is generated
twice.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pydantic import TypeAdapter

from benchmarks.tasks import Task, tasks
from benchmarks.workers import Text, Texts, generate, interval, key_of, load, request_of
from kaelum_graph.models.base import GenerationRequest, PolicyModel
from kaelum_graph.sandbox import ProcessSandbox, Sandbox
from kaelum_graph.structures.base import numbered
from kaelum_graph.structures.discover import (
    MOST_QUESTIONS,
    Discovery,
    adapt_text,
    discover,
    implement_text,
    select_text,
)
from kaelum_graph.structures.trial import PROMPT_PRICE
from kaelum_graph.types import Query
from kaelum_graph.workers import Worker, worker

DISCOVERY_SEED, MEASURING_SEED = 1, 2
_DISCOVERY = TypeAdapter(Discovery)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Accuracy of one sample in [0, 1], question by question, and mean written tokens."""

    right: tuple[float, ...]
    tokens: float

    @property
    def accuracy(self) -> float:
        return sum(self.right) / len(self.right)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One job's outcome; `planned` is None where no structure came of the discovery."""

    worker: str
    family: str
    discovery: Discovery
    samples: int
    plain: Arm
    planned: Arm | None

    @property
    def token_factor(self) -> float:
        """min(1, tokens without / tokens with), the structure in the prompt counting a quarter."""
        if self.planned is None:
            return 1.0
        dear = self.planned.tokens + PROMPT_PRICE * self.discovery.prompt_tokens
        return min(1.0, self.plain.tokens / dear) if dear > 0.0 else 1.0

    def differences(self, *, factor: float = 1.0) -> list[float]:
        """With less without, question by question; `factor` discounts what was gained with it."""
        if self.planned is None:
            return []
        return [factor * having - lacking for having, lacking in zip(self.planned.right, self.plain.right, strict=True)]


def discovered(one: Worker, family: str, model: Callable[[], PolicyModel], name: str, texts: Texts) -> Discovery:
    """The structure for a family, from its questions of seed 1; kept in `texts`. Raises `ModelError`."""
    questions = [task.question for task in tasks(family, seed=DISCOVERY_SEED, size=MOST_QUESTIONS)]
    role = one.prompt(Query(text=questions[0])).messages[0].content
    asked = [name, role, *questions, select_text(), adapt_text(()), implement_text(())]
    key = "structure-" + hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:24]
    kept = texts.get(key)
    if kept is None:
        made = discover(model(), one, questions)
        kept = [Text(text=json.dumps(asdict(made)), tokens=made.tokens, finish="stop")]
        texts.put(key, kept)
    return _DISCOVERY.validate_json(kept[0].text)


def requests_of(
    one: Worker, asked: Sequence[Task], lines: tuple[str, ...] | None, *, samples: int, max_tokens: int | None
) -> list[GenerationRequest]:
    """What the worker asks, with a structure or without one; the same seeds in both."""
    made: list[GenerationRequest] = []
    for task in asked:
        prompt = one.prompt(Query(text=task.question), structure=None if lines is None else numbered(lines))
        request = request_of(one, task, samples=samples, max_tokens=max_tokens)
        made.append(replace(request, messages=prompt.messages))
    return made


def arm_of(one: Worker, asked: Sequence[Task], samples: Sequence[list[Text]], sandbox: Sandbox) -> Arm:
    """Read and score the samples of one arm."""
    right: list[float] = []
    for task, texts in zip(asked, samples, strict=True):
        answers = [one.conclude(Query(text=task.question), text.text, sandbox).answer for text in texts]
        right.append(sum(answer is not None and task.right(answer) for answer in answers) / len(answers))
    count = sum(len(texts) for texts in samples)
    return Arm(right=tuple(right), tokens=sum(text.tokens for texts in samples for text in texts) / count)


def compare(
    jobs: Sequence[tuple[str, str]],
    *,
    model: Callable[[], PolicyModel],
    name: str,
    texts: Texts,
    sandbox: Sandbox,
    size: int,
    samples: int,
    max_tokens: int | None = None,
) -> list[Comparison]:
    """The comparison of each (worker, family). `model` is called only where something is left to generate."""
    discoveries = [discovered(worker(job[0]), job[1], model, name, texts) for job in jobs]
    asked = [tasks(family, seed=MEASURING_SEED, size=size) for _, family in jobs]
    arms: list[list[list[GenerationRequest]]] = []
    for (worker_name, _), many, discovery in zip(jobs, asked, discoveries, strict=True):
        plans = [None] if discovery.lines is None else [None, discovery.lines]
        arms.append(
            [requests_of(worker(worker_name), many, plan, samples=samples, max_tokens=max_tokens) for plan in plans]
        )
    requests = [request for job in arms for arm in job for request in arm]
    if any(texts.get(key_of(name, request)) is None for request in requests):
        generate(model(), requests, texts)
    made: list[Comparison] = []
    for (worker_name, family), many, discovery, job in zip(jobs, asked, discoveries, arms, strict=True):
        read = [
            arm_of(worker(worker_name), many, [texts.get(key_of(name, request)) or [] for request in arm], sandbox)
            for arm in job
        ]
        made.append(
            Comparison(
                worker=worker_name,
                family=family,
                discovery=discovery,
                samples=samples,
                plain=read[0],
                planned=read[1] if len(read) > 1 else None,
            )
        )
    return made


def table(comparisons: Sequence[Comparison]) -> str:
    """Markdown: a row a job, then the structures."""
    lines = [
        "| Worker | Family | Tasks | Without | Tokens | With | Tokens | Difference (95%) | At equal tokens (95%) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in comparisons:
        start = f"| {one.worker} | {one.family} | {len(one.plain.right)} × {one.samples} | {one.plain.accuracy:.0%} | "
        start += f"{one.plain.tokens:.0f} | "
        if one.planned is None:
            lines.append(f"{start}no structure: {one.discovery.reason} | | | |")
            continue
        lines.append(
            f"{start}{one.planned.accuracy:.0%} | {one.planned.tokens:.0f} + {one.discovery.prompt_tokens} of prompt | "
            f"{_points(one.differences())} | {_points(one.differences(factor=one.token_factor))} |"
        )
    for one in comparisons:
        if one.discovery.lines is not None:
            chosen = ", ".join(one.discovery.modules)
            lines += ["", f"{one.worker}, {one.family} ({one.discovery.tokens} tokens to discover; from {chosen}):", ""]
            lines.append(numbered(one.discovery.lines))
    return "\n".join(lines)


def _points(differences: Sequence[float]) -> str:
    low, high = interval(differences)
    return f"{100 * sum(differences) / len(differences):+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) points"


def job_of(text: str) -> tuple[str, str]:
    """WORKER:FAMILY. Raises `ArgumentTypeError`."""
    name, colon, family = text.partition(":")
    if not (name and colon and family):
        raise argparse.ArgumentTypeError(f"'{text}': expected WORKER:FAMILY")
    return name, family


def main() -> None:
    """Measure the jobs named on the command line and print their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", action="append", required=True, type=job_of, metavar="WORKER:FAMILY")
    parser.add_argument("--tasks", type=int, default=24)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, help="a cap below the worker's own")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="a name or a folder")
    parser.add_argument("--keep", type=Path, help="JSONL file of generated texts, read and added to")
    arguments = parser.parse_args()

    loaded: list[PolicyModel] = []

    def model() -> PolicyModel:
        if not loaded:
            loaded.append(load(arguments.model))
        return loaded[0]

    sandbox = ProcessSandbox()
    try:
        made = compare(
            arguments.job,
            model=model,
            name=Path(arguments.model).name,
            texts=Texts(arguments.keep),
            sandbox=sandbox,
            size=arguments.tasks,
            samples=arguments.samples,
            max_tokens=arguments.max_tokens,
        )
    finally:
        sandbox.close()
        for one in loaded:
            one.close()
    print(table(made))


if __name__ == "__main__":
    main()
