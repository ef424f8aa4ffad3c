"""A question reduced to what it asks: its tokens in order, in one form for every wording that asks the same."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from kaelum_graph.cache.phrases import rewritten
from kaelum_graph.cache.tokens import Token, tokens_of
from kaelum_graph.cache.wording import (
    FUNCTION_WORDS,
    NOT_SUPERLATIVE,
    PARTITIVES,
    PASSIVES,
    PRONOUNS,
    QUESTION_WORDS,
    SAME_WORD,
)

_ARTICLES = frozenset({"a", "an", "the"})
_BE = frozenset({"is", "are", "am", "was", "were"})
_DO = frozenset({"do", "does", "did"})
_PAST = frozenset({"was", "were", "did", "had"})
_LEADING = frozenset({"in", "using", "with", "for", "at", "on", "during", "from"})
_OPERATORS = {
    ("plus",): "+", ("minus",): "-", ("times",): "*", ("multiplied", "by"): "*", ("divided", "by"): "/",
}  # fmt: skip
_EVERYWHERE = (("in", "the", "world"), ("on", "earth"), ("on", "the", "planet"), ("in", "the", "whole", "world"))
_BRITISH = re.compile(r"(?<=\w{3})(is)(e|es|ed|ing|ation|ations)$|(?<=\w{3})(ys)(e|es|ed|ing)$")


@dataclass(frozen=True, slots=True)
class Reading:
    """`tokens` in canonical order and form; `past` and `singular_verb` say what dropped auxiliaries said.

    `capitals` is False for a text typed without any capital letter but those that begin sentences.
    """

    tokens: tuple[Token, ...]
    past: bool
    singular_verb: bool
    yes_no: bool
    capitals: bool
    indented: tuple[str, ...]
    passive: tuple[str, ...]  # participles of a text with a form of "be"
    text: str


@lru_cache(maxsize=4096)
def read(text: str) -> Reading:
    """The reading of a raw text. The same text gives the same reading."""
    indented = tuple(line.rstrip() for line in text.splitlines() if line[:1] in (" ", "\t") and line.strip())
    tokens = tokens_of(text)
    capitals = any(token.case in ("title", "capitals") for token in tokens)
    tokens = _leading_phrase_last(tokens, text)
    tokens = rewritten(_one_asker([_one_spelling(token) for token in tokens]))
    yes_no = bool(tokens) and tokens[0].word in _BE | _DO | {"has", "have", "had"}
    tokens = _superlative_first(_owners_last(_operators(tokens)))
    tokens = _everywhere(tokens)
    past = any(token.word in _PAST or _past_form(tokens, index) for index, token in enumerate(tokens))
    passive = _passive(tokens)
    kept, singular = _without_fillers(tokens)
    if yes_no:
        kept.insert(0, Token("word", "YESNO", ""))
    return Reading(tuple(kept), past, singular, yes_no or kept[:1] == [_YES_NO], capitals, indented, passive, text)


def _passive(tokens: list[Token]) -> tuple[str, ...]:
    words = [token.word for token in tokens]
    if not _BE & {*words}:
        return ()
    return tuple(sorted(word for word in words if word in PASSIVES or (len(word) > 4 and word.endswith("ed"))))


_YES_NO = Token("word", "YESNO", "YESNO")
_WORLD = Token("word", "WORLD", "")


def stem(word: str) -> str:
    """A regular plural or third person without its ending."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def superlative(word: str) -> bool:
    """Whether a word is a superlative in -est."""
    return len(word) > 4 and word.endswith("est") and word not in NOT_SUPERLATIVE


def _one_spelling(token: Token) -> Token:
    if token.kind != "word":
        return token
    key = SAME_WORD.get(token.key, token.key) if token.case in ("lower", "start") else token.key
    key = _BRITISH.sub(lambda match: (match[1] or match[3])[0] + "z" + (match[2] or match[4]), key)
    if key == "%":
        return replace(token, kind="symbol", key="%")
    return replace(token, key=key)


def _one_asker(tokens: list[Token]) -> list[Token]:
    """Anyone's "your" as the asker's "my": "how do you tie your shoes" is "how do I tie my shoes"."""
    words = [token.word for token in tokens]
    asked = [index for index, word in enumerate(words) if word == "how" and words[index + 1 : index + 2] == ["to"]] + [
        index for index, word in enumerate(words) if word == "how" and words[index + 2 : index + 3] == ["you"]
    ]
    if not asked or {"i", "me", "my"} & {*words}:
        return tokens
    return [replace(token, key=_MINE.get(token.key, token.key)) if token.word else token for token in tokens]


_MINE = {"your": "my", "yourself": "myself", "yours": "mine"}


def _past_form(tokens: list[Token], index: int) -> bool:
    """A word in -ed that no form of "be" or "have" makes a participle."""
    word = tokens[index].word
    before = [token.word for token in tokens[max(0, index - 3) : index]]
    return (
        len(word) > 4
        and word.endswith("ed")
        and not word.endswith("eed")
        and not _BE & {*before}
        and not ({"be", "been", "being", "have", "has", "a", "an", "the"} & {*before})
    )


