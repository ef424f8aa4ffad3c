"""The node that asks a person about an answer the search is not sure of.

It stands before anything is learned or kept, because an interrupted node runs again from its start. What the person
says is carried in the state and learned by the feedback node, once.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, cast

from langgraph.types import interrupt

from kaelum_flow.episodes import MOST_ROLLOUTS, NO_FULL_RUN, further_route
from kaelum_flow.services import Services
from kaelum_flow.state import (
    KaelumState,
    current_options,
    current_query,
    current_request,
    current_route,
    read_tree,
    well_formed,
)
from kaelum_graph.answer import Alternative, Choice
from kaelum_graph.equality import answers_equal
from kaelum_graph.errors import UsageError
from kaelum_graph.evidence import Evidence, Outcome, Tier
from kaelum_graph.feedback import Feedback
from kaelum_graph.learning.ratings import PERSON
from kaelum_graph.posterior import FAIL_CONFIDENCE, PASS_CONFIDENCE
from kaelum_graph.types import EpisodeId, Json
from kaelum_graph.verdict import Verdict, answer_text

SOURCE = "review"
"""Source of the ratings that reviewers give."""
USUAL_SIMS = 8
"""Rollouts that a search which is sent on gets, where the reviewer doesn't say."""
FORMS = (
    "{'action': 'accept'}, {'action': 'reject'}, {'action': 'correct', 'answer': TEXT} or {'action': 'search', "
    f"'sims': 1 to {MOST_ROLLOUTS}}}"
)


class ReviewNode:
    """The node that interrupts the run for a person's word, over one set of services."""

    def __init__(self, services: Services) -> None:
        self.services = services

    def review(self, state: KaelumState) -> Json:
        """The verdict as the person leaves it, or a search that goes on. A word that makes no sense is asked for again:
        an error would come back with every resumption, for what a run was resumed with is kept."""
        verdict = Verdict.from_json(state.get("verdict") or {})
        question, word = self.question(state, verdict), None
        while word is None:
            try:
                word = read_word(interrupt(question), verdict)
            except UsageError as error:
                question = {**question, "error": str(error)}
        match word["action"]:
            case "search":
                return self.search_on(state, word["sims"])
            case "correct":
                said = {"correction": word["answer"]}
                after = judged(verdict, "pass", "given on review", answer=word["answer"], text=word["answer"])
            case "accept":
                said = {"score": 1.0}
                after = judged(verdict, "pass", "accepted on review", text=self.text_of(state, verdict))
            case _:
                said = {"score": 0.0}
                after = judged(verdict, "fail", "rejected on review", text=verdict.text)
        waited = time.time() - state.get("judged_at", time.time())
        return {
            "verdict": after.to_json(),
            "reviewed": said,
            "started_at": state.get("started_at", time.time()) + waited,
        }

    def question(self, state: KaelumState, verdict: Verdict) -> Json:
        """What the person sees: the interrupt's value."""
        return {
            "id": state.get("episode_id", ""),
            "question": current_query(state).text,
            "answer": verdict.answer,
            "text": self.text_of(state, verdict),
            "confidence": verdict.confidence,
            "worker": verdict.worker,
            "alternatives": [
                {"answer": item.answer, "share": item.share, "confidence": item.confidence}
                for item in verdict.alternatives
            ],
            "reasons": list(verdict.reasons),
        }

    def text_of(self, state: KaelumState, verdict: Verdict) -> str:
        """The attempt that stands for the leading answer; what is said in place of one where there is none."""
        if verdict.rollout is None:
            return verdict.text
        return answer_text(read_tree(state).rollouts[verdict.rollout].candidate)

    def search_on(self, state: KaelumState, sims: int) -> Json:
        """`sims` rollouts more in the same tree; time and tokens are counted anew, and what stopped it won't again."""
        settings = self.services.settings_for({**current_options(state), "sims": sims})
        taken = state.get("judged_at", time.time()) - state.get("started_at", time.time())
        return {
            # Sent on because of what it had come to: no fair sample of what a full run is worth.
            "route": {**further_route(current_route(state), read_tree(state), settings=settings), **NO_FULL_RUN},
            "started_at": time.time(),
            "seconds_before": state.get("seconds_before", 0.0) + taken,
            "tokens_before": state.get("completion_tokens", 0),
            "overruled": state.get("halt"),
            "halt": None,
        }

    def after_review(self, state: KaelumState) -> str:
        """Where to go: back to the "lats", or on as an answer goes that needed no review."""
        if not state.get("halt"):
            return "lats"
        return "shape" if current_request(state).get("shape") else "feedback"


