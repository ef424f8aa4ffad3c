"""Which families the search is measured on, and how its tasks' samples are seeded."""

from __future__ import annotations

import hashlib

from benchmarks.tasks import Task

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


def seed_of(task: Task, seed: int) -> int:
    """A seed of the task's own."""
    return int(hashlib.sha256(f"{seed} {task.family} {task.index}".encode()).hexdigest()[:8], 16)
