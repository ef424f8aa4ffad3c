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
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "graphs"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.outcomes import Results, mean
from benchmarks.recorded import RecordedModel
from benchmarks.search_baselines import BASELINES, baseline_request, draw, run_baselines, run_worker_vote
from benchmarks.search_contenders import SEARCHES, run_search
from benchmarks.search_tables import METHODS, tables
from benchmarks.suites import FAMILIES, SMALL
from benchmarks.tasks import tasks
from benchmarks.workers import load
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.workers import all_workers


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
