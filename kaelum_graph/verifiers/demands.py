"""Reads the checkable demands on form out of a query."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from kaelum_graph.verifiers.votes import shortened, without_examples


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One demand. `broken(answer)` says how an answer breaks it, None when it holds.

    `drafts_only` marks demands on a whole text, which an answer cut out of a text can't be held to.
    """

    name: str
    broken: Callable[[str], str | None]
    drafts_only: bool = True


_COUNT_WORDS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
]  # fmt: skip
_COUNTS = {word: number for number, word in enumerate(_COUNT_WORDS)}
_NUMBER = rf"(\d{{1,5}}|{'|'.join(_COUNTS)})"
_UNIT = r"(words?|sentences?|lines?|paragraphs?|characters?|bullet points?|bullets?|items?|points?|stanzas?|verses?)"
_EXACTLY = re.compile(
    r"\b(?:exactly|precisely|consists? of|(?:write|give|list|provide|compose|in|of|with|must have|should have|using)"
    r"(?:\s+me)?"
    rf"(?:\s+exactly)?)\s+{_NUMBER}[- ](?:\w+ )?{_UNIT}\b",
    re.IGNORECASE,
)
_AT_MOST = re.compile(
    r"\b(?:at most|no more than|not more than|up to|a maximum of|maximum|max\.?|fewer than|less than|under|within"
    rf"|not exceed(?:ing)?|below)\s+{_NUMBER}\s+{_UNIT}\b",
    re.IGNORECASE,
)
_AT_LEAST = re.compile(
    r"\b(?:at least|no fewer than|no less than|not less than|a minimum of|minimum|more than|over)"
    rf"\s+{_NUMBER}\s+{_UNIT}\b",
    re.IGNORECASE,
)
_BETWEEN = re.compile(
    rf"\bbetween\s+{_NUMBER}\s+and\s+{_NUMBER}\s+{_UNIT}\b|\b{_NUMBER}\s*(?:-|–|to)\s*{_NUMBER}\s+{_UNIT}\b",
    re.IGNORECASE,
)
_ADJECTIVE = re.compile(
    rf"\b(?:a|one)\s+{_NUMBER}[- ](word|sentence|line|paragraph|stanza)\b(?![- ]long\b)", re.IGNORECASE
)

_NO_DEMAND = re.compile(
    r"\b(?:about|around|approximately|roughly|first|last|these|following|each|per|every)\b[^.\n]{0,20}$"
    r"|\b(?:how many|how much|what|which|if)\b[^.?\n]*$",
    re.IGNORECASE,
)

_QUOTED = r"[\"“']([^\"”']{1,80})[\"”']"
_QUOTED_LIST = rf"{_QUOTED}(?:\s*(?:,|and|or|, and|, or)\s*{_QUOTED})*"
_AVOID = re.compile(
    r"\b(?:do not|don't|without|never|avoid|must not|should not|not allowed to)\s+(?:\w+\s+){0,4}?"
    r"(?:us(?:e|ing)|includ(?:e|ing)|contain(?:ing)?|mention(?:ing)?|say(?:ing)?|writ(?:e|ing))?\s*"
    rf"(?:the\s+)?(?:words?|phrases?|letters?|terms?|any of)?\s*(?P<list>{_QUOTED_LIST})",
    re.IGNORECASE,
)
_USE = re.compile(
    r"\b(?:includ(?:e|es|ing)|contain(?:s|ing)?|us(?:e|es|ing)|mention(?:s|ing)?)\s+"
    rf"(?:(?:all|each|both|of|the|following|these)\s+)*(?:words?|phrases?|terms?)?\s*:?\s*(?P<list>{_QUOTED_LIST})",
    re.IGNORECASE,
)
_WITH = r"(?:your\s+\w+\s+|it\s+|the\s+\w+\s+)?with\s+(?:the\s+)?(?:words?|phrase|sentence|letter)?"
_BEGIN = re.compile(
    rf"\b(?:start|begin)s?(?:ning|ing)?\s+{_WITH}\s*{_QUOTED}",
    re.IGNORECASE,
)
_END = re.compile(
    rf"\b(?:end|finish|conclude)(?:s|ing)?\s+{_WITH}\s*{_QUOTED}",
    re.IGNORECASE,
)
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
    text = re.sub(r"[\"“][^\"”]{81,}[\"”]", " ", text)
    return (
        *_lengths(text),
        *_words(text),
        *_edges(text),
        *_letter_case(text),
        *_structure(text),
        *_short_values(text),
    )


