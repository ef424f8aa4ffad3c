"""What a worker is: a way of reasoning with its own prompt, tools, answer format and verifiers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from kaelum_graph.observations import OUTPUT_FENCE
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Message, Query, WorkerName

_FENCE = re.compile(r"[ \t>]*```")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the policy model is asked: messages, the beginning of its turn, and where its turn ends.

    `observe` are strings at which the turn pauses: the program in it is run, and it goes on from the true output.
    """

    messages: tuple[Message, ...]
    partial_answer: str = ""
    stop: tuple[str, ...] = ()
    observe: tuple[str, ...] = ()
    max_tokens: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What a finished rollout comes to: an answer, or the reason why there is none.

    `error` is worded for the model that wrote the rollout: `reflect` hands it back.
    """

    answer: str | None
    program: str | None = None
    observation: str | None = None
    error: str | None = None


class Worker(ABC):
    """One of the experts a query may be routed to. Stateless and thread-safe."""

    name: ClassVar[WorkerName]
    description: ClassVar[str]
    """One or two sentences on which queries are its own."""
    examples: ClassVar[tuple[str, ...]] = ()
    """Typical queries; with the description they are its prototypes in the router."""
    verifiers: ClassVar[tuple[str, ...]] = ()
    """Names in the verifier registry, in the order in which they are run."""
    prose: ClassVar[bool] = False
    """True when the answer is the whole text (a draft, an analysis), not a value in it."""
    judged: ClassVar[bool] = False
    """True when the rubric's judge, where it is on, is asked about its drafts."""
    uses_sources: ClassVar[bool] = False
    """True when its prompt shows `Query.sources`: a retriever is asked only for such a worker."""

    @abstractmethod
    def prompt(self, query: Query, *, reflection: str | None = None, structure: str | None = None) -> Prompt:
        """How to ask.

        `reflection` is what failed in earlier rollouts, in the verifiers' own words; `structure` a plan to follow.
        """

    @abstractmethod
    def conclude(self, query: Query, text: str, sandbox: Sandbox) -> Conclusion:
        """Read the answer out of a whole assistant turn, running its program where that is how this worker acts."""

    def split_steps(self, text: str) -> tuple[str, ...]:
        """Cut a turn into reasoning steps; joined, they give `text` back unchanged.

        A step is a line, or a whole fenced block with the output below it: half a program can't be judged, and whoever
        goes on from between a program and its output has to imagine that.
        """
        steps: list[str] = []
        fenced = after_block = False
        for line in text.splitlines(keepends=True):
            fence = _FENCE.match(line) is not None
            blank = not line.strip()
            below = after_block and (blank or line.startswith(OUTPUT_FENCE))
            if steps and (fenced or below or not steps[-1].strip()):
                steps[-1] += line
            else:
                steps.append(line)
            after_block = (fenced and fence) or (after_block and blank)
            fenced ^= fence
        if len(steps) > 1 and not steps[-1].strip():
            steps[-2:] = ["".join(steps[-2:])]
        return tuple(steps)
