"""Reads a question of what follows from categorical statements: every sentence of it, or none.

A sentence that is no premise, no question and no known instruction stops the reading, so that no premise is overlooked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from kaelum_graph.verifiers.categorical import Claim, claim, term, terms_of
from kaelum_graph.verifiers.votes import shortened

MAX_PREMISES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """A question: whether `conclusion` follows from `premises`, or, with `asks` "truth", whether it holds given them.

    `third` says that the question offers "cannot be determined" as an answer; `members` what it says of classes
    without a member (True: there are none; False: there may be; None: nothing).
    """

    premises: tuple[Claim, ...]
    conclusion: Claim
    asks: Literal["consequence", "truth"]
    third: bool = False
    members: bool | None = None


_MAY_BE = re.compile(
    r"\b(?:all|every|each|any|no|none|some|only|if|everyone|anyone|anything|nobody|nothing|at "
    r"least one)\b",
    re.IGNORECASE,
)
_VERB = (
    r"(?:(?:please )?(?:consider|read|look at|take|evaluate|analy[sz]e|use|using)|here (?:are|is)|you are "
    r"given|we are given|given|"
    r"assum(?:e|ing)|suppos(?:e|ing)|imagine|let's (?:say|assume|suppose)|let us (?:say|assume|suppose)|it is "
    r"(?:given|known)|"
    r"(?:we|you|i) know|if we (?:know|assume)|from|based on)"
)
_NOUN = (
    r"(?:statements?|premises?|facts?|arguments?|syllogisms?|propositions?|sentences?|information|inference|reasoning|"
    r"assumptions?)"
)
_LEAD = re.compile(
    rf"(?:{_VERB}(?: that)? )?(?:all |only )?(?:(?:of|the|these|this|an?|both|two|three|four|five|following"
    rf"|given|simple|true|"
    rf"logical|categorical) )*{_NOUN}(?: (?:below|above|is|are|as|to be|hold|holds|all|given|true|about "
    rf"\w+))*\s*(?:[:,]\s*|$)"
    rf"|{_VERB}(?: the following| that|:|,)*\s+"
    r"|(?:question|problem|logic (?:puzzle|problem|question))\s*:\s*"
    r"|(?:and|but|also|moreover|furthermore|in addition|additionally|now|first|second|third|finally|further"
    r"|next|that)\b\s*,?\s*",
    re.IGNORECASE,
)
_MARK = re.compile(
    r"(?:therefore|thus|hence|so|consequently|conclusion|(?:it|this) (?:logically )?(?:follows|means"
    r"|implies)(?: that)?|"
    r"(?:therefore |so |thus )?we (?:can )?(?:conclude|infer)(?: that)?|we can therefore (?:conclude|infer)(?: that)?|"
    r"(?:the )?(?:proposed )?conclusion is(?: that)?)\b\s*[:,]?\s*",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"(?:(?:premise|statement|fact|assumption|sentence|p)\s*(?:\d|[ivx]{1,3}|[A-E])?\s*[:.)]|\(?\d\s*[.):]"
    r"|\(?[ivx]{1,3}[.)]"
    r"|\(?[a-e]\)|[-*•])\s+",
    re.IGNORECASE,
)
_IGNORED = re.compile(
    r"(?:please )?(?:(?:just |only )?(?:answer|respond|reply|write|choose|select|indicate)|give|options"
    r"|choices|possible answers)\b"
    r"(?! (?:whether|if|that))(?:(?! (?:is|are) ).)*"
    r"|(?:please )?(?:explain|justify|show|give)(?: (?:your|the|a|why|how|briefly|short|reasoning|reasons?"
    r"|answer|work|steps?|or|not|it))*"
    r"|(?:let's )?think (?:(?:it|this) through|step by step|carefully)(?: \w+){0,3}"
    r"|(?:yes|no)(?:,| or|/) ?(?:yes|no)|why(?: or why not)?|thanks?(?: you)?|hi|hello",
    re.IGNORECASE,
)
_THIRD = re.compile(
    r"\b(?:uncertain|unknown|undetermined|indeterminate|undecided|unclear|not enough information|insufficient "
    r"information"
    r"|(?:cannot|can't|can not) (?:be )?(?:determined?|known?|decided?|said|say|tell|told))\b",
    re.IGNORECASE,
)
_FROM = (
    r"(?: from (?:these|this|the|those|that|them)?(?: (?:above|given|following|two|three|four))*"
    r"(?: (?:statements?|premises?|facts?|propositions?|information))?(?: above| alone| given)?)?"
)
_THESE = (
    rf"(?:these|this|the|those)(?: (?:two|three|four|five|following|above|given|first|other))* {_NOUN}"
    r"(?: (?:above|below|alone|only|given))?"
)
_GIVEN = (
    rf"(?:(?:based|going) (?:only |solely )?on (?:{_THESE}|this|that),? ?|from {_THESE},? ?|given (?:{_THESE}|this),? ?"
    rf"|if {_THESE} (?:are|is) true,? ?|(?:then|so|now|therefore),? )?"
)
_SURE = (
    r"(?:logically|necessarily|validly|definitely|certainly|correctly|safely|therefore|then|also|deductively|always)"
)
_YOU = r"(?:we|one|you|i|it be)"
_CONSEQUENCE = (
    rf"(?:does|would|will|do) (?:it|this) (?:then )?(?:{_SURE} )?follow(?: {_SURE})?{_FROM}(?: that)?",
    rf"(?:can|could|may) {_YOU} (?:{_SURE} )?(?:conclude|infer|deduce|say|be (?:sure|certain)|concluded"
    rf"|inferred|deduced)"
    rf"(?: for (?:sure|certain)| with certainty)?{_FROM}(?: that)?",
    rf"(?:must|does) it (?:{_SURE} )?(?:be|have to be) (?:true|the case) that",
    rf"is it (?:{_SURE}) (?:true|the case)(?: that)?",
    rf"is it (?:valid|logical|logically valid|correct|legitimate) to (?:conclude|infer|deduce){_FROM}(?: that)?",
    rf"(?:do|does) (?:the|these|this|those) (?:\w+ )?(?:premises?|statements?|facts?) (?:{_SURE} )?(?:imply"
    rf"|entail|prove|mean)"
    rf"(?: that)?",
    rf"does (?:this|that|it) (?:{_SURE} )?(?:imply|entail|prove|mean)(?: that)?",
)  # fmt: skip
_TRUTH = (
    r"is it (?:true|the case)(?: that)?",
    r"true or false",
    r"(?:true, false,? or|is this true, false,? or) (?:uncertain|unknown|cannot be determined)",
    r"is the following (?:statement|conclusion|claim)? ?true(?: or false)?",
)
_OPEN_ASKS = tuple(
    (asks, re.compile(rf"{_GIVEN}(?:{pattern})(?P<tail>[ :,].*)?", re.IGNORECASE))
    for asks, patterns in (("consequence", _CONSEQUENCE), ("truth", _TRUTH))
    for pattern in patterns
)
_NAMED = re.compile(
    r"is the (?:following )?(?:statement|claim|conclusion|inference)(?: that)?[:,]? (?P<tail>.+?),? "
    r"(?:necessarily |logically )?"
    r"(?:(?P<true>true(?:,? (?:or )?false)?(?:,? or (?:not|uncertain|unknown|undetermined|cannot be determined))?)"
    r"|valid(?: or (?:not|invalid))?)",
    re.IGNORECASE,
)
_WHOLE = r"(?:argument|syllogism|conclusion|reasoning|inference|deduction|statement|last statement)"
_OF_MARKED = (
    ("consequence", rf"{_GIVEN}(?:is|are) (?:this|the|that|it|my|his|her)(?: (?:above|following|given))? ?(?:{_WHOLE})?"
     rf"(?: above)? ?(?:a )?(?:{_SURE} )?(?:valid|logical|justified|warranted)(?: or (?:not|invalid))?(?: {_WHOLE})?"),
    ("consequence", rf"(?:is it |determine (?:if|whether) (?:this|the) {_WHOLE} is |the {_WHOLE} is |decide: "
        rf")?valid(?:,? or |/)"
     r"(?:invalid|not|is it invalid)"),
    ("consequence", rf"(?:does|do) (?:this|the|that|it|his|her)(?: (?:above|following))? ?(?:{_WHOLE})? "
        rf"?(?:{_SURE} )?follow"
     rf"(?: {_SURE})?{_FROM}"),
    ("truth", rf"{_GIVEN}(?:is|are) (?:this|the|that|it) ?(?:{_WHOLE})? ?true"
     r"(?:,? (?:or )?false)?(?:,? or (?:uncertain|unknown|not|undetermined|cannot be determined))?"),
    ("truth", r"true(?:,? or |/|, )false(?:(?:,? or |/)(?:uncertain|unknown|undetermined|cannot be determined))?"),
)  # fmt: skip
_MARKED_ASKS = tuple((asks, re.compile(pattern, re.IGNORECASE)) for asks, pattern in _OF_MARKED)
_VERDICT_TAIL = re.compile(
    r"[\s:,;.–—-]*(?:\(?(?:is (?:this|that|it) )?(?:(?P<valid>valid(?: or |/)(?:invalid|not))"
    r"|(?P<true>true(?: or |/|, )false(?:(?:,? or |/)(?:uncertain|unknown|undetermined))?)"
    r"|(?P<yes>yes(?: or |/)no))\)?)$",
    re.IGNORECASE,
)
_MEMBERS = (
    (True, re.compile(r"(?:assume|suppose) (?:that )?(?:all|every|each|the|none of the) (?:of the )?(?:class"
        r"|categor|term|set|group)"
     r"\w*(?: mentioned| named)? (?:is|are|has|have) (?:all )?(?:non-?empty|at least one member|members|a "
     r"member)", re.I)),
    (False, re.compile(r"(?:do not assume|don't assume|without assuming) (?:that )?(?:any|the|all|every) "
        r"(?:class|categor|term|set"
     r"|group)\w* (?:is|are|has|have) (?:non-?empty|members|at least one member|a member)", re.I)),
)  # fmt: skip
_CERTAIN = re.compile(r"\b(?:necessarily|definitely|certainly|logically|for sure|for certain)\s?")
_ASKED_OF = re.compile(r"(?P<verb>is|are) (?P<rest>.+)", re.IGNORECASE)


def read_argument(question: str) -> Argument | str:
    """What the question asks; a text that says which part of it could not be read."""
    if not _MAY_BE.search(question) or len(question) > 3000:
        return "the query asks for no conclusion from categorical statements"
    reader = _Reader()
    for segment in _segments(question):
        if not reader.take(segment):
            return f"'{shortened(segment)}' could not be read"
    return reader.argument()


def _segments(question: str) -> list[str]:
    """Sentences and lines; a line that ends with a colon goes on in the next."""
    text = question
    for written, plainly in (("’", "'"), ("‘", "'"), ("“", '"'), ("”", '"'), ("*", " "), ("_", " ")):
        text = text.replace(written, plainly)
    lines = [line.strip() for line in text.splitlines()]
    lines = [_NUMBER.sub("", line, count=1) if _NUMBER.match(line) else line for line in lines]
    text = re.sub(r":\s*\n\s*", ": ", "\n".join(lines))
    text = re.sub(r"\s(?:premise|statement|p)\s*\d\s*[:.)]\s|(?<=[:.,;])\s\(?\d[.)]\s", "\n", text, flags=re.IGNORECASE)
    # What stands in parentheses at the end of a sentence is a sentence of its own: "(Answer Yes or No)".
    text = re.sub(r"\s\(([A-Z][^()]*)\)", r"\n\1\n", text)
    parts = re.split(r"(?<=[.!?;])[\"')]*\s+|\n+|(?<=[.!?;])[\"')]*$", text)
    return [part for part in (" ".join(part.replace('"', " ").split()) for part in parts) if re.search(r"\w", part)]


class _Reader:
    """Takes the question's segments in order; holds what they said."""

    def __init__(self) -> None:
        self.premises: list[Claim] = []
        self.marked: Claim | None = None
        self.asked: Claim | None = None
        self.asks: list[Literal["consequence", "truth"]] = []
        self.third = False
        self.members: bool | None = None

    def take(self, segment: str) -> bool:
        """Whether one segment could be read, whole."""
        if len(segment) > 600:
            return False
        for members, pattern in _MEMBERS:
            if pattern.fullmatch(segment.strip(" .")):
                self.members = members
                return True
        if self._marked(segment) or self._stated(segment):
            return True
        if self._question(segment) or _IGNORED.fullmatch(segment.strip(" .?!:")):
            self.third = self.third or bool(_THIRD.search(segment))
            return True
        return False

    def argument(self) -> Argument | str:
        """What was read in all."""
        conclusion = self.asked or self.marked
        if not self.asks or conclusion is None or (self.asked and self.marked):
            return "the query asks for no conclusion from categorical statements"
        if len(set(self.asks)) > 1 or not 1 <= len(self.premises) <= MAX_PREMISES:
            return f"{len(self.asks)} questions on {len(self.premises)} premises"
        names = {claim.name for claim in (*self.premises, conclusion) if claim.name}
        classes = set(terms_of((*self.premises, conclusion)))
        both = [name for name in names if (named := term(name)) is not None and named in classes]
        if both:
            return f"'{both[0]}' is used as a name and as a class"
        return Argument(
            premises=tuple(self.premises),
            conclusion=conclusion,
            asks=self.asks[0],
            third=self.third,
            members=self.members,
        )

    def _stated(self, segment: str) -> bool:
        """A premise, or several joined by "and"; also behind "Consider these statements:"."""
        if segment.endswith("?"):
            return False
        text = _without_lead(segment)
        claims = _claims(text)
        self.premises.extend(claims or ())
        return bool(claims) or not text.strip(" .:,")

    def _marked(self, segment: str) -> bool:
        """A conclusion: "Therefore, …", perhaps with its "valid or invalid?"."""
        found = _MARK.match(segment)
        if not found:
            return False
        body, asks = _without_tail(segment[found.end() :].strip())
        conclusion = claim(body.rstrip(" .?!:;"))
        if conclusion is None or self.marked or (segment.endswith("?") and not asks):
            return False
        self.marked = conclusion
        self.asks.extend([asks] if asks else [])
        self.third = self.third or bool(asks and _THIRD.search(segment[found.end() + len(body) :]))
        return True

    def _question(self, segment: str) -> bool:
        text = segment.strip()
        for asks, pattern in _MARKED_ASKS:
            if pattern.fullmatch(text.rstrip(" ?.:")):
                self.asks.append("consequence" if asks == "consequence" else "truth")
                return True
        return self._asked(text) or self._supposed(text)

    def _asked(self, text: str) -> bool:
        """ "Does it follow that S?", "Are all X Y?", "Is N a Y?"."""
        body, _ = _without_tail(text)
        named = _NAMED.fullmatch(text.rstrip(" ?."))
        said = claim(named["tail"]) if named else None
        if named and said and not self.asked:
            self.asked = said
            self.asks.append("truth" if named["true"] else "consequence")
            return True
        for asks, pattern in _OPEN_ASKS:
            found = pattern.fullmatch(body.rstrip(" ?."))
            tail = (found["tail"] or "").strip(" :,") if found else ""
            if not found or not tail:
                continue
            given = re.match(
                r"(?:if|given that|given|assuming(?: that)?) (?P<premises>.+), (?:then )?(?P<said>[^,]+)$", tail, re.I
            )
            claims = _claims(given["premises"]) if given else []
            said = claim(re.sub(r"^that\s+", "", given["said"] if given and claims else tail))
            if said is None or self.asked:
                continue
            self.asked = said
            self.premises.extend(claims or ())
            self.asks.append("consequence" if asks == "consequence" else "truth")
            return True
        return self._inverted(body) if text.endswith("?") else False

    def _inverted(self, text: str) -> bool:
        plain = re.sub(rf"^{_GIVEN}", "", text.rstrip(" ?."), flags=re.IGNORECASE)
        certain = bool(_CERTAIN.search(plain))
        said = _uninverted(_CERTAIN.sub("", plain).strip(), self.premises)
        if said is None or self.asked:
            return False
        self.asked = said
        self.asks.append("consequence" if certain else "truth")
        return True

    def _supposed(self, text: str) -> bool:
        """ "If P and Q, then is it true that S?": the premises and the question in one sentence."""
        found = re.match(
            r"(?:if|given that|given|since|because|suppose(?: that)?|assuming(?: that)?) (?=\S)", text, re.I
        )
        if not found or not text.endswith("?"):
            return False
        rest = text[found.end() :]
        for comma in reversed([match.start() for match in re.finditer(r",", rest)][-4:]):
            claims = _claims(rest[:comma])
            # "If any X are Y" supposes that some are, "anyone who is X is Y" says that all are.
            if claims is None or re.search(r"\bany", rest[:comma]):
                continue
            before = list(self.premises)
            self.premises.extend(claims)
            asked = re.sub(r"^(?:then|and|so)\s+", "", rest[comma + 1 :].strip())
            if self._asked(asked):
                return True
            self.premises = before
        return False


