"""What a verifier is: one kind of evidence about one candidate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query

DEFAULT_SECONDS = 10.0
"""How long an added verifier has for one question, where it says nothing else."""


class Verifier(ABC):
    """Stateless and thread-safe. It sees the query and the candidate, never a benchmark's reference answer."""

    name: ClassVar[str]
    tier: ClassVar[Tier]
    workers: ClassVar[Sequence[str] | None] = None
    """Of an added verifier: the workers whose candidates it is asked about; None for all. A worker itself names the
    built-in ones it wants."""
    seconds: ClassVar[float] = DEFAULT_SECONDS
    """Of an added verifier: how long it has for one question; after that its vote is unscored. The built-in ones have
    limits of their own."""

    @abstractmethod
    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        """One vote. Where there is nothing to check in this query: "unscored" with the reason, never a guess."""
