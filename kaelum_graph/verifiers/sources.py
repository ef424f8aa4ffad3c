"""Looks a short answer up in the passages that were retrieved for its question.

The tier. What a passage says comes from outside the policy model, so it shares none of the model's biases. But it is no
anchor: an anchor checks an answer against the question itself (put it in, run it), and holds whoever wrote what. A
passage is someone's claim, found by a search that may find the wrong page, an old one, or one that was planted. So its
vote is X unless the caller vouches for the retriever (`trust_sources`); a passage of a trusted one is a constraint on
the answer that the caller has set, which is what tier V stands for.

An answer that no passage mentions is unscored: passages are few, and what they leave out is not false. It fails only
where a passage gives another value in the question's own words ("What is the R of N?", "The R of N is V."), and that
vote stays X even from a trusted source: one thing under two names looks like two things.
"""

from __future__ import annotations

import re

from kaelum_graph.equality import answers_equal
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.retrieval import Passage
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.sentences import sentences, tokens
from kaelum_graph.support import is_checkable, supports
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote

_ASKS_RELATION = re.compile(
    r"(?:what|which|who)(?:'s|’s| is| was) the (?P<relation>[a-z]+(?: [a-z]+)?) of "
    r"(?P<thing>(?:the )?[^,;?!]{2,60})\?*",
    re.IGNORECASE,
)
_VALUE = r"(?:the )?(?P<value>[A-Z0-9][\w.'’-]*(?: [A-Z0-9][\w.'’-]*){0,3})"


@register
class SourcesVerifier(Verifier):
    """Passes where a passage supports the answer; fails where all that answer the question's pattern contradict it."""

    name = "sources"
    tier = Tier.CROSS_CHANNEL

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        if not query.sources:
            return unscored(self, "no passages were retrieved")
        if candidate.answer is None:
            return unscored(self, "no answer")
        if not is_checkable(query.text, candidate.answer):
            return unscored(self, "the answer is none that can be looked up")
        found = [passage for passage in query.sources if supports(passage, query.text, candidate.answer)]
        if found:
            best = next((passage for passage in found if passage.trusted), found[0])
            tier = Tier.CONSTRAINT if best.trusted else Tier.CROSS_CHANNEL
            place = query.sources.index(best) + 1
            return vote(self, "pass", f"[{place}] says so{f': {best.label}' if best.label else ''}", tier=tier)
        said = {value: passage for passage in query.sources for value in [stated_value(passage, query.text)] if value}
        if said and all(_differ(value, candidate.answer) for value in said):
            value, passage = next(iter(said.items()))
            place = query.sources.index(passage) + 1
            return vote(self, "fail", f"[{place}] gives another answer: {shortened(value)}")
        return unscored(self, "no passage says so, none says otherwise")


def stated_value(passage: Passage, question: str) -> str | None:
    """V where a whole sentence is "The R of N is V." or "V is the R of N.", for the question "What is the R of N?"."""
    asked = _ASKS_RELATION.fullmatch(question.strip())
    if not asked:
        return None
    relation, thing = (re.escape(asked[name].strip().removeprefix("the ")) for name in ("relation", "thing"))
    of = rf"[Tt]he {relation} of (?:the )?{thing}"
    for sentence in sentences(passage.text):
        found = re.fullmatch(rf"{of} (?:is|was) {_VALUE}\.?", sentence) or re.fullmatch(
            rf"(?:The )?{_VALUE} (?:is|was) {of}\.?", sentence
        )
        if found:
            return found["value"].rstrip(".")
    return None


def _differ(one: str, other: str) -> bool:
    """Whether two values have nothing in common: "Mexico City" and "Mexico" may be one and the same."""
    keys, others = ({token.key for token in tokens(text) if token.kind != "small"} for text in (one, other))
    return not keys & others and not answers_equal(one, other)
