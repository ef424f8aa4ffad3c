"""Tells a request to the answer from a question that merely mentions a form.

"Answer in JSON" asks for a form; "What is a JSON object?", "Explain how JSON is parsed" and "Write a function that
returns JSON" speak of one. So a phrase counts as asked for only in a sentence that is a request (it begins with an
imperative, or says what the answer must be), outside of quotations, and with no clause of another subject between the
request's verb and the phrase. Whatever else is there makes it no request: an unread demand costs little, one that was
never made refutes right answers.
"""

from __future__ import annotations

import re
from functools import lru_cache

TEXT = (
    r"(?:text|answer|response|reply|output|result|story|tale|poem|haiku|limerick|verse|song|rap|sentence|paragraph|"
    r"passage|essay|article|summary|description|explanation|definition|message|e-?mail|letter|note|tweet|post|slogan|"
    r"tagline|headline|review|speech|report|list|dialogue|draft|blurb|caption|bio|biography|joke|riddle|pitch|toast|"
    r"statement|acrostic|piece|overview|abstract|recap|invitation|advert|ad)"
)
"""Nouns for what is written as an answer."""

_MAKES = (
    r"(?:(?:re)?write|compose|create|craft|draft|produce|generate|give|provide|make|tell|list|prepare|invent|present|"
    r"return|output|print|type|say|state|show|need|want)"
)
_TREATS = (
    r"(?:describe|explain|summari[sz]e|sum up|discuss|outline|define|introduce|rephrase|paraphrase|retell|recount|name|"
    r"express|argue|review|compare|analy[sz]e|evaluate|justify|elaborate|translate|imagine)"
)
_FORMS = (
    r"(?:answer|reply|respond|format|keep|limit|restrict|shorten|cut|condense|use|include|contain|mention|start|begin|"
    r"end|finish|conclude|avoid|add|put|do not|don't|never|have|be|consist)"
)
_OTHER = (
    r"(?:solve|find|compute|calculate|sort|read|take|look|consider|think|pick|choose|convert|identify|determine|decide|"
    r"help|check|count|continue|complete|correct|fix|edit|simplify|select|suggest|recommend|repeat)"
)
VERB = rf"(?:{_MAKES}|{_TREATS}|{_FORMS})"
MAKING = re.compile(rf"{_MAKES}\b", re.IGNORECASE)
TREATING = re.compile(rf"{_TREATS}\b", re.IGNORECASE)
_LEAD = (
    r"(?:(?:please|kindly|now|then|also|and|but|so|finally|next|first|just|only|simply|briefly|always|okay|ok|hello|hi|"
    r"hey|thanks|(?:can|could|would|will) you|i(?:'d| would) like(?: you to)?|i (?:want|need) you to|i|"
    r"you (?:must|should|have to|need to|are to)|your task is to|make sure (?:to|you|that)|make sure|be sure to|"
    r"remember to|try to|do not forget to|don't forget to)\b[,!]?\s+)*"
)
_SUBJECT = rf"(?:it|this|you|everything|(?:(?:the|your|a|an)\s+(?:[\w-]+\s+){{0,2}}?)?{TEXT}(?:\s+(?:that|which))?)"
_MODAL = (
    rf"(?:{_SUBJECT}\s+(?:must|should|has to|have to|needs? to|ought to|shall|is to|are to)|"
    rf"{TEXT}\s+(?:that|which)\s+(?:is|has))\b(?:\s+(?:also|only|be|have|contain|use|include|consist|start|begin|end)\b)*"
)
_OPENING = re.compile(rf"\W*{_LEAD}(?:{VERB}|{_OTHER}|{_MODAL})\b", re.IGNORECASE)
_OF_A_TEXT = re.compile(
    rf"(?:^|[.!?:;,\n]\s*|\band\s+){_LEAD}(?:{_MAKES}|{_TREATS})\b|\b(?:can|could|would|will) you\b", re.IGNORECASE
)
_ANSWERS = re.compile(r"\b(?:you|your|answer|response|reply|output)\b", re.IGNORECASE)
_REQUEST = re.compile(
    rf"(?:^\W*|(?P<joint>[,;(]\s*|\b(?:and|then|but|or)\s+)){_LEAD}(?P<verb>{VERB}|{_MODAL})(?=\s|[,(]|$)",
    re.IGNORECASE,
)
_JOINT = re.compile(rf"(?:^\W*|[,;(–—-]\s*|\b(?:and|then|but|or)\s+){_LEAD}$", re.IGNORECASE)
_SUPPOSED = re.compile(r"\W*(?:if|when|whenever|where|unless|in case|why|suppose|assume)\b", re.IGNORECASE)
_ASKS_YOU = re.compile(r"\W*(?:\w+,\s+)?(?:please\s+)?(?:can|could|would|will) you\b", re.IGNORECASE)
_OWN_CLAUSE = re.compile(rf"\b(?:it|{TEXT})(?:\s+(?:that|which))?\s+(?:must|should|is|has|will)\b", re.IGNORECASE)
_OTHER_CLAUSE = re.compile(
    r"\b(?:how|why|what|when|where|who|whom|whose|whether|if|because|although|while|since|until|unless|than|that|which|"
    r"was|were|is|are|am|has|had|can|could|would|will|may|might|did|does|each|every|per|both)\b",
    re.IGNORECASE,
)
_MATERIAL = re.compile(
    r"\b(?:translate|proofread|correct|edit|paraphrase|rewrite|rephrase|summari[sz]e|classify|analy[sz]e|count|reverse|"
    r"explain|review|what does|what is wrong with)\b[^.?!\n:]*:\s",
    re.IGNORECASE,
)


