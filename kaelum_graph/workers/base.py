"""What a worker is: a way of reasoning with its own prompt, tools, answer format and verifiers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Message, Query, WorkerName


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the policy model is asked: messages, the beginning of its turn, and where its turn ends."""

    messages: tuple[Message, ...]
    partial_answer: str = ""
    stop: tuple[str, ...] = ()
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

    @abstractmethod
    def prompt(self, query: Query, *, reflection: str | None = None) -> Prompt:
        """How to ask; `reflection` is what failed in earlier rollouts, in the verifiers' own words."""

    @abstractmethod
    def conclude(self, query: Query, text: str, sandbox: Sandbox) -> Conclusion:
        """Read the answer out of a whole assistant turn, running its program where that is how this worker acts."""

    def split_steps(self, text: str) -> tuple[str, ...]:
        """Cut a turn into reasoning steps; joined, they give `text` back unchanged."""
        steps: list[str] = []
        for line in text.splitlines(keepends=True):
            if steps and not steps[-1].strip():
                steps[-1] += line
            else:
                steps.append(line)
        if len(steps) > 1 and not steps[-1].strip():
            steps[-2:] = ["".join(steps[-2:])]
        return tuple(steps)
