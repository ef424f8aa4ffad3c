"""The whole search beside greedy decoding, one sample, self-consistency and best-of-N, at equal tokens.

    python benchmarks/search.py --suite small                      # about 10 minutes: what `make bench` runs
    python benchmarks/search.py --suite full --tasks 20 --seed 6   # hours on two cores; goes on where it was stopped

Every contender uses the same model on the same tasks. Baselines ask in the plain way (the question, "think step by
step", an answer line); for self-consistency and best-of-N, N is the smallest number of samples whose mean tokens in a
family are at least those of the search, so that ties go to the baseline. "worker vote" is plain voting over the routed
worker's own samples at equal tokens: what the search adds over the workers' prompts and tools alone; "the search's
rollouts, counted" is a plain vote over the rollouts that the search drew, its evidence ignored. Families in which
a check decided most of the search's answers are marked, for there the check is measured as well as the model, and the
others are summed apart. Tokens are generated tokens; prompt tokens are in the
table of costs. Prompts, checks and thresholds were made on seed 1; what is reported comes from seed 6.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "graphs"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.recorded import RecordedModel
from benchmarks.stand_ins import RandomModel, Rescored, TrustedRandomModel, WeightlessModel
from benchmarks.tasks import Task, tasks
from benchmarks.workers import interval, load
from kaelum_flow.facade import Kaelum
from kaelum_graph.answers import clean, final_answer, last_line
from kaelum_graph.clusters import cluster
from kaelum_graph.config import Settings
from kaelum_graph.encoder import Encoder
from kaelum_graph.models.base import GenerationRequest, PolicyModel, Sample, Sampling
from kaelum_graph.reward import path_score, step_scores
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Message, Query, WorkerName
from kaelum_graph.workers.base import Worker
from kaelum_graph.workers.programs import program_in

FAMILIES: dict[str, tuple[str, ...]] = {
    "math": ("gsm_symbolic", "chain_sum", "simple_equations", "leg_counting", "fraction_simplification", "gcd",
             "time_intervals"),
    "code": ("letter_counting", "word_sorting", "spell_backward", "base_conversion", "number_filtering", "count_bits"),
    "logic": ("syllogism", "knights_knaves", "needle_haystack", "family_relationships"),
    "creative": ("passages", "verses"),
    "factual": ("capitals", "elements", "currencies"),
}  # fmt: skip
SMALL = ("gsm_symbolic", "letter_counting", "syllogism", "capitals")
PROSE = frozenset({"passages", "verses"})

SYSTEM = "You are a helpful assistant."
ASK = "{question}\n\nThink step by step, then give the final answer on a last line that begins with 'Answer:'."
BASELINE_TOKENS = 400
PARALLEL_QUERIES = 16


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One contender on one task. `right` may be a mean over samples; tokens likewise. `draws`: samples or rollouts."""

    method: str
    family: str
    index: int
    right: float
    tokens: float
    prompt_tokens: float = 0.0
    draws: float = 1.0
    detail: dict[str, Any] = field(default_factory=dict[str, Any])


class NoSandbox(Sandbox):
    """Runs nothing: the search without its tools, and without the worker that can't do without."""

    def run(self, program: str, **_: Any) -> Any:
        """Always refuses."""
        from kaelum_graph.errors import SandboxError

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


def seed_of(task: Task, seed: int) -> int:
    """A seed of the task's own."""
    return int(hashlib.sha256(f"{seed} {task.family} {task.index}".encode()).hexdigest()[:8], 16)


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


