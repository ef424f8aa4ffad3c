"""Acting: a turn pauses where its program's output belongs, the program runs, and the turn goes on with what it gave.

Small coder models write a program into a chain of thought and then imagine what it prints. Here the true output stands
in its place, as an observation (Yao et al. 2022, ReAct; the acting of Zhou et al. 2023, Language Agent Tree Search).
All turns of a wave that pause are continued in one further call of the policy model.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field, replace

import numpy as np

from kaelum_graph.answers import code_blocks
from kaelum_graph.errors import KaelumError
from kaelum_graph.models.base import (
    CancelToken,
    Delta,
    Finish,
    Generation,
    GenerationRequest,
    HiddenState,
    OnDelta,
    PolicyModel,
    Sample,
    new_request_id,
)
from kaelum_graph.observations import observation, shown, since_observation
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.sandbox.hurried import HurriedSandbox
from kaelum_graph.types import Query
from kaelum_graph.workers.programs import run_program

MAX_ACTIONS = 2
"""Observations a turn: one to look and one to mend what failed. Every further one is a call that a whole wave waits
for, and a model that fails twice on its own program seldom mends it the third time: another rollout is worth more."""

POLL_SECONDS = 0.05
_ENDS_IN_PROGRAM = re.compile(r"```(?:python3?|py)[ \t]*\n(?:(?!```).)*\n[ \t]*```\s*(?:[^\n]*:\s*)?\Z", re.DOTALL)
"""A program, and at most a line that leads over to its output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One whole assistant turn, the given beginning and all observations included.

    `token_texts` join to the end of `text`. What was not generated but put there has the log-probability None.
    `completion_tokens` counts generated tokens alone; `observations` are what the turn was shown, in order.
    `token_entropies` and `states` are those of the samples; what was put there has the entropy None.
    """

    text: str
    finish: Finish
    completion_tokens: int
    token_texts: tuple[str, ...] | None = None
    token_logprobs: tuple[float | None, ...] | None = None
    observations: tuple[str, ...] = ()
    token_entropies: tuple[float | None, ...] | None = None
    states: tuple[HiddenState, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """What came of one request: its turns, or the error that befell it alone.

    `prompt_tokens` is what the model read for it, in all calls together.
    """

    turns: tuple[Turn, ...] = ()
    prompt_tokens: int = 0
    error: KaelumError | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class _Growing:
    """A turn on its way: sample `index` of its request. `observe` is where it still pauses."""

    request: GenerationRequest
    index: int
    observe: tuple[str, ...]
    text: str
    finish: Finish = "stop"
    stopped_by: str | None = ""
    completion_tokens: int = 0
    prompt_tokens: int = 0
    tokens: list[tuple[str, float | None]] | None = field(default_factory=list[tuple[str, float | None]])
    observations: list[str] = field(default_factory=list[str])
    entropies: list[float | None] = field(default_factory=list[float | None])
    states: list[HiddenState] = field(default_factory=list[HiddenState])

    @property
    def tokens_left(self) -> int:
        return self.request.sampling.max_tokens - self.completion_tokens

    @property
    def at_pause(self) -> bool:
        """Whether it ended where it pauses: at such a string or, where the backend doesn't say, on a program."""
        if not self.observe or self.finish != "stop":
            return False
        if self.stopped_by is None:
            return _ENDS_IN_PROGRAM.search(since_observation(self.text)) is not None
        return self.stopped_by in self.observe

    @property
    def waiting(self) -> bool:
        """Whether it is to go on: it pauses, and has tokens left."""
        return self.at_pause and self.tokens_left > 0

    @property
    def has_program(self) -> bool:
        """Whether it wrote a program that it has not seen the output of."""
        return bool(code_blocks(since_observation(self.text)))

    def take(self, sample: Sample) -> None:
        """Append what was generated."""
        self.text += sample.text
        self.finish, self.stopped_by = sample.finish, sample.stopped_by
        self.completion_tokens += sample.completion_tokens
        if sample.token_texts is None or sample.token_logprobs is None:
            self.tokens = None
        elif self.tokens is not None:
            before = len(self.tokens)
            self.states += [HiddenState(before + state.position, state.values) for state in sample.states or ()]
            self.entropies += sample.token_entropies or [None] * len(sample.token_texts)
            self.tokens += zip(sample.token_texts, sample.token_logprobs, strict=True)

    def resume(self, seen: str | None) -> None:
        """Append what it has `seen`; with None, which is when it has no program, what it meant to go on with.

        It then doesn't pause again: it would at the same place.
        """
        if seen is None:
            given = self.stopped_by or ""
        else:
            given = observation(self.text, seen)
            self.observations.append(seen)
        if seen is None or len(self.observations) >= MAX_ACTIONS:
            self.observe = ()
        self.text += given
        self.stopped_by = ""
        if self.tokens is not None:
            self.tokens.append((given, None))
            self.entropies.append(None)

    def next_request(self) -> GenerationRequest:
        """What goes on with it."""
        sampling = self.request.sampling
        seed = sampling.seed
        if seed is not None:
            parts = (abs(seed), int(seed < 0), self.index, len(self.text))
            # 31 bits: some servers take no larger seed.
            seed = int(np.random.SeedSequence(parts).generate_state(1)[0]) >> 1
        stop = _stops(sampling.stop, self.observe)
        return replace(
            self.request,
            partial_answer=self.text,
            n=1,
            sampling=replace(sampling, max_tokens=self.tokens_left, stop=stop, seed=seed),
            request_id=new_request_id(),
        )

    def turn(self) -> Turn:
        return Turn(
            text=self.text,
            finish="length" if self.at_pause else self.finish,
            completion_tokens=self.completion_tokens,
            token_texts=None if self.tokens is None else tuple(text for text, _ in self.tokens),
            token_logprobs=None if self.tokens is None else tuple(logprob for _, logprob in self.tokens),
            observations=tuple(self.observations),
            token_entropies=None if self.tokens is None else tuple(self.entropies),
            states=() if self.tokens is None else tuple(self.states),
        )


