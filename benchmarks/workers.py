"""How well a worker does on a task family: format, accuracy of one sample, of a majority vote, of any sample.

    python benchmarks/workers.py --worker math --family gsm_symbolic --tasks 24 --samples 4 --seed 2
    python benchmarks/workers.py --job math:gsm_symbolic --job code:gsm_symbolic --prompt current --keep texts.jsonl

`--job WORKER:FAMILY[:PROMPT]` may be given many times; all jobs share the model's batches. With `--keep FILE` texts are
kept there and never generated twice: a changed way to read answers is measured again in seconds. Prompts are tuned on
seed 1; what is reported comes from seed 2.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.prompts import VARIANTS, variant
from benchmarks.tasks import Task, concluding_words, tasks
from kaelum_graph.clusters import cluster
from kaelum_graph.models.base import GenerationRequest, PolicyModel, Sampling
from kaelum_graph.sandbox import ProcessSandbox, Sandbox
from kaelum_graph.types import Query
from kaelum_graph.workers import Worker
from kaelum_graph.workers.base import Conclusion

CHUNK = 480
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of the table to be: a worker with a prompt on a family."""

    worker: str
    family: str
    prompt: str


@dataclass(frozen=True, kw_only=True)
class Text:
    """One sample as generated, the opening that was given included."""

    text: str
    tokens: int
    finish: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """Shares in [0, 1]; `low` and `high` bound the one-sample accuracy at 95%, by bootstrap over tasks."""

    job: Job
    tasks: int
    samples: int
    read: float
    one: float
    low: float
    high: float
    majority: float | None
    any: float
    tokens: float
    lost: int
    cut: float