def needs_review(state: KaelumState) -> bool:
    """Whether to ask a person: of an answer that did not pass, unless whoever asked has left."""
    return not (state.get("verdict") or {}).get("passed") and state.get("halt") != "cancelled"


def review_of(state: KaelumState, *, tenant: str) -> Feedback | None:
    """What the reviewer said, as a rating of the episode; None where nobody was asked. Its id is the episode's own, so
    that a node that runs again says it once."""
    said = state.get("reviewed")
    if not said:
        return None
    episode_id = state.get("episode_id", "")
    return Feedback(id=f"{SOURCE}-{episode_id}", episode_id=EpisodeId(episode_id), tenant=tenant, source=SOURCE, **said)


def judged(verdict: Verdict, outcome: Outcome, reason: str, *, text: str, answer: str | None = None) -> Verdict:
    """The verdict with a person's vote, which outweighs every other."""
    vote, passed = Evidence(tier=Tier.HUMAN, source=PERSON, outcome=outcome, reason=reason), outcome == "pass"
    after = dataclasses.replace(
        verdict,
        passed=passed,
        status="verified" if passed else "unsure",
        text=text,
        confidence=(PASS_CONFIDENCE if passed else FAIL_CONFIDENCE)[Tier.HUMAN],
        evidence=(vote, *verdict.evidence),
        reasons=() if passed else (reason, *verdict.reasons),
    )
    if answer is None:
        best = [
            dataclasses.replace(one, confidence=after.confidence, status=after.status) for one in verdict.choices[:1]
        ]
        leading = [dataclasses.replace(one, confidence=after.confidence) for one in verdict.alternatives[:1]]
        return dataclasses.replace(
            after, choices=(*best, *verdict.choices[1:]), alternatives=(*leading, *verdict.alternatives[1:])
        )
    return corrected(after, answer, vote)


def corrected(verdict: Verdict, answer: str, vote: Evidence) -> Verdict:
    """The verdict with the answer that a person gave, and the search's own as what they are then: wrong, but for one
    that equals it."""
    equal = [one for one in verdict.alternatives if answers_equal(one.answer, answer)]
    given = Alternative(
        answer=answer,
        share=sum(one.share for one in equal),
        confidence=verdict.confidence,
        rollouts=tuple(rollout for one in equal for rollout in one.rollouts),
    )
    wrong = [
        dataclasses.replace(one, confidence=FAIL_CONFIDENCE[Tier.HUMAN])
        for one in verdict.alternatives
        if one not in equal
    ]
    choice = Choice(
        text=answer,
        answer=answer,
        confidence=verdict.confidence,
        share=given.share,
        worker=verdict.worker,
        status=verdict.status,
    )
    return dataclasses.replace(
        verdict,
        answer=answer,
        evidence=(vote,),
        alternatives=(given, *wrong),
        choices=(choice,) if verdict.choices else (),
    )


def read_word(word: object, verdict: Verdict) -> Json:
    """What the run was resumed with, checked: its `action`, and the `answer` or the `sims` that belong to it.

    Raises `UsageError`.
    """
    said: dict[str, Any] = {"action": word} if isinstance(word, str) else {}
    if isinstance(word, Mapping):
        said = dict(cast("Mapping[str, Any]", word))
    match said.get("action"):
        case "accept" if verdict.rollout is not None:
            return said
        case "reject":
            return said
        case "correct" if isinstance(answer := said.get("answer"), str) and answer.strip():
            return {**said, "answer": well_formed(answer)}
        case "search":
            sims = said.get("sims", USUAL_SIMS)
            if isinstance(sims, int) and not isinstance(sims, bool) and 1 <= sims <= MOST_ROLLOUTS:
                return {**said, "sims": sims}
        case "accept":
            raise UsageError("review: there is no answer to accept; correct it, reject it or search on.")
        case _:
            pass
    raise UsageError(f"review: the run was resumed with {word!r}; expected {FORMS}.")
