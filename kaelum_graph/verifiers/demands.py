"""Reads the checkable demands on form out of a query. What asks for no form, or can't be read, is no demand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from kaelum_graph.verifiers.asked import MAKING, TEXT, TREATING, VERB, after_request, instructions, is_asked
from kaelum_graph.verifiers.lengths import Length, lengths
from kaelum_graph.verifiers.votes import shortened, without_examples


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One demand. `broken(answer)` says how an answer breaks it, None when it holds.

    `drafts_only` marks demands on a whole text, which an answer cut out of a text can't be held to.
    """

    name: str
    broken: Callable[[str], str | None]
    drafts_only: bool = True


_QUOTED = r"[\"“']([^\"”']{1,80})[\"”']"
_QUOTED_LIST = rf"{_QUOTED}(?:\s*(?:,|and|or|, and|, or)\s*{_QUOTED})*"
_AVOID = re.compile(
    r"\b(?P<not>do not|don't|never|avoid|must not|should not|may not|without)\s+(?:ever\s+)?"
    r"(?:(?:us(?:e|ing)|includ(?:e|ing)|contain(?:ing)?|mention(?:ing)?|say(?:ing)?|writ(?:e|ing))\s+"
    r"(?:the\s+|any of the\s+)?(?:(?:words?|phrases?|letters?|terms?)\s+)?|"
    r"(?:the\s+)?(?:words?|phrases?|letters?|terms?)\s+)"
    rf"(?P<list>{_QUOTED_LIST})",
    re.IGNORECASE,
)
_USE = re.compile(
    r"\b(?P<verb>includ(?:e|es|ing)|contain(?:s|ing)?|us(?:e|es|ing)|mention(?:s|ing)?)\s+"
    rf"(?:(?:all|each|both|of|the|following|these)\s+)*(?P<what>(?:words?|phrases?|terms?)\s*:?\s*)?(?P<list>{_QUOTED_LIST})",
    re.IGNORECASE,
)
_WITH = rf"(?:(?:your|the)\s+{TEXT}\s+|it\s+)?with\s+(?:the\s+)?(?:words?|phrase|sentence|letter)?"
_BEGIN = re.compile(rf"\b(?:start|begin)s?(?:ning|ing)?\s+{_WITH}\s*{_QUOTED}", re.IGNORECASE)
_END = re.compile(rf"\b(?:end|finish|conclude)(?:s|e?ing)?\s+{_WITH}\s*{_QUOTED}", re.IGNORECASE)
_LIST_ENDS = re.compile(
    r"\s*(?:$|[.,;:!?)\n]|(?:and|but|anywhere|at all|at least|exactly|once|twice|somewhere|"
    r"in (?:it|your|the|a|one|any))\b)",
    re.IGNORECASE,
)
_EDGE_ENDS = re.compile(r"\s*(?:$|[.,;:!?)\n]|(?:and|but)\b)", re.IGNORECASE)
_ACROSTIC = re.compile(
    rf"\bacrostic\b[^.\n\"“']*?(?:{_QUOTED}|\b(?:for|of|spelling|spells|word)\s+(?:the\s+word\s+)?([A-Z][A-Za-z]{{2,14}})\b)"
)
_JSON_KEYS = re.compile(
    r"\bwith\s+(?:exactly\s+)?(?:the\s+|these\s+)?(?:following\s+|two\s+|three\s+)?keys?\s*:?\s*"
    r"((?:[\"“'`][\w -]+[\"”'`](?:\s*(?:,|and|, and)\s*)?)+)",
    re.IGNORECASE,
)


def demands(question: str) -> tuple[Demand, ...]:
    """The demands that `question` makes on the form of its answer, in a fixed order; quoted examples are none."""
    text = without_examples(question)
    # What is quoted at length is material ("Summarize: '…'"), not instruction.
    text = instructions(re.sub(r"[\"“][^\"”]{81,}[\"”]", " ", text))
    found = (
        *_lengths(text),
        *_words(text),
        *_edges(text),
        *_letter_case(text),
        *_structure(text),
        *_short_values(text),
    )
    return tuple({demand.name: demand for demand in found}.values())


def _lengths(text: str) -> list[Demand]:
    return [
        _ONE_WORD_DEMAND
        if one == Length(unit="word", least=1, most=1)
        else Demand(name=f"{one.unit} count", broken=one.broken)
        for one in lengths(text)
    ]


def _listed(text: str) -> list[str]:
    return [
        next(part for part in match if part).strip() for match in re.findall(r"\"([^\"]+)\"|“([^”]+)”|'([^']+)'", text)
    ]


