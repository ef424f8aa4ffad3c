"""Looks whether an analysis treats every side that its query names; what it says of them is not judged."""

from __future__ import annotations

import re

from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote, without_examples

_COMPARED = re.compile(
    r"\b(?:compar(?:e|ing|ison of)|contrast|differences?\s+between|similarities\s+between|"
    r"distinguish(?:\s+between)?)\s+"
    r"(?:the\s+(?:advantages|benefits|merits|costs|\w+)\s+of\s+)?"
    r"(?P<one>[^.,;:?!]{2,60}?)\s+(?:and|with|to|versus|vs\.?|from)\s+(?P<other>[^.,;:?!]{2,60}?)"
    r"(?=\s+(?:in|for|as|on|when|by|with respect|regarding)\b|[.,;:?!]|$)",
    re.IGNORECASE,
)
_PAIRS = (
    (r"advantages?\b.{0,20}\b(?:disadvantages?|drawbacks?)", ("advantage|benefit|strength|pro", "disadvantage|drawback|"
      "downside|weakness|con|cost")),
    (r"pros?\s+and\s+cons?", ("advantage|benefit|strength|pro", "disadvantage|drawback|downside|weakness|con|cost")),
    (r"strengths?\s+and\s+weakness(?:es)?", ("strength|strong|advantage", "weakness|weak|disadvantage")),
    (r"causes?\s+and\s+(?:effects?|consequences?)", ("cause|because|due|led", "effect|consequence|result|led")),
    (r"benefits?\s+and\s+(?:risks?|costs?|harms?)", ("benefit|advantage|gain", "risk|cost|harm|danger")),
    (r"(?:arguments?\s+)?for\s+and\s+against", ("for|support|favou?r|benefit|advantage", "against|oppos|drawback|"
      "disadvantage|however")),
)  # fmt: skip
_SMALL = frozenset("the a an of in to and or for its their our your his her using use being having".split())


@register
class StructureVerifier(Verifier):
    """Fails when a side that the query names is not treated at all; unscored where it names none."""

    name = "structure"
    tier = Tier.CROSS_CHANNEL

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        sides = asked_sides(query.text)
        if not sides:
            return unscored(self, "the query names no sides that must be treated")
        missing = [name for name, pattern in sides if not re.search(pattern, candidate.text, re.IGNORECASE)]
        if missing:
            return vote(self, "fail", f"nothing is said of {shortened(missing[0], limit=40)}")
        return vote(self, "pass", f"all {len(sides)} sides that were asked for are treated")


def asked_sides(question: str) -> list[tuple[str, str]]:
    """The sides that `question` wants treated: a name for each, and a pattern that a text which treats it matches."""
    text = without_examples(question)
    found: list[tuple[str, str]] = []
    compared = _COMPARED.search(text)
    if compared:
        sides = [(side, _words(side)) for side in (compared["one"], compared["other"])]
        # A side whose words are all the other's too can't be told apart.
        if all(words for _, words in sides) and set(sides[0][1]) != set(sides[1][1]):
            own = [(name, [word for word in words if word not in other] or words)
                   for (name, words), (_, other) in zip(sides, reversed(sides), strict=True)]  # fmt: skip
            found += [(name.strip(), "|".join(rf"\b{re.escape(_stem(word))}" for word in words)) for name, words in own]
    for asked, (first, second) in _PAIRS:
        match = re.search(rf"\b{asked}\b", text, re.IGNORECASE)
        if match:
            names = re.split(r"\s+and\s+|\s*[,/]\s*", match[0])
            named = (names[0], names[-1])
            sides = zip(named, (first, second), strict=True)
            found += [(name, rf"\b(?:{words})") for name, words in sides]
            break
    return found


def _words(side: str) -> list[str]:
    return [word for word in re.findall(r"[a-z0-9][\w+#.-]*", side.lower()) if word not in _SMALL]


def _stem(word: str) -> str:
    """A word without its plural, so that "trains" is found in "by train"."""
    return re.sub(r"(?:ies|es|s)$", "", word) if len(word) > 3 else word
