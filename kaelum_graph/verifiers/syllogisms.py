"""Decides whether a categorical conclusion follows: every sentence of the question is read, or there is no vote."""

from __future__ import annotations

import re
from typing import Literal

from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.categorical import MAX_TERMS, fit, follows, related, terms_of
from kaelum_graph.verifiers.syllogism_questions import Argument, read_argument
from kaelum_graph.verifiers.votes import shortened, unscored, vote

Said = Literal["yes", "no", "open", "not shown"]
"""An answer: yes (valid, true, it follows), no, cannot be determined, or that it does not follow."""


@register
class SyllogismVerifier(Verifier):
    """Passes or fails a yes or no to a question of what follows from categorical statements."""

    name = "syllogism"
    tier = Tier.CONSTRAINT

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        argument = read_argument(query.text)
        if isinstance(argument, str):
            return unscored(self, argument)
        if candidate.answer is None:
            return unscored(self, "no answer")
        said = read_said(candidate.answer)
        if said is None:
            return unscored(self, f"'{shortened(candidate.answer)}' is no verdict that can be read")
        decided = decide(argument)
        if isinstance(decided, str):
            return unscored(self, decided)
        right, reasons = decided
        if said in right:
            return vote(self, "pass", "the answer fits every case that the premises allow")
        if said in reasons:
            return vote(self, "fail", reasons[said])
        return unscored(self, f"'{shortened(candidate.answer)}' can be meant in two ways here")


def decide(argument: Argument) -> tuple[frozenset[Said], dict[Said, str]] | str:
    """The right answers, and the wrong ones with what is wrong; what is in neither can't be judged.

    A text instead where nothing can be decided: it says why.
    """
    readings = (False, True) if argument.members is None else (argument.members,)
    everything = (*argument.premises, argument.conclusion)
    if len(terms_of(everything)) > MAX_TERMS:
        return f"more than {MAX_TERMS} terms"
    names = {premise.name for premise in argument.premises}
    unmet = [term.text for term in argument.conclusion.terms if term not in terms_of(argument.premises)]
    if argument.conclusion.name and argument.conclusion.name not in names:
        unmet.append(argument.conclusion.name)
    if unmet:
        return f"the premises say nothing of '{unmet[0]}'"
    denial = argument.conclusion.denied()
    found: set[str] = set()
    for members in readings:
        if not fit(argument.premises, members=members):
            return "the premises contradict one another"
        proved = follows(argument.premises, argument.conclusion, members=members)
        refuted = follows(argument.premises, denial, members=members)
        found.add("proved" if proved else "refuted" if refuted else "undecided")
    proved = found == {"proved"}
    if argument.asks == "consequence":
        # "No" is the answer to both others.
        found = {"proved" if result == "proved" else "open" for result in found}
    if len(found) > 1:
        return "the answer depends on whether every class is taken to have a member"
    if not proved:
        pair = related(everything)
        if pair:
            return f"'{pair[0]}' and '{pair[1]}' may have to do with each other in a way that was not said"
    return _verdicts(argument, found.pop())


def _verdicts(argument: Argument, result: str) -> tuple[frozenset[Said], dict[Said, str]]:
    holds = "no case that the premises allow breaks the conclusion"
    breaks = f"the premises can all be true while {argument.conclusion.denied()}"
    if result == "proved":
        return frozenset({"yes"}), {"no": holds, "open": holds, "not shown": holds}
    if argument.asks == "consequence":
        # Where a third answer is offered, "no" may also be meant for what the premises rule out.
        return (frozenset() if argument.third else frozenset({"no", "not shown"})), {"yes": breaks}
    if result == "refuted":
        wrong = "no case that the premises allow meets the conclusion"
        return frozenset({"no"}), {"yes": wrong, "open": wrong}
    if not argument.third:
        return frozenset(), {}
    both = "the premises can all be true with the conclusion and without it"
    return frozenset({"open", "not shown"}), {"yes": breaks, "no": both}


# -- reading the answer -----------------------------------------------------------------------------------------------

_FIRST = re.compile(
    r"[\s\"'(]*(?P<word>yes|no|true|false|valid|invalid|correct|incorrect)\b(?=\s*$|\s*[,.;:!()–—-]|\s+(?:it"
    r"|this|that|the|we|because|"
    r"since|argument|syllogism|conclusion)\b)",
    re.IGNORECASE,
)
_VERDICTS: tuple[tuple[Said, str], ...] = (
    ("open", r"(?:cannot|can't|can not|could not) be (?:determined|known|decided|said|told)|uncertain|unknown"
        r"|undetermined"
     r"|indeterminate|not enough information|insufficient information|(?:cannot|can't) (?:tell|say|know|determine)"),
    ("not shown", r"(?:does|do|did|would|will) not (?:\w+ )?follow|doesn't (?:\w+ )?follow|(?:cannot|can't|can "
        r"not) (?:\w+ )?"
     r"(?:be )?(?:conclude|infer|deduce)d?|not (?:necessarily|logically)(?: \w+)?|not (?:entailed|implied)"),
    ("no", r"invalid|not (?:logically )?(?:valid|true|correct)|isn't (?:valid|true)|false|incorrect"),
    ("yes", r"(?<!not )(?:(?:does|it|conclusion|which|statement|and|logically|necessarily) (?:logically "
        r"|necessarily )?follows?)"
     r"|(?:can|may) (?:\w+ )?(?:be )?(?:conclude|infer|deduce)d?|\b(?<!not )(?<!not logically )(?:valid"
     r"|entailed|true|correct)\b"),
)  # fmt: skip


def read_said(answer: str) -> Said | None:
    """The verdict that an answer gives; None when it gives none, or two."""
    text = " ".join(answer.replace("’", "'").replace("*", "").split())
    if len(text) > 600:
        return None
    found: list[tuple[int, Said]] = []
    rest = text.lower()
    for said, pattern in _VERDICTS:
        for match in re.finditer(rf"\b(?:{pattern})\b", rest):
            found.append((match.start(), said))
        rest = re.sub(rf"\b(?:{pattern})\b", lambda match: " " * len(match[0]), rest)
    kinds: set[Said] = {said for _, said in found}
    first = _FIRST.match(text)
    if first is None:
        # "It is not so that it follows": a denial that no phrase above took in.
        denied = kinds == {"yes"} and re.search(r"\b(?:not|no|never|neither|nor|fails?|hardly)\b|n't\b", rest)
        return kinds.pop() if len(kinds) == 1 and len(text) <= 200 and not denied else None
    leading: Said = "yes" if first["word"].lower() in ("yes", "true", "valid", "correct") else "no"
    behind = text[first.end() :].lower()
    # "No, it does not follow" and "Yes, it follows"; what is true or false on the way is not the verdict.
    turned = (
        r"(?:not|n't) (?:\w+ )?follow|invalid|not valid|cannot (?:be )?conclude"
        if leading == "yes"
        else r"\bit follows|\bis valid"
    )
    return None if re.search(turned, behind) else leading
