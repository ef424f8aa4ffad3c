"""Rewriting phrases in a list of tokens, by the patterns of `wording`."""

from __future__ import annotations

from collections import defaultdict

from kaelum_graph.cache.tokens import Token
from kaelum_graph.cache.wording import FRAMES, PHRASES

ROUNDS = 4
"""One phrase can make another: "please tell me how to" first loses "please"."""


class Phrase:
    """One line of the table."""

    def __init__(self, line: str) -> None:
        left, _, right = line.partition(" =")
        words = left.split()
        self.at_start, self.at_end = words[0] == "^", words[-1] == "$"
        self.parts = [word.split("|") for word in words if word not in ("^", "$")]
        self.result = [word.split("|") for word in right.split()]

    def matches(self, tokens: list[Token], start: int) -> bool:
        """True when the phrase stands at `start`."""
        end = start + len(self.parts)
        if end > len(tokens) or (self.at_end and end < len(tokens)):
            return False
        if self.at_start and start > 0 and tokens[start - 1].kind != "break":
            return False
        return all(
            tokens[start + offset].word in part and not tokens[start + offset].owner
            for offset, part in enumerate(self.parts)
        )

    def rewritten(self, found: list[Token]) -> list[Token]:
        """What stands in place of the tokens found."""
        replaced: list[Token] = []
        for part in self.result:
            positions = [index for index, choices in enumerate(self.parts) if choices == part]
            replaced.append(found[positions[0]] if positions else Token("word", part[0], part[0]))
        return replaced


class Frame:
    """A phrase around something: its beginning opens a sentence, its end closes it."""

    def __init__(self, line: str) -> None:
        left, _, right = line.partition(" =")
        opening, _, closing = left.partition("…")
        self.opening = [word.split("|") for word in opening.split()]
        self.closing = [word.split("|") for word in closing.split() if word != "$"]
        self.result = [Token("word", word, word) for word in right.split()]

    def applied(self, sentence: list[Token]) -> list[Token] | None:
        """The sentence rewritten, or None when the frame is not there."""
        start, end = len(self.opening), len(sentence) - len(self.closing)
        if end <= start:
            return None
        edges = [*zip(sentence[:start], self.opening, strict=True), *zip(sentence[end:], self.closing, strict=True)]
        if not all(token.word in part for token, part in edges):
            return None
        return [*self.result, *sentence[start:end]]


def _by_first_word() -> dict[str, list[Phrase]]:
    table: dict[str, list[Phrase]] = defaultdict(list)
    for phrase in sorted(map(Phrase, PHRASES), key=lambda phrase: -len(phrase.parts)):
        for word in phrase.parts[0]:
            table[word].append(phrase)
    return dict(table)


_TABLE = _by_first_word()
_FRAMES = tuple(map(Frame, FRAMES))


def rewritten(tokens: list[Token]) -> list[Token]:
    """The tokens with every known phrase in its one form."""
    for _ in range(ROUNDS):
        after = _frames(_once(tokens))
        if after == tokens:
            break
        tokens = after
    return tokens


def _once(tokens: list[Token]) -> list[Token]:
    result: list[Token] = []
    index = 0
    while index < len(tokens):
        # A phrase at the start looks back at what is left before it, so that a greeting can go first.
        window = [*result[-1:], *tokens[index:]]
        offset = len(result[-1:])
        phrase = next((one for one in _TABLE.get(tokens[index].word, ()) if one.matches(window, offset)), None)
        if phrase is None:
            result.append(tokens[index])
            index += 1
        else:
            found = tokens[index : index + len(phrase.parts)]
            result.extend(phrase.rewritten(found))
            index += len(found)
    while result and result[0].kind == "break":
        result.pop(0)
    while result and result[-1].kind == "break":
        result.pop()
    return result


def _frames(tokens: list[Token]) -> list[Token]:
    sentences: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind == "break":
            sentences.append([])
        else:
            sentences[-1].append(token)
    result: list[Token] = []
    for number, sentence in enumerate(sentences):
        if number:
            result.append(Token("break", "BREAK", "."))
        result.extend(next(filter(None, (frame.applied(sentence) for frame in _FRAMES)), sentence))
    return result