def _words(text: str) -> list[Demand]:
    found: list[Demand] = []
    avoided: list[tuple[int, int]] = []
    for match in _AVOID.finditer(text):
        avoided.append(match.span())
        place = match.start()
        if match["not"].lower() == "without":
            asked = after_request(text, place) is not None
        else:
            # "It must not": the modal's subject stands before "must", the verb after "not".
            asked = is_asked(text, place + (5 if match["not"].lower() == "must not" else 0))
        if asked and _LIST_ENDS.match(text, match.end()):
            found.extend(_avoid(word) for word in _listed(match["list"]))
    for match in _USE.finditer(text):
        if any(start <= match.start() < end for start, end in avoided) or not _LIST_ENDS.match(text, match.end()):
            continue
        words = _listed(match["list"])
        if len(words) > 1 and re.search(r"[\"”']\s*,?\s*or\s*[\"“']", match["list"]):
            continue  # one of them will do
        if is_asked(text, match.start()) or _uses_words(text, match):
            found.extend(_use(word) for word in words)
    return found


def _uses_words(text: str, match: re.Match[str]) -> bool:
    """ "Write about rain using the words …": whatever stands before, words are used in texts."""
    request = after_request(text, match.start())
    return (
        request is not None
        and match["what"] is not None
        and match["verb"].lower().endswith("ing")
        and MAKING.match(request[0]) is not None
        and not re.search(r"\b(?:of|for|between|from|by|on|when|against|to|not|without)\s*$", request[1], re.IGNORECASE)
    )


def _occurs(word: str, answer: str) -> bool:
    if len(word) == 1 and word.isalpha():
        return word.lower() in answer.lower()
    return re.search(rf"(?<!\w){re.escape(word.lower())}(?!\w)", answer.lower()) is not None


def _avoid(word: str) -> Demand:
    return Demand(
        name=f"without '{word}'",
        broken=lambda answer: f"'{shortened(word, limit=30)}' must not occur" if _occurs(word, answer) else None,
    )


def _use(word: str) -> Demand:
    return Demand(
        name=f"with '{word}'",
        broken=lambda answer: None if _occurs(word, answer) else f"'{shortened(word, limit=30)}' is missing",
    )


def _edges(text: str) -> list[Demand]:
    if re.search(r"\b(?:each|every|all)\s+(?:\w+\s+)?(?:line|sentence|word|paragraph|item)s?\b", text, re.IGNORECASE):
        return []
    return [
        make(match[1])
        for pattern, make in ((_BEGIN, _begins), (_END, _ends))
        for match in pattern.finditer(text)
        if is_asked(text, match.start()) and _EDGE_ENDS.match(text, match.end())
    ]


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[*_#>`\"“”]", "", text).split()).lower()


def _begins(word: str) -> Demand:
    return Demand(
        name=f"beginning with '{word}'",
        broken=lambda answer: None if _plain(answer).startswith(_plain(word)) else f"it does not begin with '{word}'",
    )


def _ends(word: str) -> Demand:
    def broken(answer: str) -> str | None:
        end = _plain(word).rstrip(".!?")
        return None if _plain(answer).rstrip(".!?").endswith(end) else f"it does not end with '{word}'"

    return Demand(name=f"ending with '{word}'", broken=broken)


_CASE = re.compile(
    r"\b(?:in|use|using|only)\s+(?:all\s+)?(?:only\s+)?(?:(?P<lower>lower[- ]?case)|upper[- ]?case|capital letters|"
    r"(?:all[- ])?caps)\b(?:\s+letters?)?(?=\s*(?:$|[.,;:!)\n]|(?:and|only|throughout)\b))",
    re.IGNORECASE,
)
_WHOLE = re.compile(
    rf"\W*(?:(?:{VERB}|{TEXT}|me|us|it|your|my|the|a|an|this|whole|entire|full|final|short|everything|all|only|just|be|"
    r"with|of|exactly|at|most|least|words?|sentences?|lines?|paragraphs?|\d+|completely|entirely|please)\b\W*)*",
    re.IGNORECASE,
)
"""Words that name no part of a text and no matter: a letter case or a JSON that is asked of them is the answer's."""


def _letter_case(text: str) -> list[Demand]:
    for match in _CASE.finditer(text):
        request = after_request(text, match.start())
        if request is None:
            asked = is_asked(text, match.start())
        else:
            asked = not TREATING.match(request[0]) and _WHOLE.fullmatch(request[1].rpartition(",")[2])
        if not asked:
            continue
        if match["lower"]:
            return [
                Demand(
                    name="lower case", broken=lambda text: None if text == text.lower() else "it has capital letters"
                )
            ]
        return [Demand(name="upper case", broken=lambda text: None if text == text.upper() else "it has small letters")]
    return []


_JSON = re.compile(
    r"\b(?:(?:as|in)\s+)?(?:only\s+|just\s+)?(?:an?\s+|the\s+)?(?:single\s+|valid\s+)*json"
    r"(?:[- ](?:object|array|list|document|format))?\b"
    r"(?=\s*(?:$|[.,;:!)\n]|(?:with|containing|only|and|object|using)\b))",
    re.IGNORECASE,
)
_PROGRAM = re.compile(
    r"\b(?:function|program|script|code|endpoint|api|class|method|query|parser|regex)s?\b", re.IGNORECASE
)


def _structure(text: str) -> list[Demand]:
    found: list[Demand] = []
    if any(_json_asked(text, match) for match in _JSON.finditer(text)):
        keys = _JSON_KEYS.search(text)
        names = tuple(re.findall(r"[\"“'`]([\w -]+)[\"”'`]", keys[1])) if keys else ()
        found.append(Demand(name="JSON", broken=lambda answer: _bad_json(answer, names), drafts_only=False))
    acrostic = _ACROSTIC.search(text)
    request = after_request(text, acrostic.start()) if acrostic else None
    if acrostic and request and MAKING.match(request[0]):
        word = next(group for group in acrostic.groups() if group)
        found.append(Demand(name=f"acrostic of {word}", broken=lambda answer: _bad_acrostic(answer, word)))
    return found


def _json_asked(text: str, match: re.Match[str]) -> bool:
    """ "As JSON" after any request; without "as" or "in" only as what is to be returned or written itself."""
    request = after_request(text, match.start())
    if request is None or _PROGRAM.search(text):
        return False
    verb, between = request
    if re.match(r"(?:as|in)\b", match[0], re.IGNORECASE):
        return _WHOLE.fullmatch(between) is not None
    return re.fullmatch(r"\s*(?:(?:me|us|only|just|with|in|as|be)\b\s*)*", between, re.IGNORECASE) is not None and (
        MAKING.match(verb) is not None or re.search(r"answer|reply|respond|must|should", verb) is not None
    )


def _bad_json(answer: str, keys: tuple[str, ...]) -> str | None:
    body = re.sub(r"^\s*`{3}\w*\n|\n?`{3}\s*$", "", answer.strip())
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        return f"it is no valid JSON: {shortened(str(error))}"
    if not keys:
        return None
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, dict):
            return "the JSON is no object"
        missing = next((key for key in keys if key not in each), None)
        if missing is not None:
            return f"the JSON has no key '{missing}'"
    return None