def mean(values: Sequence[float]) -> float:
    """The mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def samples_for(pools: Sequence[Sequence[Sample]], tokens: float) -> int:
    """The smallest N whose mean tokens over the tasks reach `tokens`; the whole pool when none does."""
    most = min(len(pool) for pool in pools)
    for count in range(1, most):
        if mean([sum(sample.completion_tokens for sample in pool[:count]) for pool in pools]) >= tokens:
            return count
    return most


Reader = Callable[[Task, Sample], str | None]


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


class Results:
    """Outcomes in a JSONL file, so that a run that was stopped goes on where it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.stem
        self._lock = threading.Lock()
        self.all: list[Outcome] = []
        if path.exists():
            self.all = [Outcome(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]

    def of(self, method: str, family: str) -> list[Outcome]:
        """The outcomes of a method on a family, by task."""
        if method == COUNTED:
            return [
                replace(one, method=COUNTED, right=one.detail.get("plain", 0.0)) for one in self.of("search", family)
            ]
        return sorted(
            (one for one in self.all if one.method == method and one.family == family), key=lambda one: one.index
        )

    def drop(self, method: str, family: str) -> None:
        """Forget a method's outcomes on a family."""
        kept = [one for one in self.all if (one.method, one.family) != (method, family)]
        if len(kept) < len(self.all):
            self.all = kept
            self._path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in kept), encoding="utf-8")

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Keep outcomes."""
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            for one in outcomes:
                file.write(json.dumps(asdict(one)) + "\n")
            self.all.extend(outcomes)


COUNTED = "the search's rollouts, counted"
BASELINES = ("greedy", "one sample", "self-consistency", "best of N by log-probability")
METHODS = (*BASELINES, "worker vote", COUNTED, *SEARCHES)


def tables(results: Results, families: Sequence[str]) -> str:
    """Markdown: the mixed suite, then each family."""
    methods = [name for name in METHODS if name == COUNTED or any(one.method == name for one in results.all)]
    done = [family for family in families if results.of("search", family)]
    checked = {family for family in done if mean([verified(one) for one in results.of("search", family)]) >= 0.5}
    lines = ["| Contender | Tasks | Accuracy (95%) | Search minus it (95%, paired) | Tokens a task | "
             "Search's tokens over its (paired) | Prompt tokens |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for title, chosen in (
        ("", done),
        ("unchecked families: ", [family for family in done if family not in checked]),
    ):
        for name in methods:
            mine = [one for family in chosen for one in results.of(name, family)]
            if not mine:
                continue
            low, high = stratified([one.right for one in mine], [one.family for one in mine])
            found = [one for family in chosen for one in results.of("search", family)]
            ours = {(one.family, one.index): one.right for one in found}
            searched = {(one.family, one.index): one.tokens for one in found}
            gaps = [ours[one.family, one.index] - one.right for one in mine]
            spent = sum(searched[one.family, one.index] for one in mine) / max(1.0, sum(one.tokens for one in mine))
            less, more = stratified(gaps, [one.family for one in mine])
            lines.append(
                f"| {title}{name} | {len(mine)} | {mean([one.right for one in mine]):.1%} ({low:.1%}–{high:.1%}) | "
                f"{100 * mean(gaps):+.1f} ({100 * less:+.1f} to {100 * more:+.1f}) | "
                f"{mean([one.tokens for one in mine]):.0f} | {spent:.2f} | "
                f"{mean([one.prompt_tokens for one in mine]):.0f} |"
            )
    if told := score_lines(results, done):
        lines += ["", *told]
    lines += ["", *calibration_lines([one for family in done for one in results.of("search", family)])]
    lines += ["", "| Family | " + " | ".join(methods) + " | search − self-consistency | search − worker vote |",
              "|---" * (len(methods) + 3) + "|"]  # fmt: skip
    for family in done:
        row = [f"{family}{' *' if family in checked else ''}"]
        for name in methods:
            mine = results.of(name, family)
            capped = "†" if any(one.detail.get("capped") for one in mine) else ""
            row.append(f"{mean([one.right for one in mine]):.0%}{capped}" if mine else "")
        for other in ("self-consistency", "worker vote"):
            theirs = {one.index: one.right for one in results.of(other, family)}
            gaps = [one.right - theirs[one.index] for one in results.of("search", family) if one.index in theirs]
            if gaps:
                low, high = interval(gaps)
                row.append(f"{100 * mean(gaps):+.0f} ({100 * low:+.0f} to {100 * high:+.0f})")
            else:
                row.append("")
        lines.append("| " + " | ".join(row) + " |")
    lines += ["", "† N ran into its bound before it reached the search's tokens.", ""]
    lines += ["\\* most answers were decided by a check against the question's own constraints."]
    return "\n".join(lines)


def score_lines(results: Results, families: Sequence[str]) -> list[str]:
    """What scores are worth: random ones against none, on the tasks that both were run on, with the λ they had."""
    none = {(one.family, one.index): one.right for family in families for one in results.of(NO_SCORES, family)}
    lines: list[str] = []
    for title, name in (("random", RANDOM_SCORES), ("trusted random", TRUSTED_NOISE)):
        both = [one for family in families for one in results.of(name, family) if (one.family, one.index) in none]
        if not both:
            continue
        gaps = [one.right - none[one.family, one.index] for one in both]
        low, high = stratified(gaps, [one.family for one in both])
        weights = [one.detail.get("prm_weight") or 0.0 for one in both]
        lines.append(
            f"{title} − none, paired: {100 * mean(gaps):+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}, "
            f"{len(both)} tasks; λ {mean(weights):.2f} in the mean, {max(weights):.2f} at most)"
        )
    return lines


BINS = 5


def calibration_lines(searched: Sequence[Outcome]) -> list[str]:
    """P(correct) as stated beside what was right, in bins of equal size; the mean gap is the calibration error."""
    told = sorted(
        ((one.detail["confidence"], one.right) for one in searched if "confidence" in one.detail),
        key=lambda pair: pair[0],
    )
    if len(told) < BINS:
        return []
    bins = [told[len(told) * at // BINS : len(told) * (at + 1) // BINS] for at in range(BINS)]
    rows = [(mean([stated for stated, _ in one]), mean([right for _, right in one]), len(one)) for one in bins]
    error = sum(abs(stated - right) * size for stated, right, size in rows) / len(told)
    table = [f"| {stated:.2f} | {right:.2f} | {size} |" for stated, right, size in rows]
    return [f"Calibration error {error:.3f} ({len(told)} answers, {BINS} bins of equal size).", "",
            "| P(correct) stated | right | answers |", "|---|---|---|", *table]  # fmt: skip


def verified(outcome: Outcome) -> float:
    """1 when an anchored check passed the answer."""
    return float(outcome.detail.get("status") == "verified")


def stratified(values: Sequence[float], strata: Sequence[str], *, seed: int = 0) -> tuple[float, float]:
    """95% bootstrap interval of the mean, resampling tasks within each family."""
    chance = random.Random(seed)
    groups: dict[str, list[float]] = {}
    for value, stratum in zip(values, strata, strict=True):
        groups.setdefault(stratum, []).append(value)
    means = sorted(
        sum(sum(chance.choices(group, k=len(group))) for group in groups.values()) / len(values) for _ in range(2000)
    )
    return means[50], means[1949]


def main() -> None:
    """Run what is asked for and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=("small", "full"), default="small")
    parser.add_argument("--family", action="append", help="these families in place of a suite; may be given many times")
    parser.add_argument("--tasks", type=int, default=None, help="tasks a family (default: 4 small, 20 full)")
    parser.add_argument("--seed", type=int, default=6, help="of the tasks; prompts were tuned on 1")
    parser.add_argument("--sims", type=int, default=16, help="rollouts the search may spend on a task")
    parser.add_argument("--wave", type=int, default=4, help="rollouts between two looks at the evidence")
    parser.add_argument("--contender", action="append", choices=list(SEARCHES), help="variants of the search to run")
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument("--no-worker-vote", action="store_true")
    parser.add_argument("--most", type=int, default=32, help="samples a baseline may draw to use up its tokens")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="a name or a folder")
    parser.add_argument("--keep", type=Path, default=Path("bench-results"), help="folder of samples and outcomes")
    parser.add_argument("--record", type=int, metavar="N", help="only draw the baselines' first N samples, for later")
    parser.add_argument("--report", action="store_true", help="print the tables of what has been run, and run nothing")
    arguments = parser.parse_args()

    families = arguments.family or (
        list(SMALL) if arguments.suite == "small" else [family for group in FAMILIES.values() for family in group]
    )
    size = arguments.tasks or (4 if arguments.suite == "small" else 20)
    if arguments.suite == "small" and not arguments.contender:
        arguments.contender = ["search"]
    arguments.keep.mkdir(parents=True, exist_ok=True)
    name = Path(arguments.model).name
    run = f"{name}-seed{arguments.seed}-sims{arguments.sims}-wave{arguments.wave}"
    results = Results(arguments.keep / f"{run}.jsonl")
    if not arguments.report:
        model = RecordedModel(arguments.keep / f"{name}.jsonl.gz", name=name, load=lambda: load(arguments.model))
        try:
            measure(arguments, families, size, model, results)
        finally:
            model.close()
    print(tables(results, families))