def count(text: str, unit: str) -> int:
    """How many of `unit` (words, sentences, lines, paragraphs, characters, items) `text` has."""
    unit = unit.lower().rstrip("s")
    lines = [line for line in text.splitlines() if line.strip()]
    if unit == "word":
        return len(re.findall(r"[\w][\w'’-]*", re.sub(r"^\s*(?:[-*•]|\d+[.)])\s+", "", text, flags=re.MULTILINE)))
    if unit == "sentence":
        return len(_sentences(text))
    if unit in ("line", "verse"):
        return len(lines)
    if unit in ("paragraph", "stanza"):
        return len([part for part in re.split(r"\n\s*\n", text) if part.strip()])
    if unit == "character":
        return len(text.strip())
    items = [line for line in lines if re.match(r"\s*(?:[-*•]|\d+[.)])\s+", line)]
    return len(items)


def _sentences(text: str) -> list[str]:
    plain = re.sub(r"\b(?:Mr|Mrs|Ms|Dr|St|vs|e\.g|i\.e|etc|No)\.", lambda match: match.group().replace(".", ""), text)
    plain = re.sub(r"(?<=\d)\.(?=\d)", "", plain)
    return [part for part in re.split(r"(?<=[.!?…])[\"”')\]]*(?:\s+|$)", plain) if re.search(r"\w", part)]


def _number(text: str) -> int:
    return int(text) if text.isdigit() else _COUNTS[text.lower()]


def _lengths(text: str) -> list[Demand]:
    found: list[Demand] = []
    taken: list[tuple[int, int]] = []

    def add(match: re.Match[str], unit: str, least: int | None, most: int | None) -> None:
        if any(match.start() < end and start < match.end() for start, end in taken):
            return
        taken.append(match.span())
        found.append(_length(unit, least=least, most=most))

    for match in _BETWEEN.finditer(text):
        low, high, unit = (match[1], match[2], match[3]) if match[1] else (match[4], match[5], match[6])
        add(match, unit, _number(low), _number(high))
    for match in _AT_MOST.finditer(text):
        strict = bool(re.match(r"fewer|less|under|below", match.group(), re.IGNORECASE))
        add(match, match[2], None, _number(match[1]) - strict)
    for match in _AT_LEAST.finditer(text):
        strict = bool(re.match(r"more than|over", match.group(), re.IGNORECASE))
        add(match, match[2], _number(match[1]) + strict, None)
    for match in (*_EXACTLY.finditer(text), *_ADJECTIVE.finditer(text)):
        # "about 50 words" asks for no exact count, "how many words are in 4 lines" for no length at all.
        if not _NO_DEMAND.search(text[: match.end(1)]):
            add(match, match[2], _number(match[1]), _number(match[1]))
    return found


def _length(unit: str, *, least: int | None, most: int | None) -> Demand:
    def broken(answer: str) -> str | None:
        have = count(answer, unit)
        plural = unit.lower() if unit.lower().endswith("s") else f"{unit.lower()}s"
        if least is not None and most == least and have != least:
            return f"{have} {plural}, exactly {least} are asked for"
        if least is not None and have < least:
            return f"{have} {plural}, at least {least} are asked for"
        if most is not None and have > most:
            return f"{have} {plural}, at most {most} are asked for"
        return None

    return Demand(
        name=f"{unit.lower()} count",
        broken=broken,
        drafts_only=not (unit.lower().startswith("word") and most == least == 1),
    )