def _bad_acrostic(answer: str, word: str) -> str | None:
    lines = [re.sub(r"^[\W_]+", "", line) for line in answer.splitlines() if re.search(r"\w", line)]
    initials = "".join(line[0] for line in lines if line).lower()
    return (
        None
        if initials == word.lower()
        else f"the lines begin with '{shortened(initials, limit=20)}', not '{word.lower()}'"
    )


_YES_NO = re.compile(
    r"\b(?:answer|reply|respond)\s+(?:\w+\s+)?(?:with\s+)?(?:a\s+)?(?:only\s+)?[\"“']?yes[\"”']?\s*(?:or|/)\s*[\"“']?no\b",
    re.IGNORECASE,
)
_ONE_WORD = re.compile(
    r"\b(?:answer|reply|respond)\s+(?:\w+\s+)?(?:with|in|using)\s+(?:only\s+|just\s+|exactly\s+)?"
    r"(?:a single|one|a one)[- ]word\b",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"\b(?i:answer|format|respond|reply|result)\s+(?:\w+\s+){0,4}(?P<clock>HH:MM(?::SS)?)(?![\w:]|\.\w)"
)


def _short_values(text: str) -> list[Demand]:
    found: list[Demand] = []
    if _asked_first(_YES_NO, text):
        found.append(Demand(name="yes or no", broken=_not_yes_or_no, drafts_only=False))
    if _asked_first(_ONE_WORD, text):
        found.append(_ONE_WORD_DEMAND)
    clock = _asked_first(_CLOCK, text)
    if clock:
        parts = 3 if clock["clock"].endswith("SS") else 2
        pattern = r"\d{1,3}" + r":\d{2}" * (parts - 1)
        found.append(
            Demand(
                name=clock["clock"],
                broken=lambda answer: (
                    None
                    if re.fullmatch(pattern, answer.strip(' .*`"'))
                    else f"'{shortened(answer, limit=30)}' is not {clock['clock']}"
                ),
                drafts_only=False,
            )
        )
    return found


def _asked_first(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The first match that asks for something: the verb it begins with is a request, or its noun is a request's."""
    for match in pattern.finditer(text):
        request = after_request(text, match.start())
        if is_asked(text, match.start()) or (request is not None and _WHOLE.fullmatch(request[1])):
            return match
    return None


def _not_yes_or_no(answer: str) -> str | None:
    word = re.match(r"\W*(\w+)", answer)
    said = word[1].lower() if word else ""
    return None if said in ("yes", "no", "true", "false") else f"'{shortened(answer, limit=30)}' is neither yes nor no"


def _not_one_word(answer: str) -> str | None:
    words = answer.strip(" .*`\"'").split()
    return None if len(words) == 1 else f"{len(words)} words, one is asked for"


_ONE_WORD_DEMAND = Demand(name="one word", broken=_not_one_word, drafts_only=False)
