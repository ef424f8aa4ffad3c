"""What a contender came to on a task, and the file that such outcomes are kept in."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

COUNTED = "the search's rollouts, counted"


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


def mean(values: Sequence[float]) -> float:
    """The mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0