def _listed(text: str) -> list[str]:
    return [
        next(part for part in match if part).strip() for match in re.findall(r"\"([^\"]+)\"|“([^”]+)”|'([^']+)'", text)
    ]


def _words(text: str) -> list[Demand]:
    found: list[Demand] = []
    avoided: list[tuple[int, int]] = []
    for match in _AVOID.finditer(text):
        avoided.append(match.span())
        found.extend(_avoid(word) for word in _listed(match["list"]))
    for match in _USE.finditer(text):
        if not any(start <= match.start() < end for start, end in avoided):
            found.extend(_use(word) for word in _listed(match["list"]))
    return found


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
    found: list[Demand] = []
    if not re.search(
        r"\b(?:each|every|all)\s+(?:\w+\s+)?(?:line|sentence|word|paragraph|item)s?\b", text, re.IGNORECASE
    ):
        for match in _BEGIN.finditer(text):
            found.append(_begins(match[1]))
        for match in _END.finditer(text):
            found.append(_ends(match[1]))
    return found


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


def _letter_case(text: str) -> list[Demand]:
    if re.search(
        r"\b(?:in|use|using|only)\s+(?:all\s+)?(?:only\s+)?lower[- ]?case\b(?!\s+letters?\s+[a-z]-)",
        text,
        re.IGNORECASE,
    ):
        return [
            Demand(
                name="lower case", broken=lambda answer: None if answer == answer.lower() else "it has capital letters"
            )
        ]
    if re.search(
        r"\b(?:in|use|using|only)\s+(?:all\s+)?(?:only\s+)?(?:upper[- ]?case|capital letters|caps)\b",
        text,
        re.IGNORECASE,
    ):
        return [
            Demand(
                name="upper case", broken=lambda answer: None if answer == answer.upper() else "it has small letters"
            )
        ]
    return []


def _structure(text: str) -> list[Demand]:
    found: list[Demand] = []
    if re.search(r"\b(?:as|in|valid|return|output|a)\s+(?:a\s+)?(?:valid\s+)?json\b", text, re.IGNORECASE):
        keys = _JSON_KEYS.search(text)
        names = tuple(re.findall(r"[\"“'`]([\w -]+)[\"”'`]", keys[1])) if keys else ()
        found.append(Demand(name="JSON", broken=lambda answer: _bad_json(answer, names), drafts_only=False))
    acrostic = _ACROSTIC.search(text)
    if acrostic:
        word = next(group for group in acrostic.groups() if group)
        found.append(Demand(name=f"acrostic of {word}", broken=lambda answer: _bad_acrostic(answer, word)))
    return found


def _bad_json(answer: str, keys: tuple[str, ...]) -> str | None:
    body = re.sub(r"^\s*`{3}\w*\n|\n?`{3}\s*$", "", answer.strip())
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        return f"it is no valid JSON: {shortened(str(error))}"
    if keys and isinstance(value, dict):
        missing = next((key for key in keys if key not in value), None)
        return f"the JSON has no key '{missing}'" if missing is not None else None
    return "the JSON is no object" if keys else None


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
    if _YES_NO.search(text):
        found.append(Demand(name="yes or no", broken=_not_yes_or_no, drafts_only=False))
    if _ONE_WORD.search(text):
        found.append(Demand(name="one word", broken=_not_one_word, drafts_only=False))
    clock = _CLOCK.search(text)
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


def _not_yes_or_no(answer: str) -> str | None:
    word = re.match(r"\W*(\w+)", answer)
    said = word[1].lower() if word else ""
    return None if said in ("yes", "no", "true", "false") else f"'{shortened(answer, limit=30)}' is neither yes nor no"


def _not_one_word(answer: str) -> str | None:
    words = answer.strip(" .*`\"'").split()
    return None if len(words) == 1 else f"{len(words)} words, one is asked for"
