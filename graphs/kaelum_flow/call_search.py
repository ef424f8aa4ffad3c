"""The node that decides whether the caller's tools are called, and on what."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import cast

from langchain_core.runnables import RunnableConfig
from langgraph.types import StreamWriter

from kaelum_flow.lats import cancel_token
from kaelum_flow.services import Services
from kaelum_flow.state import (
    KaelumState,
    current_options,
    current_query,
    current_request,
    packed,
    read_called,
    requested_choice,
    requested_tools,
    seconds_left,
    well_formed,
)
from kaelum_graph.calls import (
    CANDIDATES,
    CallCandidate,
    CallRules,
    Poll,
    call_verdict,
    calls_json,
    may_call,
    must_call,
    poll,
    wordless_verdict,
)
from kaelum_graph.config import Settings
from kaelum_graph.models.base import CancelToken, Delta, Generation, GenerationRequest, OnDelta, Sample, Sampling
from kaelum_graph.router import EFFORT_BUDGETS
from kaelum_graph.types import Json, Query, RolloutId, ToolCall
from kaelum_graph.workers.conversation import plain_conversation

USUAL_BUDGET = 8
LATER_WAVE = 8
CALL_TOKENS = 1024
"""Most new tokens of a turn: arguments may hold a whole file."""
CALL_SEED = 50_000_000
"""Added to a query's seed, so that no rollout draws what a turn here drew."""
PROGRESS_SECONDS = 0.25


class CallNode:
    """The node that samples turns with the caller's tools, over one set of services."""

    def __init__(self, services: Services) -> None:
        self.services = services

    def call(self, state: KaelumState, config: RunnableConfig, writer: StreamWriter) -> Json:
        """Sample turns that may call tools, in waves, until the vote is clear or the budget is spent.

        A vote for calls is the answer, and so is what was said where calls are forced and none is valid, or where
        nothing is left to search with: both leave a `verdict`. A vote for words leaves none. Without tools nothing is
        done. Raises the model's error where it gives nothing at all.
        """
        request = current_request(state)
        tools, choice = requested_tools(request), requested_choice(request)
        if not may_call(tools, choice) or state.get("earlier"):
            return {"called": None}
        # The query's time goes on once the model is loaded, which only the first one waits for.
        started_at = state.get("started_at", time.time()) + self.services.load()
        state = cast("KaelumState", {**state, "started_at": started_at})
        settings, query = self.services.settings_for(current_options(state)), current_query(state)
        cancel = cancel_token(self.services, config)
        search = _CallSearch(self.services, state, settings, query, cancel=cancel, writer=writer)
        search.run()
        result = search.standing()
        update: Json = {
            "started_at": started_at,
            "called": packed(
                {
                    "candidates": CANDIDATES.dump_python(search.candidates, mode="json"),
                    "waves": search.waves,
                    "calls": calls_json(result.groups[0][0].calls) if result.winner == "call" else [],
                }
            ),
            "prompt_tokens": state.get("prompt_tokens", 0) + search.prompt_tokens,
            "completion_tokens": state.get("completion_tokens", 0) + search.completion_tokens,
        }
        halt, spent = search.halt, search.spent()
        if result.winner == "call":
            verdict = call_verdict(result, min_confidence=settings.min_confidence)
        elif must_call(choice):
            verdict = wordless_verdict(search.candidates, reason="no valid call was found.")
        elif spent is not None:
            verdict, halt = wordless_verdict(search.candidates, reason="nothing was left to search with."), spent
        else:
            return update
        return {**update, "verdict": verdict.to_json(), "halt": halt}

    def after_call(self, state: KaelumState) -> str:
        """Where to go: "cache" to answer in words, "shape" for words that must have a form, "feedback" for calls."""
        if not state.get("called") or not state.get("verdict"):
            return "cache"
        shaped = current_request(state).get("shape") and not called(state)
        return "shape" if shaped else "feedback"