def _without_lead(segment: str) -> str:
    """The statement behind introductions such as "Consider these statements:" or "and"."""
    text = segment.strip()
    for _ in range(4):
        found = _LEAD.match(text)
        if claim(text) is not None or not found or not found.end():
            break
        text = text[found.end() :].strip()
    return text


def _claims(text: str) -> list[Claim] | None:
    """The statements that the whole of `text` joins with "and", commas or "but"; None when a part is none."""
    whole = claim(text.strip(" .,"))
    if whole:
        return [whole]
    parts = re.split(r",\s*(?:and|but|while)\s+|,|\s(?:and|but|while)\s", text)
    if len(parts) > MAX_PREMISES:
        return None
    read = [claim(re.sub(r"^(?:that|if)\s+", "", part.strip(" .,"))) for part in parts]
    found = [part for part in read if part is not None]
    return found if len(found) == len(read) > 1 else None


def _without_tail(text: str) -> tuple[str, Literal["consequence", "truth"] | None]:
    """`text` without a closing "valid or invalid?", and what that asks."""
    bare = text.rstrip(" ?.!)")
    found = _VERDICT_TAIL.search(bare)
    if not found or not bare[: found.start()].strip():
        return text, None
    return bare[: found.start()], "truth" if found["true"] else "consequence"


def _uninverted(text: str, premises: list[Claim]) -> Claim | None:
    """The statement asked for in "Are all X Y" or "Is N a Y", where X and Y are terms of the premises."""
    found = _ASKED_OF.fullmatch(text)
    if not found:
        return None
    verb, words = found["verb"].lower(), found["rest"].split(" ")
    known = set(terms_of(premises))
    names = {premise.name for premise in premises if premise.name}
    read: list[Claim] = []
    for cut in range(1, len(words)):
        subject, predicate = " ".join(words[:cut]), " ".join(words[cut:])
        if predicate.startswith("not "):
            return None  # "No" to "Is he not …?" is meant in both ways
        subject = re.sub(r"^any\b", "some", subject)
        said = claim(f"{subject} {verb} {predicate}")
        if said is None or (said.name and said.name not in names) or any(term not in known for term in said.terms):
            continue
        # "Are dogs animals?" may ask for all or for some.
        if said.name or re.match(r"(?:all|every|each|some|no|none)\b", subject):
            read.append(said)
    return read[0] if len(read) == 1 else None
