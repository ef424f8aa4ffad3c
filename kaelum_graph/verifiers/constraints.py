"""Checks the form that a query demands of its answer: lengths, words to use or avoid, letter case, JSON, bullets.

A broken demand always counts as a fail. A pass is given to drafts alone (a text of a dozen words or more that is the
whole turn): there the demands are what can be checked at all. It is an anchor for a prose worker's drafts, so that the
search ends once one meets them; the verdict then says that the form was checked and nothing more. From any other worker
a text states facts, which no form makes true: there the pass is no anchor (X). A value in the right form proves nothing
at all, so it stays unscored. Demands on a whole text are made of answers that are the whole turn.
"""

from __future__ import annotations

import re

from kaelum_graph.evidence import FORM, Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query, WorkerName
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.demands import demands
from kaelum_graph.verifiers.votes import unscored, vote

DRAFT_WORDS = 12


@register
class ConstraintVerifier(Verifier):
    """Fails on the first broken demand; passes a draft that meets all of them."""

    name = FORM
    tier = Tier.CONSTRAINT

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        found = demands(query.text)
        if not found:
            return unscored(self, "the query makes no demand on the form that can be checked")
        if candidate.answer is None:
            return unscored(self, "no answer")
        whole = is_whole_turn(candidate)
        for demand in found:
            if demand.drafts_only and not whole:
                continue
            broken = demand.broken(candidate.answer)
            if broken:
                return vote(self, "fail", broken)
        if not whole or len(re.findall(r"\w+", candidate.answer)) < DRAFT_WORDS:
            return unscored(self, "the form is right, which says nothing about the value")
        tier = Tier.CONSTRAINT if _is_prose(candidate.worker) else Tier.CROSS_CHANNEL
        return vote(self, "pass", f"form checked: {', '.join(each.name for each in found)}", tier=tier)


def _is_prose(name: WorkerName) -> bool:
    from kaelum_graph.workers import all_workers  # which name their verifiers, and so are imported later

    worker = all_workers().get(name)
    return worker is not None and worker.prose


def is_whole_turn(candidate: Candidate) -> bool:
    """Whether the answer is the whole turn in words, not a value in it or data."""
    if candidate.answer is None or candidate.program:
        return False
    if candidate.answer.lstrip()[:1] in ("{", "["):
        return False  # data: it carries values
    answer, text = (len(re.findall(r"\w+", each)) for each in (candidate.answer, candidate.text))
    return answer >= 0.8 * text