def act(
    model: PolicyModel,
    requests: Sequence[GenerationRequest],
    observe: Sequence[tuple[str, ...]],
    *,
    sandbox: Sandbox,
    pool: Executor,
    deadline: float | None = None,
    cancel: CancelToken | None = None,
    on_delta: OnDelta | None = None,
) -> list[Acted]:
    """Generate, pausing the turns of request i at the strings `observe[i]` to run their programs; one `Acted` each.

    All requests share one call of the model, and so do all turns that go on after a pause; where nothing pauses it is
    one call in all. A turn has its request's `max_tokens` over all calls. At `deadline` (a `time.monotonic()` instant)
    or at cancellation a paused turn stays as it is. A program that fails, or a sandbox that is missing, is told in the
    observation. Raises what `model.generate` raises.
    """
    first = [
        replace(request, sampling=replace(request.sampling, stop=_stops(request.sampling.stop, pauses)))
        for request, pauses in zip(requests, observe, strict=True)
    ]
    generations = model.generate(first, deadline=deadline, cancel=cancel, on_delta=on_delta)
    groups: list[list[_Growing]] = []
    for request, pauses, generation in zip(requests, observe, generations, strict=True):
        groups.append([])
        for index, sample in enumerate(generation.samples):
            turn = _Growing(request=request, index=index, observe=pauses, text=request.partial_answer)
            turn.take(sample)
            groups[-1].append(turn)
    turns = [turn for group in groups for turn in group]
    while paused := [turn for turn in turns if turn.waiting]:
        hurried = HurriedSandbox(sandbox, deadline=deadline, cancel=cancel)
        looks = [pool.submit(look, turn.text, hurried) if turn.has_program else None for turn in paused]
        halt = _halt_before([look for look in looks if look is not None], deadline=deadline, cancel=cancel)
        if halt is not None:
            for turn in paused:
                turn.finish = halt
            break
        for turn, seen in zip(paused, looks, strict=True):
            turn.resume(None if seen is None else seen.result())
        _go_on(model, paused, deadline=deadline, cancel=cancel, on_delta=on_delta)
    return [
        Acted(
            turns=tuple(turn.turn() for turn in group),
            prompt_tokens=generation.prompt_tokens + sum(turn.prompt_tokens for turn in group),
            error=generation.error,
        )
        for group, generation in zip(groups, generations, strict=True)
    ]


def look(turn: str, sandbox: Sandbox) -> str:
    """Run the program that a turn comes to; what it came to, fit for going on from. Tells of failures, raises none."""
    try:
        ran = run_program(Query(text=""), turn, sandbox)
    except (KaelumError, OSError, RecursionError) as error:
        return shown(None, str(error) or type(error).__name__)
    return shown(ran.observation, ran.error)


def _go_on(
    model: PolicyModel,
    turns: Sequence[_Growing],
    *,
    deadline: float | None,
    cancel: CancelToken | None,
    on_delta: OnDelta | None,
) -> None:
    """One call that continues all `turns`. One that can't go on (its context is full) ends where it is."""
    requests = [turn.next_request() for turn in turns]
    origins = {request.request_id: turn for request, turn in zip(requests, turns, strict=True)}

    def on_later_delta(delta: Delta) -> None:
        origin = origins[delta.request_id]
        if on_delta is not None:
            on_delta(Delta(request_id=origin.request.request_id, index=origin.index, text=delta.text))

    generations: list[Generation] = model.generate(
        requests, deadline=deadline, cancel=cancel, on_delta=None if on_delta is None else on_later_delta
    )
    for turn, generation in zip(turns, generations, strict=True):
        turn.prompt_tokens += generation.prompt_tokens
        for sample in generation.samples:
            turn.take(sample)


def _halt_before(
    futures: Sequence[Future[str]], *, deadline: float | None, cancel: CancelToken | None
) -> Finish | None:
    """Wait for all of `futures`; what cut the waiting short, if anything did."""
    pending = set(futures)
    while True:
        cancelled = cancel is not None and cancel.cancelled
        if cancelled or (deadline is not None and time.monotonic() >= deadline):
            for future in pending:
                future.cancel()
            return "cancelled" if cancelled else "deadline"
        if not pending:
            return None
        pending = wait(pending, timeout=POLL_SECONDS).not_done


def _stops(stop: tuple[str, ...], observe: tuple[str, ...]) -> tuple[str, ...]:
    """The strings at which generation ends. Those to pause at come first: some servers take four and no more."""
    return tuple(dict.fromkeys((*observe, *stop)))
