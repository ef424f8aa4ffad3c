"""What the search is held against: greedy decoding, one sample, self-consistency, best-of-N, a worker's plain vote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.outcomes import Outcome, mean
from benchmarks.recorded import RecordedModel
from benchmarks.search_contenders import side_by_side
from benchmarks.suites import PROSE, seed_of
from benchmarks.tasks import Task
from kaelum_graph.answers import clean, final_answer, last_line
from kaelum_graph.clusters import cluster
from kaelum_graph.models.base import GenerationRequest, Sample, Sampling
from kaelum_graph.reward import path_score, step_scores
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Message, Query, WorkerName
from kaelum_graph.workers.base import Worker
from kaelum_graph.workers.programs import program_in

BASELINES = ("greedy", "one sample", "self-consistency", "best of N by log-probability")
SYSTEM = "You are a helpful assistant."
ASK = "{question}\n\nThink step by step, then give the final answer on a last line that begins with 'Answer:'."
BASELINE_TOKENS = 400

Reader = Callable[[Task, Sample], str | None]


def baseline_request(task: Task, *, samples: int, seed: int, greedy: bool = False) -> GenerationRequest:
    """The plain way to ask; a draft is asked for as it stands."""
    asked = task.question if task.family in PROSE else ASK.format(question=task.question)
    return GenerationRequest(
        messages=(Message("system", SYSTEM), Message("user", asked)),
        n=1 if greedy else samples,
        sampling=Sampling(
            temperature=0.0 if greedy else 0.7, max_tokens=BASELINE_TOKENS, seed=0 if greedy else seed_of(task, seed)
        ),
    )


def baseline_answer(task: Task, text: str) -> str | None:
    """The answer in a plain reply: labelled or boxed, else its last line; a draft or code as it stands."""
    if task.family in PROSE:
        return text
    if task.family == "functions":
        return program_in(text)
    found = final_answer(text) or last_line(text)
    return clean(found) if found else None


def draw(requests: Sequence[GenerationRequest], model: RecordedModel) -> list[tuple[tuple[Sample, ...], int]]:
    """The samples of each request, and its prompt tokens."""

    def one(request: GenerationRequest) -> tuple[tuple[Sample, ...], int]:
        (generation,) = model.generate([request])
        if generation.error is not None:
            raise generation.error
        return generation.samples, generation.prompt_tokens

    return side_by_side(one, requests)


def samples_for(pools: Sequence[Sequence[Sample]], tokens: float) -> int:
    """The smallest N whose mean tokens over the tasks reach `tokens`; the whole pool when none does."""
    most = min(len(pool) for pool in pools)
    for count in range(1, most):
        if mean([sum(sample.completion_tokens for sample in pool[:count]) for pool in pools]) >= tokens:
            return count
    return most


def vote(task: Task, pool: Sequence[Sample], read: Reader) -> bool:
    """Whether the largest cluster of equal answers is right."""
    answers = [read(task, sample) for sample in pool]
    groups = cluster(answers)
    return bool(groups) and task.right(answers[groups[0].members[0]] or "")


def likeliest(task: Task, pool: Sequence[Sample], read: Reader) -> bool:
    """Whether the sample with the highest mean log-probability among those with an answer is right."""
    answered = [(sample, answer) for sample in pool if (answer := read(task, sample))]
    if not answered:
        return False

    def score(sample: Sample) -> float:
        found = path_score(step_scores([sample.text], sample.token_texts, sample.token_logprobs))
        return found.value if found else 0.0

    return task.right(max(answered, key=lambda pair: score(pair[0]))[1])


def run_baselines(asked: Sequence[Task], model: RecordedModel, *, tokens: float, seed: int, most: int) -> list[Outcome]:
    """Greedy, one sample, self-consistency and best-of-N on one family, the latter two at `tokens` a task."""
    out: list[Outcome] = []
    for task, (samples, prompt) in zip(
        asked, draw([baseline_request(task, samples=1, seed=seed, greedy=True) for task in asked], model), strict=True
    ):
        right = task.right(baseline_answer(task, samples[0].text) or "")
        out.append(outcome("greedy", task, right, samples, prompt))
    read: Reader = lambda task, sample: baseline_answer(task, sample.text)  # noqa: E731
    count = 3
    while True:
        pools = draw([baseline_request(task, samples=count, seed=seed) for task in asked], model)
        spent = mean([sum(sample.completion_tokens for sample in samples) for samples, _ in pools])
        if spent >= tokens or count >= most:
            break
        count = min(most, max(count + 2, round(count * 1.05 * tokens / max(spent, 1.0))))
    enough = samples_for([samples for samples, _ in pools], tokens)
    for task, (samples, prompt) in zip(asked, pools, strict=True):
        rights = [float(task.right(read(task, sample) or "")) for sample in samples]
        out.append(outcome("one sample", task, mean(rights), samples, prompt, average=True))
        pool = samples[:enough]
        capped = {"capped": True} if enough == most else {}
        out.append(outcome("self-consistency", task, vote(task, pool, read), pool, prompt, **capped))
        out.append(outcome("best of N by log-probability", task, likeliest(task, pool, read), pool, prompt))
    return out


def run_worker_vote(
    asked: Sequence[Task],
    searched: Sequence[Outcome],
    model: RecordedModel,
    workers: dict[WorkerName, Worker],
    sandbox: Sandbox,
    *,
    tokens: float,
    seed: int,
    most: int,
) -> list[Outcome]:
    """Plain voting over samples of the worker that the router put first, at `tokens` a task."""
    named = [workers[WorkerName(outcome.detail["route"])] for outcome in searched]

    def request(task: Task, worker: Worker, count: int) -> GenerationRequest:
        prompt = worker.prompt(Query(text=task.question))
        return GenerationRequest(
            messages=prompt.messages,
            partial_answer=prompt.partial_answer,
            n=count,
            sampling=Sampling(max_tokens=prompt.max_tokens, stop=prompt.stop, seed=seed_of(task, seed) + 77),
        )

    count = 4
    while True:
        pools = draw([request(task, worker, count) for task, worker in zip(asked, named, strict=True)], model)
        spent = mean([sum(sample.completion_tokens for sample in samples) for samples, _ in pools])
        if spent >= tokens or count >= most:
            break
        count = min(most, max(count + 2, round(count * 1.05 * tokens / max(spent, 1.0))))
    enough = samples_for([samples for samples, _ in pools], tokens)
    out: list[Outcome] = []
    for task, worker, (samples, prompt) in zip(asked, named, pools, strict=True):
        opening = worker.prompt(Query(text=task.question)).partial_answer

        def read(task: Task, sample: Sample, worker: Worker = worker, opening: str = opening) -> str | None:
            return worker.conclude(Query(text=task.question), opening + sample.text, sandbox).answer

        pool = samples[:enough]
        out.append(outcome("worker vote", task, vote(task, pool, read), pool, prompt))
    return out


def outcome(
    method: str,
    task: Task,
    right: float,
    samples: Sequence[Sample],
    prompt: int,
    *,
    average: bool = False,
    **detail: Any,
) -> Outcome:
    """An outcome of drawn samples; with `average`, per sample. `capped`: N ran into its bound before the tokens."""
    tokens = sum(sample.completion_tokens for sample in samples)
    return Outcome(
        method=method,
        family=task.family,
        index=task.index,
        right=float(right),
        tokens=tokens / len(samples) if average else tokens,
        prompt_tokens=prompt,
        draws=1 if average else len(samples),
        detail=detail,
    )