class _CallSearch:
    """One query's sampling."""

    def __init__(
        self,
        services: Services,
        state: KaelumState,
        settings: Settings,
        query: Query,
        *,
        cancel: CancelToken | None,
        writer: StreamWriter,
    ) -> None:
        request = current_request(state)
        self._services, self._state, self._settings = services, state, settings
        self._tools, self._choice = requested_tools(request), requested_choice(request)
        self._messages = plain_conversation(query)
        self._rules = CallRules(self._tools, self._choice, query.since)
        self._has_results = any(turn.role == "tool" for turn in query.since)
        self._cancel, self._writer = cancel, writer
        effort = settings.effort and EFFORT_BUDGETS[settings.effort]
        self.budget = settings.sims or effort or USUAL_BUDGET
        left = seconds_left(state, settings.deadline)
        # An answer in words has yet to be searched for; a forced call is all there will be.
        share = 1.0 if must_call(self._choice) else 0.5
        self._deadline = None if left is None else time.monotonic() + left * share
        self.candidates: list[CallCandidate] = []
        self.waves = self.prompt_tokens = self.completion_tokens = 0
        self.halt = "budget"

    def standing(self) -> Poll:
        """The vote so far."""
        return poll(
            self.candidates,
            forced=must_call(self._choice),
            has_results=self._has_results,
            remaining=self.budget - len(self.candidates),
        )

    def spent(self) -> str | None:
        """What of the query's means is used up, so that no search can follow; None where one can."""
        if self._cancel is not None and self._cancel.cancelled:
            return "cancelled"
        if seconds_left(self._state, self._settings.deadline) == 0.0:
            return "deadline"
        return "tokens" if self._tokens_left() == 0 else None

    def run(self) -> None:
        """Draw waves, and leave why that ended in `halt`."""
        self._writer(self.event())
        while len(self.candidates) < self.budget:
            wanted = LATER_WAVE if self.waves else self._settings.first_wave
            self._draw(min(wanted, self._settings.wave_size, self.budget - len(self.candidates)))
            self._writer(self.event())
            if (spent := self._over()) is not None:
                self.halt = spent
                return
            if self._settings.early_stop and self.standing().certain:
                self.halt = "margin"
                return

    def _over(self) -> str | None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "deadline"
        return self.spent()

    def _draw(self, count: int) -> None:
        settings = self._settings
        self.waves += 1
        limit, left = settings.max_tokens or CALL_TOKENS, self._tokens_left()
        sampling = Sampling(
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=limit if left is None else max(1, min(limit, left // count)),
            seed=None if settings.seed is None else settings.seed + CALL_SEED + 10_000 * self.waves,
        )
        request = GenerationRequest(
            messages=self._messages, n=count, sampling=sampling, tools=self._tools, tool_choice=self._choice
        )
        generation = self._services.model.generate(
            [request], deadline=self._deadline, cancel=self._cancel, on_delta=self._progress()
        )[0]
        self._take(generation, count)

    def _take(self, generation: Generation, count: int) -> None:
        self.prompt_tokens += generation.prompt_tokens
        if generation.error is not None and not generation.samples:
            if not self.candidates:
                raise generation.error
            self.budget = len(self.candidates)  # What there is decides: the model has no more to give.
            return
        for sample in generation.samples:
            self.completion_tokens += sample.completion_tokens
            place = RolloutId(len(self.candidates))
            self.candidates.append(self._rules.judge(_well_formed(sample), id=place, wave=self.waves))
        if len(generation.samples) < count:
            self.budget -= count - len(generation.samples)

    def _tokens_left(self) -> int | None:
        budget = self._settings.token_budget
        if budget is None:
            return None
        return max(0, budget - self._state.get("completion_tokens", 0) - self.completion_tokens)

    def event(self) -> Json:
        """The progress event of what was drawn so far."""
        standing = self.standing()
        return {
            "stage": "call",
            "id": self._state.get("episode_id", ""),
            "wave": self.waves,
            "candidates": len(self.candidates),
            "budget": self.budget,
            "leader": standing.leader,
            "share": standing.share,
            "tokens": self._state.get("completion_tokens", 0) + self.completion_tokens,
        }

    def _progress(self) -> OnDelta:
        """A callback that reports the tokens of the wave under way, a few times a second."""
        event, pieces, last = self.event(), 0, time.monotonic()

        def on_delta(delta: Delta) -> None:
            nonlocal pieces, last
            pieces += 1
            if time.monotonic() - last >= PROGRESS_SECONDS:
                last = time.monotonic()
                self._writer({**event, "tokens": event["tokens"] + pieces})

        return on_delta


def called(state: KaelumState) -> tuple[ToolCall, ...]:
    """The calls that the vote came to; none where it came to words, or there was no vote."""
    return tuple(ToolCall(**call) for call in read_called(state).get("calls") or ())


def call_candidates(state: KaelumState) -> Sequence[CallCandidate]:
    """The turns that were sampled with the tools."""
    return CANDIDATES.validate_python(read_called(state).get("candidates") or [])


def call_trace(state: KaelumState) -> list[Json]:
    """What was sampled with the tools, turn by turn."""
    return [
        {
            "id": one.id,
            "wave": one.wave,
            "outcome": one.kind,
            "calls": [{"name": call.name, "arguments": call.arguments} for call in one.calls],
            "left_out": list(one.left_out),
            "error": one.fault,
            "tokens": one.completion_tokens,
            "finish": one.finish,
            "text": one.text,
        }
        for one in call_candidates(state)
    ]


def _well_formed(sample: Sample) -> Sample:
    calls = tuple(ToolCall(*map(well_formed, (call.id, call.name, call.arguments))) for call in sample.calls)
    return dataclasses.replace(sample, text=well_formed(sample.text), calls=calls)
