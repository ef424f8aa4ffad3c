"""What a structure is, how it is dealt out to the samples of a query, and what those samples came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kaelum_graph.evidence import Evidence
from kaelum_graph.types import WorkerName

Arm = Literal["with", "without"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """A plan of 2 to 6 lines for one kind of task, as one model wrote it for itself.

    `prompt_tokens` is what the plan adds to a prompt.
    """

    worker: WorkerName
    cluster: int
    model: str
    lines: tuple[str, ...]
    prompt_tokens: int

    @property
    def text(self) -> str:
        """The lines, numbered, as they stand in a prompt."""
        return numbered(self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How one query's samples of one worker are dealt out; drawn once a query.

    With `paired` every other sample has the structure, and a coin has decided (`first`) whether the first one does:
    under "it makes no difference" the arms may then be swapped, whenever and for whatever reason the query ends. Else
    all samples have it. `propensity` is the chance that any one sample has it, as it was before the coins were tossed.
    """

    structure: Structure
    paired: bool
    first: bool
    propensity: float

    def arm(self, sample: int) -> Arm:
        """The arm of this worker's `sample`-th sample of the query, from 0 on."""
        return "with" if not self.paired or (sample % 2 == 0) == self.first else "without"

    def text(self, sample: int) -> str | None:
        """What `Worker.prompt` gets as its `structure` for that sample."""
        return self.structure.text if self.arm(sample) == "with" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutOutcome:
    """One finished sample: its arm, what is known of its answer, and the tokens it took to write.

    Raises `TypeError` for anything but `Evidence`: a model's own score is no label.
    """

    arm: Arm
    evidence: tuple[Evidence, ...]
    tokens: int

    def __post_init__(self) -> None:
        for vote in self.evidence:
            if not isinstance(vote, Evidence):
                raise TypeError(f"{type(vote).__name__} is no evidence: expected Evidence.")

    @property
    def passed(self) -> bool | None:
        """What the anchored checks say: False when one failed it, True when one passed it, None when none voted."""
        votes = {vote.outcome for vote in self.evidence if vote.tier.anchored}
        return False if "fail" in votes else True if "pass" in votes else None


def numbered(lines: tuple[str, ...]) -> str:
    """ "1. …" and so on, a line each."""
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))
