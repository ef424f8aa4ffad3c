"""The tables of the search benchmark, with intervals: tasks resampled within families, differences paired by task."""

from __future__ import annotations

import random
from collections.abc import Sequence

from benchmarks.outcomes import COUNTED, Outcome, Results, mean
from benchmarks.search_baselines import BASELINES
from benchmarks.search_contenders import NO_SCORES, RANDOM_SCORES, SEARCHES, TRUSTED_NOISE
from benchmarks.workers import interval

METHODS = (*BASELINES, "worker vote", COUNTED, *SEARCHES)
BINS = 5


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