def _leading_phrase_last(tokens: list[Token], text: str) -> list[Token]:
    """A leading "in Python," goes last: "how do I … in Python"."""
    head, comma, _ = text.partition(",")
    if not comma or not tokens or tokens[0].word not in _LEADING or any(token.kind == "break" for token in tokens):
        return tokens
    count = len(tokens_of(head))
    if not 2 <= count <= 4 or count >= len(tokens) or tokens[count].word not in _OPENERS:
        return tokens
    return [*tokens[count:], *tokens[:count]]


_OPENERS = (
    QUESTION_WORDS | _BE | _DO | {"can", "write", "explain", "name", "list", "give", "tell", "describe", "please"}
)


def _operators(tokens: list[Token]) -> list[Token]:
    """Operators in words as symbols: "7 times 8" becomes "7 * 8", "3 squared" becomes "3 ^ 2"."""
    result: list[Token] = []
    index = 0
    while index < len(tokens):
        after_value = bool(result) and (result[-1].kind in ("number", "literal") or result[-1].key == ")")
        if after_value and tokens[index].word == "squared":
            result += [Token("symbol", "^", "^"), Token("number", "2", "2")]
            index += 1
            continue
        for words, symbol in _OPERATORS.items():
            end = index + len(words)
            same = tuple(token.word for token in tokens[index:end]) == words
            if after_value and same and end < len(tokens) and tokens[end].kind in ("number", "literal"):
                result.append(Token("symbol", symbol, symbol))
                index = end
                break
        else:
            result.append(tokens[index])
            index += 1
    return result


def _owners_last(tokens: list[Token]) -> list[Token]:
    """Owners last: "France's capital" becomes "capital of France", where it is plain how far the two reach."""
    mark = Token("symbol", "'s", "'s")
    if sum(token.owner for token in tokens) != 1:
        return [part for token in tokens for part in ((token, mark) if token.owner else (token,))]
    last = next(index for index, token in enumerate(tokens) if token.owner)
    first = last
    while first > 0 and tokens[first].case == "title" and tokens[first - 1].case in ("title", "capitals"):
        first -= 1
    if first > 0 and tokens[first - 1].word in _ARTICLES:
        first -= 1
    end = last + 1
    while end < len(tokens) and tokens[end].kind == "word" and tokens[end].word not in FUNCTION_WORDS:
        end += 1
    if end == last + 1:
        return [*tokens[: last + 1], mark, *tokens[last + 1 :]]
    owner = [*tokens[first:last], replace(tokens[last], owner=False)]
    return [*tokens[:first], *tokens[last + 1 : end], Token("word", "of", "of"), *owner, *tokens[end:]]


def _superlative_first(tokens: list[Token]) -> list[Token]:
    """Superlatives first: "which mountain is the highest" becomes "what is the highest mountain"."""
    words = [token.word for token in tokens]
    if words[:1] != ["what"]:
        return tokens
    for verb in (2, 3):
        if len(words) > verb + 2 and words[verb] in _BE and words[verb + 1] == "the" and superlative(words[verb + 2]):
            noun, rest = tokens[1:verb], tokens[verb + 3 :]
            return [tokens[0], tokens[verb], tokens[verb + 1], tokens[verb + 2], *noun, *rest]
    return tokens


def _everywhere(tokens: list[Token]) -> list[Token]:
    """One form of "in the world" after a superlative; "in" after one is "of"."""
    places = [index for index, token in enumerate(tokens) if superlative(token.word)]
    if len(places) != 1:
        return tokens
    place = places[0]
    words = [token.word for token in tokens]
    for phrase in _EVERYWHERE:
        for start in range(place + 2, min(place + 4, len(words))):
            if tuple(words[start : start + len(phrase)]) == phrase and start + len(phrase) == len(words):
                return [*tokens[:start], _WORLD]
    tail = ("of", "the", "world"), ("of", "world"), ("of", "earth")
    for phrase in tail:
        if tuple(words[-len(phrase) :]) == phrase and len(words) - len(phrase) in (place + 2, place + 3):
            return [*tokens[: -len(phrase)], _WORLD]
    for index in range(place + 2, min(place + 4, len(words))):
        if words[index] == "in":
            return [*tokens[:index], *tokens[index + 1 :]]
    return tokens


def _without_fillers(tokens: list[Token]) -> tuple[list[Token], bool]:
    """The tokens that count, each with the article dropped before it; and whether a "does" was dropped."""
    kept: list[Token] = []
    article, singular = "", False
    for index, token in enumerate(tokens):
        before = tokens[index - 1] if index else None
        after = tokens[index + 1] if index + 1 < len(tokens) else None
        word = token.word
        if word in _ARTICLES:
            article = "the" if word == "the" else "a"
        elif word in _BE:
            continue
        elif word in _DO and after is not None and _auxiliary(before, after):
            singular = singular or word == "does"
        elif word == "of" and before is not None and before.kind == "word" and before.word not in PARTITIVES:
            continue
        else:
            kept.append(replace(token, article=article, owner=False))
            article = ""
    return kept, singular


def _auxiliary(before: Token | None, after: Token) -> bool:
    """Whether "do" only carries the question: "how do I", "do cats"; not "to do with", "what we do"."""
    if before is None or before.kind == "break":
        return True
    return before.word in QUESTION_WORDS or after.word in PRONOUNS or after.word == "not" or after.case == "title"