class Texts:
    """Samples by what they were asked with, kept in a JSONL file when there is one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, list[Text]] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                record = json.loads(line)
                self._known[record["key"]] = [Text(**text) for text in record["texts"]]

    def get(self, key: str) -> list[Text] | None:
        return self._known.get(key)

    def put(self, key: str, texts: list[Text]) -> None:
        self._known[key] = texts
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "texts": [asdict(text) for text in texts]}) + "\n")


def request_of(worker: Worker, task: Task, *, samples: int, max_tokens: int | None) -> GenerationRequest:
    """What the worker asks for this task; the same task and prompt always draw with the same seed."""
    prompt = worker.prompt(Query(text=task.question))
    return GenerationRequest(
        messages=prompt.messages,
        partial_answer=prompt.partial_answer,
        n=samples,
        sampling=Sampling(
            max_tokens=min(prompt.max_tokens, max_tokens or prompt.max_tokens),
            stop=prompt.stop,
            seed=int(hashlib.sha256(task.question.encode()).hexdigest()[:6], 16),
            logprobs=False,
        ),
    )


def key_of(model: str, request: GenerationRequest) -> str:
    """The same for requests that would draw the same samples."""
    asked = [model, [asdict(message) for message in request.messages], request.partial_answer, request.n]
    return hashlib.sha256(json.dumps([*asked, asdict(request.sampling)]).encode()).hexdigest()[:24]


def generate(model: PolicyModel, requests: Sequence[GenerationRequest], texts: Texts) -> None:
    """Fill `texts` with what is missing, a chunk at a time, the like-sized side by side."""
    missing = {key_of(model.name, request): request for request in requests}
    todo = [(key, request) for key, request in missing.items() if texts.get(key) is None]
    todo.sort(key=lambda pair: (pair[1].sampling.max_tokens, len(pair[1].messages[-1].content)))
    done, start = 0, time.monotonic()
    while todo:
        size = max(1, CHUNK // todo[0][1].n)
        chunk, todo = todo[:size], todo[size:]
        for (key, request), generation in zip(chunk, model.generate([item[1] for item in chunk]), strict=True):
            if generation.error is not None:
                raise generation.error
            made = [
                Text(
                    text=request.partial_answer + sample.text,
                    tokens=sample.completion_tokens,
                    finish=sample.finish,
                )
                for sample in generation.samples
            ]
            done += sum(text.tokens for text in made)
            texts.put(key, made)
        spent = time.monotonic() - start
        print(
            f"# {done} tokens in {spent:.0f} s ({done / spent:.0f}/s), {len(todo)} to go", file=sys.stderr, flush=True
        )


def measure(
    job: Job, worker: Worker, asked: Sequence[Task], samples: Sequence[list[Text]], sandbox: Sandbox, *, show: bool
) -> Row:
    """The row of one job; with `show`, wrong and unread samples are printed."""
    ones: list[float] = []
    majority = anyone = read = lost = 0
    for task, texts in zip(asked, samples, strict=True):
        conclusions = [worker.conclude(Query(text=task.question), text.text, sandbox) for text in texts]
        right = [made.answer is not None and task.right(made.answer) for made in conclusions]
        ones.append(sum(right) / len(right))
        anyone += any(right)
        read += sum(made.answer is not None for made in conclusions)
        groups = cluster([_vote(worker, made) for made in conclusions])
        majority += bool(groups) and right[groups[0].members[0]]
        for text, made, good in zip(texts, conclusions, right, strict=True):
            missed = not good and not worker.prose and _ends_on(task.reference, text.text, made)
            lost += missed
            if show and not good:
                mark = "LOST" if missed else "wrong"
                print(f"--- {mark} {task.family} {task.index}, reference {task.reference!r}, read {made.answer!r} "
                      f"{made.error or ''}\n{text.text}\n")  # fmt: skip
    low, high = interval(ones)
    count = sum(len(texts) for texts in samples)
    flat = [text for texts in samples for text in texts]
    return Row(
        job=job,
        tasks=len(asked),
        samples=len(samples[0]),
        read=read / count,
        one=sum(ones) / len(ones),
        low=low,
        high=high,
        majority=majority / len(asked),
        any=anyone / len(asked),
        tokens=sum(text.tokens for text in flat) / count,
        lost=lost,
        cut=sum(text.finish == "length" for text in flat) / count,
    )


def interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """95% bootstrap interval of the mean."""
    chance = random.Random(seed)
    means = sorted(sum(chance.choices(values, k=len(values))) / len(values) for _ in range(RESAMPLES))
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def _vote(worker: Worker, made: Conclusion) -> str | None:
    """What a sample votes for; of an analysis, the words it concludes with."""
    if made.answer is None or not worker.prose:
        return made.answer
    named = re.findall(r"\b(?:[A-Z][a-z]+|delivery|price|quality|support)\b", concluding_words(made.answer))
    return named[0] if worker.name == "analysis" and named else made.answer


def _ends_on(reference: str, text: str, made: Conclusion) -> bool:
    """Whether the last lines of the turn, or what its program printed, hold the reference answer."""
    ending = "\n".join([*text.strip().splitlines()[-3:], made.observation or ""])
    plain = re.sub(r"[\s,*'\"\\]+", " ", ending).lower()
    return (
        re.search(rf"(?<![\w.]){re.escape(re.sub(r'[ ,*]+', ' ', reference).lower())}(?![\w.]*\d)", plain) is not None
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| Worker | Family | Prompt | Tasks | Read | One sample (95%) | Majority | Any | Tokens | Cut | Lost |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.job.worker} | {row.job.family} | {row.job.prompt} | {row.tasks} × {row.samples} | "
            f"{row.read:.0%} | {row.one:.0%} ({row.low:.0%}–{row.high:.0%}) | {row.majority:.0%} | "
            f"{row.any:.0%} | {row.tokens:.0f} | {row.cut:.0%} | {row.lost} |"
        )
    return "\n".join(lines)


def jobs_of(arguments: argparse.Namespace) -> list[Job]:
    """The jobs that the command line names."""
    named: list[str] = list(arguments.job)
    if arguments.worker and arguments.family:
        named.append(f"{arguments.worker}:{arguments.family}")
    jobs: list[Job] = []
    for text in named:
        worker, family, prompt = (*text.split(":"), arguments.prompt)[:3]
        if prompt != "current" and prompt not in VARIANTS.get(worker, {}):
            raise SystemExit(f"no prompt '{prompt}' for {worker}; there are: current, {', '.join(VARIANTS[worker])}")
        jobs.append(Job(worker=worker, family=family, prompt=prompt))
    if not jobs:
        raise SystemExit("nothing to measure: give --worker and --family, or --job WORKER:FAMILY[:PROMPT]")
    return jobs


def load(model: str) -> PolicyModel:
    """The local model of that folder or name."""
    from kaelum_graph.models.local import LocalPolicyModel
    from kaelum_graph.models.weights import default_cache_dir, resolve_model

    folder = Path(model) if Path(model).is_dir() else resolve_model(model, cache_dir=default_cache_dir())
    return LocalPolicyModel.load(folder, name=folder.name, max_batch=48)


def main() -> None:
    """Measure the jobs named on the command line and print their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", action="append", default=[], metavar="WORKER:FAMILY[:PROMPT]")
    parser.add_argument("--worker")
    parser.add_argument("--family")
    parser.add_argument("--prompt", default="current")
    parser.add_argument("--tasks", type=int, default=24)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, help="a cap below the worker's own")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="a name or a folder")
    parser.add_argument("--keep", type=Path, help="JSONL file of generated texts, read and added to")
    parser.add_argument("--show", action="store_true", help="print the samples that were not right")
    arguments = parser.parse_args()

    jobs = jobs_of(arguments)
    texts = Texts(arguments.keep)
    workers = [variant(job.worker, job.prompt) for job in jobs]
    asked = [tasks(job.family, seed=arguments.seed, size=arguments.tasks) for job in jobs]
    requests = [
        [request_of(worker, task, samples=arguments.samples, max_tokens=arguments.max_tokens) for task in many]
        for worker, many in zip(workers, asked, strict=True)
    ]
    name = Path(arguments.model).name
    if any(texts.get(key_of(name, request)) is None for many in requests for request in many):
        with load(arguments.model) as model:
            generate(model, [request for many in requests for request in many], texts)
    rows: list[Row] = []
    sandbox = ProcessSandbox()
    for job, worker, many, wanted in zip(jobs, workers, asked, requests, strict=True):
        samples = [texts.get(key_of(name, request)) or [] for request in wanted]
        rows.append(measure(job, worker, many, samples, sandbox, show=arguments.show))
    sandbox.close()
    print(table(rows))


if __name__ == "__main__":
    main()
