"""Adds an answer to the beginning that a query names and looks whether that gives the end it names."""

from __future__ import annotations

from datetime import timedelta

from kaelum_graph.durations import Form, asked_form, asked_span, read_duration
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote, without_examples


@register
class DurationVerifier(Verifier):
    """Passes when the first instant plus the answer is the second instant."""

    name = "duration"
    tier = Tier.CONSTRAINT

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        question = without_examples(query.text)
        span = asked_span(question)
        if span is None:
            return unscored(self, "the query asks for no time between two instants")
        form = asked_form(question)
        stated = read_duration(candidate.answer or "", form=form)
        if stated is None:
            return unscored(self, "the answer is no duration")
        if _shows(stated, span.length, form):
            return vote(self, "pass", f"{span.start} plus {shortened(candidate.answer or '')} is {span.end}")
        return vote(self, "fail", f"{span.start} plus {shortened(candidate.answer or '')} is not {span.end}")


def _shows(stated: timedelta, length: timedelta, form: Form | None) -> bool:
    """Whether `stated` is `length`, cut off as the form makes it; thousandths may be rounded."""
    if form is None:
        return stated == length
    if form.thousandths:
        return abs(length - stated) <= form.unit
    return timedelta() <= length - stated < form.unit
