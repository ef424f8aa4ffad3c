"""The node that puts an answer in the form that the caller asked for."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from langchain_core.runnables import RunnableConfig
from langgraph.types import StreamWriter

from kaelum_flow.lats import cancel_token
from kaelum_flow.services import Services
from kaelum_flow.state import (
    KaelumState,
    current_options,
    current_query,
    current_request,
    read_tree,
    requested_shape,
    seconds_left,
    tokens_left,
    told_of,
)
from kaelum_graph.config import Settings
from kaelum_graph.errors import FormError, ModelError
from kaelum_graph.models.base import CancelToken, Generation, GenerationRequest, Sampling
from kaelum_graph.shapes import Draft, Shaped, ShapeRules
from kaelum_graph.types import Json, Query, Shape
from kaelum_graph.verdict import Verdict, answer_text

USUAL_SAMPLES = 3
SAMPLES = {"none": 1, "minimal": 1, "low": 1, "high": 5, "xhigh": 7, "max": 9}
"""Texts asked for by effort, where it is not the usual."""
ROUNDS = 3
"""Times that the model is asked until something fits."""
SHAPE_TOKENS = 1024
SHAPE_SEED = 60_000_000


class ShapeNode:
    """The node that asks for the answer in form, over one set of services."""

    def __init__(self, services: Services) -> None:
        self.services = services

    def shape(self, state: KaelumState, config: RunnableConfig, writer: StreamWriter) -> Json:
        """The verdict with its text, and that of each of its choices, in form: the JSON that most samples agree on.

        One sample is drawn even where time or tokens are spent: an answer out of form is worth nothing to whoever asked
        for one. A choice that can't be put in form is left out with a notice. Raises `ModelError` where that is so of
        the answer itself.
        """
        shape, verdict = requested_shape(current_request(state)), Verdict.from_json(state.get("verdict") or {})
        assert shape is not None, "only answers that must have a form come here"
        settings = self.services.settings_for(current_options(state))
        drafts = drafts_of(state, verdict)
        shaping = _Shaping(self.services, state, settings, shape, cancel=cancel_token(self.services, config))
        shaping.run(drafts)
        first = shaping.results[0]
        if first is None:
            line = f"The answer could not be put in the form that was asked for: {shaping.fault}."
            raise (FormError if shaping.unfit else ModelError)(line).quoting(shaping.fault)
        notices = verdict.notices
        if missing := sum(one is None for one in shaping.results):
            notices = (*notices, f"{missing} of {len(drafts)} answers could not be put in form, and were left out.")
        choices = [
            dataclasses.replace(choice, text=result.text)
            for choice, result in zip(verdict.choices, shaping.results, strict=False)
            if result is not None
        ]
        told_of(state, writer)(
            {
                "stage": "shape",
                "answers": len(drafts),
                "samples": shaping.samples,
                "valid": shaping.valid,
                "share": first.share,
                "tokens": state.get("completion_tokens", 0) + shaping.completion_tokens,
            }
        )
        shown = dataclasses.replace(verdict, text=first.text, choices=tuple(choices), notices=notices)
        return {
            "verdict": shown.to_json(),
            "shaped": {"samples": shaping.samples, "valid": shaping.valid, "share": first.share},
            "prompt_tokens": state.get("prompt_tokens", 0) + shaping.prompt_tokens,
            "completion_tokens": state.get("completion_tokens", 0) + shaping.completion_tokens,
        }


def drafts_of(state: KaelumState, verdict: Verdict) -> list[Draft]:
    """What there is to put in form: the answer, or each of several. An unsure one as it was, not as it is told."""
    if (right := (state.get("reviewed") or {}).get("correction")) is not None:
        return [Draft(text=right)]
    if verdict.choices:
        return [Draft(text=choice.text, answer=choice.answer) for choice in verdict.choices]
    rollouts = read_tree(state).rollouts
    if verdict.rollout is not None and verdict.rollout < len(rollouts):
        return [Draft(text=answer_text(rollouts[verdict.rollout].candidate), answer=verdict.answer)]
    # Without a rollout the text says that there is no answer, or is what the model said in its place.
    said = "" if state.get("tree") else verdict.text
    return [Draft(text=said)]


class _Shaping:
    """One query's answers on their way into form; `results` goes with the drafts."""

    def __init__(
        self, services: Services, state: KaelumState, settings: Settings, shape: Shape, *, cancel: CancelToken | None
    ) -> None:
        self._services, self._state, self._settings, self._cancel = services, state, settings, cancel
        self._query: Query = current_query(state)
        self._rules = ShapeRules(shape)
        self._constrained = services.model.capabilities.shapes
        self._texts: list[list[str]] = []
        self._faults: list[str] = []
        self.results: list[Shaped | None] = []
        self.fault = "the model gave nothing"
        self.unfit = False  # what it gave doesn't fit
        self.samples = self.valid = self.prompt_tokens = self.completion_tokens = 0

    def run(self, drafts: Sequence[Draft]) -> None:
        """Ask until every draft has something that fits, or the rounds are used up."""
        self._texts, self._faults = [[] for _ in drafts], [""] * len(drafts)
        self.results = [self._given(draft) for draft in drafts]
        limit = self._settings.max_tokens or SHAPE_TOKENS
        for turn in range(ROUNDS):
            open_drafts = [place for place, result in enumerate(self.results) if result is None]
            # Whoever has gone needs no further tries; nor does a spent budget pay for them.
            if not open_drafts or (turn and self._spent()):
                break
            cut = self._ask([(place, drafts[place]) for place in open_drafts], limit=limit, turn=turn)
            for place in open_drafts:
                self.results[place], fault = self._rules.choose(self._texts[place])
                self._faults[place] = fault
            if cut and self._settings.max_tokens is None:
                limit *= 2
        self.valid = sum(self._fits(text) for texts in self._texts for text in texts)
        if self._cancelled():
            self.fault = "the search was cancelled"
        elif self._faults[0]:
            self.fault, self.unfit = self._faults[0], True

    def _ask(self, drafts: Sequence[tuple[int, Draft]], *, limit: int, turn: int) -> bool:
        """One call of the model for all of `drafts`; whether any text was cut short by its limit."""
        settings = self._settings
        count = 1 if self._spent() else SAMPLES.get(settings.effort or "", USUAL_SAMPLES)
        left = seconds_left(self._state, settings.deadline, shaping=True)
        # With no time left one sample is drawn all the same, and nothing bounds it but its length.
        deadline = None if left is None or left == 0.0 else time.monotonic() + left
        requests = [
            GenerationRequest(
                messages=self._rules.messages(self._query, draft, fault=self._faults[place] or None),
                n=count,
                sampling=Sampling(
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    max_tokens=limit,
                    seed=None if settings.seed is None else settings.seed + SHAPE_SEED + 10_000 * turn + place,
                ),
                shape=self._rules.shape if self._constrained else None,
            )
            for place, draft in drafts
        ]
        generations = self._services.model.generate(requests, deadline=deadline, cancel=self._cancel)
        for (place, _), generation in zip(drafts, generations, strict=True):
            self._take(place, generation)
        return any(sample.finish == "length" for generation in generations for sample in generation.samples)

    def _take(self, place: int, generation: Generation) -> None:
        if generation.error is not None and not generation.samples:
            if place == 0:
                raise generation.error
            return
        self.prompt_tokens += generation.prompt_tokens
        for sample in generation.samples:
            self.samples += 1
            self.completion_tokens += sample.completion_tokens
            self._texts[place].append(sample.text)

    def _given(self, draft: Draft) -> Shaped | None:
        """What a person gave in the form already is the answer as it stands."""
        if "correction" in (self._state.get("reviewed") or {}) and self._fits(draft.text):
            return Shaped(text=draft.text, share=1.0)
        return None

    def _fits(self, text: str) -> bool:
        try:
            self._rules.read(text)
        except ValueError:
            return False
        return True

    def _spent(self) -> bool:
        tokens = tokens_left(self._state, self._settings.token_budget)
        no_time = seconds_left(self._state, self._settings.deadline, shaping=True) == 0.0
        return self._cancelled() or no_time or (tokens is not None and self.completion_tokens >= tokens)

    def _cancelled(self) -> bool:
        return self._cancel is not None and self._cancel.cancelled