def measure(
    arguments: argparse.Namespace, families: Sequence[str], size: int, model: RecordedModel, results: Results
) -> None:
    """Everything that is not yet among the results, family by family."""
    from kaelum_graph.sandbox import ProcessSandbox
    from kaelum_graph.workers import all_workers

    by_family = {family: tasks(family, seed=arguments.seed, size=size) for family in families}
    if arguments.record:
        for family, asked in by_family.items():
            print(f"# recording {family}", file=sys.stderr, flush=True)
            draw([baseline_request(task, samples=1, seed=arguments.seed, greedy=True) for task in asked], model)
            draw([baseline_request(task, samples=arguments.record, seed=arguments.seed) for task in asked], model)
        return
    for name in arguments.contender or SEARCHES:
        known = {(one.family, one.index) for one in results.all if one.method == name}
        left = [task for many in by_family.values() for task in many if (task.family, task.index) not in known]
        if left:
            print(f"# {name}: {len(left)} tasks", file=sys.stderr, flush=True)
            run_search(
                name, left, model, sims=arguments.sims, wave=arguments.wave, seed=arguments.seed,
                data=arguments.keep / "episodes" / results.name, keep=lambda outcome: results.add([outcome]),
            )  # fmt: skip
    if arguments.no_baselines:
        return
    sandbox = ProcessSandbox()
    try:
        for family, asked in by_family.items():
            searched = results.of("search", family)
            if len(searched) < len(asked):
                print(f"# {family}: the search has not run on all tasks; no baselines", file=sys.stderr, flush=True)
                continue
            searched = searched[: len(asked)]
            # Baselines on other tasks than these, or at the tokens of other ones, are drawn anew (from the record).
            for name in (*BASELINES, "worker vote"):
                if [one.index for one in results.of(name, family)] != [one.index for one in searched]:
                    results.drop(name, family)
            tokens = mean([one.tokens for one in searched])
            limits: dict[str, Any] = {"tokens": tokens, "seed": arguments.seed, "most": arguments.most}
            if not results.of("greedy", family):
                results.add(run_baselines(asked, model, **limits))
            if not arguments.no_worker_vote and not results.of("worker vote", family):
                results.add(run_worker_vote(asked, searched, model, all_workers(), sandbox, **limits))
            found = {name: results.of(name, family) for name in METHODS}
            summary = ", ".join(
                f"{name} {mean([one.right for one in ones]):.0%}" for name, ones in found.items() if ones
            )
            print(f"# {family}: {summary}; {tokens:.0f} tokens a task", file=sys.stderr, flush=True)
    finally:
        sandbox.close()


if __name__ == "__main__":
    main()
