"""A question's raw text in tokens: words, numbers, symbols, and literals that must be the same to the letter."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from kaelum_graph.cache.wording import CONTRACTIONS, NUMBER_WORDS, ORDINALS

Kind = Literal["word", "number", "literal", "symbol", "break"]
Case = Literal["lower", "title", "start", "capitals"]


@dataclass(frozen=True, slots=True)
class Token:
    """`key` is what is compared; `surface` is as written; `article` stood before it and was dropped."""

    kind: Kind
    key: str
    surface: str
    case: Case = "lower"
    article: str = ""
    owner: bool = False  # "'s" followed
    unit: bool = False  # directly after a number

    @property
    def word(self) -> str:
        """The key of a word; empty for anything else, so that no phrase matches it."""
        return self.key if self.kind == "word" else "#" if self.kind == "number" else ""


_TYPOGRAPHY = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "–": "-", "—": "-", "−": "-", "×": "*", "÷": "/", "\u00a0": " "}
)

_TOKEN = re.compile(
    r"""
    (?P<literal>
        ```.*?```|`[^`]+`                                # code
      | "[^"]*" | «[^»]*» | (?<!\w)'[^'\n]+'(?!\w)       # quotations
      | \w+://\S+ | [\w.+-]+@[\w-]+\.\w+                 # addresses
      | (?<!\S)[~.]{0,2}/[\w./-]+                        # paths
      | (?<!\S)--?[A-Za-z][\w-]*(?:=\S+)?                # flags
      | \\[A-Za-z]+                                      # LaTeX
      | [A-Za-z]\w*\+\+ (?!\w) | \b[A-Z]\#               # C++, C#
      | (?:[^\W\d_]+\.)+[^\W\d_]+(?:\.(?=\s+[a-z]))?     # list.append, e.g
      | [^\W\d_]\w*(?:_\w*|\d\w*)                        # snake_case, x2
      | _+\w+
      | [^\W\d_]*[a-z][A-Z]\w*                           # camelCase
      | (?<![^\W\d_])[^\W\d_](?:'s)?(?![\w'])            # one letter
    )
  | (?P<number>\d+(?:st|nd|rd|th)\b|\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)*)
  | (?P<word>[^\W\d_]+(?:'[^\W\d_]+)*)
  | (?P<stop>[.?!;](?=\s|$|["')\]]))
  | (?P<space>\s+)
  | (?P<symbol>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_LONE_WORDS = frozenset({"a", "A", "I", "i"})
_BEFORE_I = frozenset(
    "do can could should would will must may did am and but if that because when what how why where which".split()
)
_COUNTED = frozenset(
    "is of than to and or from by plus minus times equals between over under about divided multiplied what".split()
)
_BEFORE_ONE = frozenset({"can", "could", "does", "should", "would"})
_DROPPED = frozenset(",:\"'")


def tokens_of(text: str) -> list[Token]:
    """The tokens of `text`. Nothing but white space, commas, colons and closing punctuation is lost."""
    text = unicodedata.normalize("NFC", text).translate(_TYPOGRAPHY)
    matches = [match for match in _TOKEN.finditer(text) if match.lastgroup != "space"]
    shouted = text.isupper() and len(text.split()) > 2
    tokens: list[Token] = []
    beginning = True
    for index, match in enumerate(matches):
        kind, surface = match.lastgroup, match.group()
        following = matches[index + 1] if index + 1 < len(matches) else None
        before = tokens[-1] if tokens else None
        if kind == "literal" and surface in _LONE_WORDS and _is_word(surface, before, following, beginning):
            kind = "word"
        if kind == "literal":
            tokens.append(Token("literal", surface, surface, unit=_unit(before)))
        elif kind == "number":
            tokens.append(_number(surface, before))
        elif kind == "word":
            tokens.extend(_words(surface, before=before, beginning=beginning, shouted=shouted))
        elif (
            kind == "stop"
            and not _spoken_of(matches, index)
            and _ends_sentence(surface, before, following, text, match.end())
        ):
            tokens.append(Token("break", "BREAK", surface))
        elif surface == "&" and _between_words(matches, index):
            tokens.append(Token("word", "and", surface))
        elif _counts(matches, index) and not _is_hyphen(matches, index):
            tokens.append(Token("symbol", surface, surface))
        beginning = bool(tokens) and tokens[-1].kind == "break"
    while tokens and tokens[-1].kind == "break":
        tokens.pop()
    return tokens


def _unit(before: Token | None) -> bool:
    return before is not None and before.kind == "number"


def _is_word(letter: str, before: Token | None, following: re.Match[str] | None, beginning: bool) -> bool:
    """Whether a lone letter is the article or the pronoun, not a variable or a letter spoken of."""
    if before is not None and (before.kind in ("symbol", "number") or before.key in ("letter", "variable", "set")):
        return False
    if letter == "I":
        return True
    if letter == "i":
        return beginning or (before is not None and before.key in _BEFORE_I)
    if letter == "A" and not beginning:
        return False
    return (following is not None and following.lastgroup in ("word", "number")) or (
        following is not None and following.lastgroup == "literal" and len(following.group()) > 1
    )


def _number(surface: str, before: Token | None) -> Token:
    key = surface.replace(",", "").lower()
    if key in ORDINALS:
        return Token("word", ORDINALS[key], surface)
    # After a name it may be a version: 3.0 of something is not 3 of it.
    version = before is not None and before.kind in ("word", "literal") and before.key not in _COUNTED
    if not version and key.count(".") == 1:
        whole, fraction = key.split(".")
        key = key if fraction.strip("0") else whole
    return Token("number", key, surface)


def _words(surface: str, *, before: Token | None, beginning: bool, shouted: bool) -> list[Token]:
    lower = surface.lower()
    if lower in CONTRACTIONS or lower.endswith("n't"):
        parts = (CONTRACTIONS.get(lower) or f"{lower[:-3]} not").split()
        return [Token("word", part, part, case="start" if beginning else "lower") for part in parts]
    owner = lower.endswith("'s")
    plain = surface[:-2] if owner else surface
    someone = plain.lower() == "one" and before is not None and before.key in _BEFORE_ONE
    if plain.lower() in NUMBER_WORDS and not owner and not someone:
        return [Token("number", NUMBER_WORDS[plain.lower()], surface)]
    case: Case = "lower"
    if not shouted and len(plain) > 1 and plain.isupper():
        case = "capitals"
    elif not shouted and plain[0].isupper() and plain != "I":
        case = "start" if beginning else "title"
    return [Token("word", plain.lower(), plain, case=case, owner=owner, unit=_unit(before))]


def _ends_sentence(mark: str, before: Token | None, following: re.Match[str] | None, text: str, end: int) -> bool:
    """Whether a mark closes a sentence; in `5!`, `a? matches` it does not."""
    if mark == "!" and before is not None and (before.kind == "number" or len(before.surface) == 1):
        return False
    if mark != "?" or following is None:
        return True
    after = text[end:].lstrip()[:1]
    return before is None or len(before.surface) > 1 or after.isupper()


def _between_values(matches: list[re.Match[str]], index: int) -> bool:
    """Whether a comma stands between numbers, letters or brackets, or a colon in 9:30, where it separates values."""

    def value(match: re.Match[str]) -> bool:
        return match.lastgroup in ("number", "symbol") or (match.lastgroup == "literal" and len(match.group()) == 1)

    if not 0 < index < len(matches) - 1:
        return False
    before, mark, after = matches[index - 1 : index + 2]
    if mark.group() == ":":
        return before.end() == mark.start() and mark.end() == after.start()
    return value(before) and value(after)


def _spoken_of(matches: list[re.Match[str]], index: int) -> bool:
    """Whether a mark stands alone between spaces in a sentence: it is what the sentence is about."""
    if not 0 < index < len(matches) - 1:
        return False
    before, mark, after = matches[index - 1 : index + 2]
    return before.end() < mark.start() and mark.end() < after.start() and not after.group()[0].isupper()


def _counts(matches: list[re.Match[str]], index: int) -> bool:
    """Whether a mark is more than punctuation."""
    mark = matches[index]
    if mark.group() not in _DROPPED or _between_values(matches, index) or _spoken_of(matches, index):
        return True
    if not index:
        return False
    before = matches[index - 1]
    touches = before.end() == mark.start()
    measure = mark.group() in "'\"" and before.lastgroup == "number"
    typed = mark.group() == ":" and before.lastgroup == "literal" and len(before.group()) == 1
    return touches and (measure or (typed and index + 1 < len(matches) and before.group() not in _LONE_WORDS))


def _between_words(matches: list[re.Match[str]], index: int) -> bool:
    around = matches[max(0, index - 1) : index + 2 : 2]
    return len(around) == 2 and all(match.lastgroup == "word" for match in around)


def _is_hyphen(matches: list[re.Match[str]], index: int) -> bool:
    """Whether a minus joins two words without a space: "two-factor"."""
    if matches[index].group() != "-" or not 0 < index < len(matches) - 1:
        return False
    left, right = matches[index - 1], matches[index + 1]
    return (
        left.lastgroup == right.lastgroup == "word"
        and left.end() == matches[index].start()
        and right.start() == matches[index].end()
    )
