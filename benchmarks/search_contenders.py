"""The search in its variants: whole, and with one thing taken away or replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmarks.outcomes import Outcome
from benchmarks.recorded import RecordedModel
from benchmarks.stand_ins import RandomModel, Rescored, TrustedRandomModel, WeightlessModel
from benchmarks.suites import PROSE, seed_of
from benchmarks.tasks import Task
from kaelum_flow.facade import Kaelum
from kaelum_graph.clusters import cluster
from kaelum_graph.config import Settings
from kaelum_graph.encoder import Encoder
from kaelum_graph.errors import SandboxError
from kaelum_graph.models.base import PolicyModel
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.workers.base import Worker

PARALLEL_QUERIES = 16


class NoSandbox(Sandbox):
    """Runs nothing: the search without its tools, and without the worker that can't do without."""

    def run(self, program: str, **_: Any) -> Any:
        """Always refuses."""
        raise SandboxError("no tools in this run")

    def close(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A variant of the search: per-query options, and what is taken away from it.

    `scores` are those of steps, likelihood and the learned reward model's: the search's own, none (neither counts),
    random ones that weigh what they earn, or random ones with the reward model's λ at 1 throughout.
    """

    options: dict[str, Any] = field(default_factory=dict[str, Any])
    tools: bool = True
    verifiers: bool = True
    scores: Literal["own", "none", "random", "trusted"] = "own"


NO_SCORES, RANDOM_SCORES = "search, no reward model", "search, random reward model"
TRUSTED_NOISE = "search, random reward model, trusted"
SEARCHES: dict[str, Contender] = {
    "search": Contender(),
    NO_SCORES: Contender(scores="none"),
    RANDOM_SCORES: Contender(scores="random"),
    TRUSTED_NOISE: Contender(scores="trusted"),
    "search, first wave of two": Contender(options={"first_wave": 2}),
    "search, no early stopping": Contender(options={"early_stop": False}),
    "search, no reflection": Contender(options={"max_reflections": 0}),
    "search, no verifiers": Contender(verifiers=False),
    "search, no tools": Contender(tools=False),
}


def opened(
    contender: Contender, settings: Settings, model: PolicyModel, *, seed: int, encoder: Encoder | None = None
) -> Kaelum:
    """A Kaelum that searches as this contender does; `seed` is that of random scores."""
    policy = model if contender.scores == "own" else Rescored(model, noise=contender.scores != "none")
    kaelum = Kaelum(settings, model=policy, encoder=encoder, sandbox=None if contender.tools else NoSandbox())
    services = kaelum.services
    if not contender.tools:
        services.workers = {key: one for key, one in services.workers.items() if key != "code"}
    if not contender.verifiers:
        services.workers = {key: unverified(one) for key, one in services.workers.items()}
    if contender.scores == "none":
        services.make_reward_model = WeightlessModel
    elif contender.scores != "own":
        noise = TrustedRandomModel if contender.scores == "trusted" else RandomModel
        services.make_reward_model = partial(noise, seed=seed)
    return kaelum


def run_search(
    name: str,
    asked: Sequence[Task],
    model: RecordedModel,
    *,
    sims: int,
    wave: int,
    seed: int,
    data: Path,
    keep: Callable[[Outcome], None],
) -> None:
    """Run one variant of the search on all tasks, many at a time so that their waves share batches."""
    contender = SEARCHES[name]
    settings = Settings(cache=False, data_dir=data / name.replace(", ", "-").replace(" ", "-"))
    with opened(contender, settings, model, seed=seed) as kaelum:
        _ = kaelum.services.router, kaelum.services.sandbox, kaelum.services.measurements

        def one(task: Task) -> None:
            answer = kaelum.ask(task.question, sims=sims, wave_size=wave, seed=seed_of(task, seed), **contender.options)
            route = (answer.trace or {}).get("route") or {}
            best = answer.answer or (answer.alternatives[0].answer if answer.alternatives else "")
            text = answer.text if task.family in PROSE and answer.status != "unsure" else best
            keep(
                Outcome(
                    method=name,
                    family=task.family,
                    index=task.index,
                    right=float(bool(text) and task.right(text)),
                    tokens=answer.cost.completion_tokens,
                    prompt_tokens=answer.cost.prompt_tokens,
                    draws=answer.cost.rollouts,
                    detail={
                        "answer": text[:200],
                        "status": answer.status,
                        "confidence": round(answer.confidence, 4),
                        "worker": answer.worker,
                        "route": max(answer.route, key=lambda key: answer.route[key]),
                        "stop": answer.stop_reason,
                        "allocation": route.get("allocation"),
                        "prm_weight": route.get("prm_weight"),
                        "scored_by": route.get("scored_by"),
                        "plain": plain_vote(task, [one["answer"] for one in (answer.trace or {})["rollouts"]]),
                    },
                )
            )

        side_by_side(one, asked)


def plain_vote(task: Task, answers: Sequence[str | None]) -> float:
    """Whether the search's own rollouts, merely counted, would have been right: what the evidence adds to the votes."""
    groups = cluster(answers)
    return float(bool(groups) and task.right(answers[groups[0].members[0]] or ""))


def side_by_side(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """`work` on all items, some at a time; what it returns, in order."""
    with ThreadPoolExecutor(PARALLEL_QUERIES) as pool:
        return list(pool.map(work, items))


def unverified(worker: Worker) -> Worker:
    """The same worker without verifiers."""
    kind = type(worker)
    return type(kind.__name__, (kind,), {"verifiers": (), "__module__": kind.__module__})()