def instructions(text: str) -> str:
    """`text` without the material that its request hands over after a colon ("Translate into French: …")."""
    plain = masked(text)
    found = _MATERIAL.search(plain)
    return text[: found.end()] if found else text


@lru_cache(maxsize=64)
def masked(text: str) -> str:
    """`text` with what stands in quotation marks made dots of equal length: it is quoted, not said."""
    return re.sub(
        r"\"[^\"\n]*\"|“[^”\n]*”|(?<!\w)'[^'\n]{1,80}'(?!\w)|`[^`\n]*`",
        lambda match: match[0][0] + "·" * (len(match[0]) - 2) + match[0][-1],
        text,
    )


def sentence_before(text: str, place: int) -> str | None:
    """The beginning of the sentence that `place` lies in, up to there; None where it is quoted or asks nothing.

    A question asks for no form unless it is put to the reader ("Could you …?"), nor does what is only supposed.
    """
    plain = masked(text)
    if plain[place : place + 1] == "·":
        return None
    start = max((match.end() for match in re.finditer(r"[.!?:]\s|\n", plain[:place])), default=0)
    end = re.compile(r"[.!?](?=\s|[\"”)]|$)|\n|$").search(plain, place)
    before = plain[start:place]
    if _SUPPOSED.match(before + plain[place : place + 12]):
        return None
    if end is not None and end[0] == "?" and not _ASKS_YOU.match(before + plain[place : place + 12]):
        return None
    return before


def is_asked(text: str, place: int) -> bool:
    """Whether the verb at `place` ("use", "starting") asks something of the answer: as an imperative, after "it must",
    or said of the text that is to be written ("a story that uses", "a sentence starting")."""
    before = sentence_before(text, place)
    if before is None:
        return False
    modal = re.search(rf"{_MODAL}\s*$", before, re.IGNORECASE)
    if modal:
        return _told_of_answer(before) and _is_of_answer(modal[0], text)
    of_text = re.search(rf"\b{TEXT}\s*(?:,|\bthat\b|\bwhich\b)?\s+$", before, re.IGNORECASE)
    if of_text:
        request = _last_request(before[: of_text.start()])
        return request is not None and MAKING.match(request[0]) is not None
    if not _JOINT.search(before):
        return False
    return not re.search(r"\b(?:and|then|but|or)\s*$", before) or _OPENING.match(before) is not None


def after_request(text: str, place: int) -> tuple[str, str] | None:
    """The verb of the request that `place` belongs to and the words from there on; None where there is none."""
    before = sentence_before(text, place)
    request = None if before is None else _last_request(before)
    if request and re.match(_MODAL, request[0], re.IGNORECASE) and not _is_of_answer(request[0], text):
        return None
    return request


def _last_request(before: str) -> tuple[str, str] | None:
    opening = _OPENING.match(before)
    last = None
    for match in _REQUEST.finditer(before):
        if opening or not match["joint"] or match["joint"].strip() in (",", ";", "("):
            last = match
    if last is None or _other_clause(before[last.end() :]):
        return None
    if re.match(rf"{_MODAL}$", last["verb"], re.IGNORECASE) and not _told_of_answer(before[: last.end()]):
        return None
    return last["verb"].lower(), before[last.end() :]


def _is_of_answer(modal: str, text: str) -> bool:
    """ "It must" and "the poem must" are about the answer only where `text` asks for something to be written."""
    return _ANSWERS.search(modal) is not None or _OF_A_TEXT.search(masked(text)) is not None


def _told_of_answer(before: str) -> bool:
    """Whether the subject of the modal that ends `before` is the answer: "a poem that must", not "a man that must"."""
    modal = re.search(rf"{_MODAL}\s*$", before, re.IGNORECASE)
    if modal is None:
        return False
    head = before[: modal.start()]
    return not _other_clause(head) and (not head.strip(" \t-*•,(") or _OPENING.match(head) is not None)


def _other_clause(words: str) -> bool:
    return _OTHER_CLAUSE.search(_OWN_CLAUSE.sub(" ", words)) is not None
