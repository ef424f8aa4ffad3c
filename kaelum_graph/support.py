"""Whether a passage says that a short answer is the answer to a question. Deterministic: words, not a model's opinion.

A sentence supports an answer when it names it together with what the question names, closely enough that nothing else
in the sentence could be meant. It is made to miss support rather than to imagine it: what denies, reports or limits
("not", "is thought to be", "until"), what names two candidates with equal right, and what turns the question round
("Aristotle taught Alexander" for "Who taught Aristotle?") supports nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kaelum_graph.retrieval import Passage
from kaelum_graph.sentences import Token, sentences, tokens

MOST_ANSWER_WORDS = 8
MOST_OTHER_WORDS = 6
"""Content words between answer and question words, where the sentence names nothing else of the answer's kind."""

_DOUBT = frozenset(
    "not never no nor n't isn't wasn't aren't weren't doesn't didn't cannot neither nobody none without except unlike "
    "instead rather contrary although though but however until till once former formerly previous previously "
    "originally myth mistake mistaken mistakenly wrong wrongly false falsely think thought thinks believe believed "
    "believes supposed supposedly allegedly alleged claim claimed claims rumour rumor rumoured reputed perhaps maybe "
    "possibly probably might if unless almost nearly versus than would-be fictional".split()
)
_PRONOUNS = frozenset("it its he his she her they their this that these".split())
_PARTS = frozenset(
    "north south east west northern southern eastern western central new old upper lower inner outer greater little "
    "equatorial san santa saint st papua bissau minor major".split()
)
"""Words that make another name of the name beside them."""
_TITLES = frozenset(
    "mount mt lake river city king queen emperor president prime minister sir dr professor saint republic kingdom "
    "the lord pope".split()
)
_RANKS = frozenset("second third fourth fifth sixth seventh eighth ninth tenth next penultimate joint co".split())
_SUBJECT_ASKED = re.compile(r"\s*(?:who|(?:what|which)\s+\w+)\s+(?P<verb>[a-z]+)\b", re.IGNORECASE)
_OBJECT_ASKED = re.compile(r"\s*(?:whom?|what|which(?:\s+\w+)?)\s+(?:do|does|did)\b", re.IGNORECASE)
_ASKS_PERSON = re.compile(r"\b(?:who|whom|whose)\b", re.IGNORECASE)
_ASKS_TRUTH = re.compile(
    r"\s*(?:is|are|was|were|did|does|do|has|have|had|can|could|will|would|should)\b"
    r"(?!.*\b(?:who|whom|whose|what|which|when|where|how|name|give|tell)\b)",
    re.IGNORECASE | re.DOTALL,
)
_ASKED_KIND = re.compile(r"\b(?:which|what|how many|how much)\s+(?P<kind>[a-z]+)\s+(?=\w)", re.IGNORECASE)
_KINDS = frozenset(
    "country nation city town element planet person man woman year day date river mountain language animal ocean sea "
    "continent company state author writer painter composer word name color colour".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A question cut into what must stand in a supporting sentence."""

    names: tuple[Token, ...]
    words: tuple[Token, ...]
    possessed: tuple[tuple[Token, Token], ...]
    """Pairs (R, N) of "the R of N": turned round they mean something else."""
    verb: str
    subject_asked: bool
    object_asked: bool
    person: bool
    keys: frozenset[str]


def supports(passage: Passage, question: str, answer: str) -> bool:
    """Whether the passage says, in a sentence or with the one before it, that `answer` answers `question`.

    False also where that cannot be told: a yes or no, an answer that the question itself names, a long answer.
    """
    asked = _read_question(question)
    wanted = tuple(token for token in tokens(answer) if token.kind != "small")
    if not is_checkable(question, answer):
        return False
    title = frozenset(token.key for token in tokens(passage.title))
    before: tuple[Token, ...] = ()
    for sentence in sentences(passage.text):
        here = tokens(sentence)
        if (
            not _doubtful(here, asked)
            and not _otherwise_ranked(here, asked)
            and _sentence_supports(here, before, title, asked, wanted)
        ):
            return True
        before = here
    return False


def is_checkable(question: str, answer: str) -> bool:
    """Whether `answer` is short, says something that the question does not, and the question names something.

    Not for "Did Bell invent the telephone?": whatever name is found for it, the answer is a yes or no.
    """
    if _ASKS_TRUTH.match((sentences(question) or [question])[-1]):
        return False
    asked = _read_question(question)
    wanted = [token for token in tokens(answer) if token.kind != "small"]
    if not wanted or len(wanted) > MOST_ANSWER_WORDS or any(token.key in ("yes", "no") for token in wanted):
        return False
    if all(token.key in asked.keys for token in wanted):
        return False
    return bool(asked.names) or len(asked.words) >= 2


def _read_question(question: str) -> _Asked:
    # What is asked stands at the end of a longer text.
    last = (sentences(question) or [question])[-1]
    found = tokens(last)
    kind = _ASKED_KIND.search(last)
    kinds = {token.key for token in tokens(kind["kind"])} if kind and kind["kind"].lower() in _KINDS else set[str]()
    content = [token for token in found if token.kind != "small" and token.key not in kinds]
    names = tuple(token for token in content if token.kind in ("name", "number", "year") or _decides(token))
    words = tuple(token for token in content if token not in names)
    if not names:
        names, words = (), tuple(content)
    pairs: list[tuple[Token, Token]] = []
    for place, token in enumerate(found):
        if token.key == "of" and 0 < place < len(found) - 1 and found[place - 1].kind != "small":
            after = next((each for each in found[place + 1 :] if each.kind != "small"), None)
            if after is not None and found[place + 1].key not in ("which", "what"):
                pairs.append((found[place - 1], after))
    verb = ""
    subject = _SUBJECT_ASKED.match(last)
    if subject and not _OBJECT_ASKED.match(last):
        named = tokens(subject["verb"])
        verb = named[0].key if named and named[0].kind == "word" else ""
    return _Asked(
        names=names,
        words=words,
        possessed=tuple(pairs),
        verb=verb or (content[-1].key if _OBJECT_ASKED.match(last) and content else ""),
        subject_asked=bool(verb),
        object_asked=bool(_OBJECT_ASKED.match(last)),
        person=bool(_ASKS_PERSON.search(last)),
        keys=frozenset(token.key for token in content),
    )


def _decides(token: Token) -> bool:
    """Words that pick one of many: with another of them in its place the question is another one."""
    return bool(re.fullmatch(r"\w+est|first|second|third|last|next|only|most|least|fourth|fifth", token.key))


def _doubtful(sentence: Sequence[Token], asked: _Asked) -> bool:
    return any(token.key in _DOUBT and token.key not in asked.keys for token in sentence)


def _otherwise_ranked(sentence: Sequence[Token], asked: _Asked) -> bool:
    """Whether the sentence's "largest" may be another one than the question's.

    "The second largest", "one of the largest", "the largest port" and "the largest by population" are.
    """
    if not any(_decides(name) for name in asked.names):
        return False
    for place, token in enumerate(sentence):
        before = {each.key for each in sentence[max(0, place - 3) : place]}
        after = sentence[place + 1] if place + 1 < len(sentence) else None
        other = after is not None and after.kind != "small" and after.key not in asked.keys
        if token.key not in asked.keys and (token.key in _RANKS or (token.key == "by" and other)):
            return True
        several = "among" in before or {"1", "of"} <= before
        if _decides(token) and token.key in asked.keys and (several or (other and after and after.kind == "word")):
            return True
    return False


def _sentence_supports(
    sentence: tuple[Token, ...],
    before: tuple[Token, ...],
    title: frozenset[str],
    asked: _Asked,
    wanted: tuple[Token, ...],
) -> bool:
    answer_keys = frozenset(token.key for token in wanted)
    known = asked.keys | answer_keys
    places = _occurrences(sentence, wanted, asked)
    if not places:
        return False
    missing = [name for name in asked.names if not _named(sentence, name, known)]
    foreign = _foreign(sentence, known)
    if missing:
        told = {token.key for token in before} if sentence[0].key in _PRONOUNS else frozenset[str]()
        elsewhere = all(name.kind == "name" and (name.key in title or name.key in told) for name in missing)
        if not elsewhere or any(token.kind == "name" for token in foreign):
            return False
    present = [word for word in asked.words if any(token.says(word) for token in sentence)]
    # "The largest state by area" is not the one by population.
    every = not asked.names or any(_decides(name) for name in asked.names)
    enough = len(asked.words) if every else (len(asked.words) + 1) // 2
    if len(present) < enough or not _possessed(sentence, asked, missing):
        return False
    required = [name for name in asked.names if name not in missing] + present
    spans = [(span, place) for place in places if (span := _span(sentence, required, place)) is not None]
    if not spans:
        return False
    span, place = min(spans, key=lambda found: found[0][1] - found[0][0])
    return _right_way_round(sentence, asked, span, place) and _alone(sentence, required, span, place, foreign, known)


def _occurrences(sentence: tuple[Token, ...], wanted: tuple[Token, ...], asked: _Asked) -> list[tuple[int, int]]:
    """Where the answer stands as a whole name or quantity: (first, last) tokens."""
    found: list[tuple[int, int]] = []
    for first in range(len(sentence)):
        rest, last = list(wanted), first
        while rest and last < len(sentence):
            match = next((token for token in rest if sentence[last].says(token)), None)
            if match is not None:
                rest.remove(match)
            elif last == first or sentence[last].kind != "small":
                break
            last += 1
        if not rest and _whole(sentence, first, last - 1, asked):
            found.append((first, last - 1))
    return found


def _whole(sentence: tuple[Token, ...], first: int, last: int, asked: _Asked) -> bool:
    """Not a part of a longer name ("York" in "New York"); of a person the given names may be left out."""
    beside: list[Token] = []
    place = first
    while place > 0 and sentence[place].joined and sentence[place - 1].kind == "name":
        place -= 1
        beside.append(sentence[place])
    place = last
    while place + 1 < len(sentence) and sentence[place + 1].joined and sentence[place + 1].kind == "name":
        place += 1
        beside.append(sentence[place])
    more = [token for token in beside if token.key not in asked.keys and token.key not in _TITLES]
    return not more or (asked.person and not any(token.key in _PARTS for token in more))


def _named(sentence: tuple[Token, ...], name: Token, known: frozenset[str]) -> bool:
    """Whether the sentence has `name`, and not as a part of another name."""
    for place, token in enumerate(sentence):
        if not token.says(name):
            continue
        left = sentence[place - 1] if place > 0 and token.joined else None
        right = sentence[place + 1] if place + 1 < len(sentence) and sentence[place + 1].joined else None
        others = [
            side
            for side in (left, right)
            if token.kind == "name" and side is not None and side.kind == "name" and side.key not in known
        ]
        if all(side.key in _TITLES for side in others):
            return True
    return False


def _foreign(sentence: tuple[Token, ...], known: frozenset[str]) -> list[Token]:
    """Names, numbers and years that neither question nor answer has."""
    return [
        token
        for token in sentence
        if token.kind in ("name", "number", "year") and token.key not in known and token.key not in _TITLES
    ]


def _possessed(sentence: tuple[Token, ...], asked: _Asked, missing: Sequence[Token]) -> bool:
    """Whether each "R of N" of the question is one here: "R of N", "N's R", or "its R" where N is told before."""
    for one, other in asked.possessed:
        if other in missing or not any(token.says(one) for token in sentence):
            continue
        if not any(_is_of(sentence, place, one, other) for place in range(len(sentence))):
            return False
    return True


def _is_of(sentence: tuple[Token, ...], place: int, one: Token, other: Token) -> bool:
    after = sentence[place + 1 : place + 6]
    if sentence[place].possessive and sentence[place].says(other):
        return any(token.says(one) for token in after[:3])
    if not sentence[place].says(one):
        return False
    if after[:1] and after[0].key in ("of", "for", "in"):
        near = next((token for token in after[1:] if token.kind != "small" and token.key not in _TITLES), None)
        return near is not None and near.says(other)
    return False


def _span(sentence: tuple[Token, ...], required: Sequence[Token], place: tuple[int, int]) -> tuple[int, int] | None:
    """The shortest (first, last) run that holds the answer at `place` and every required token."""
    first, last = place
    best: tuple[int, int] | None = None
    for start in range(first, -1, -1):
        for stop in range(last, len(sentence)):
            run = sentence[start : stop + 1]
            if all(any(token.says(need) for token in run) for need in required):
                if best is None or stop - start < best[1] - best[0]:
                    best = (start, stop)
                break
    return best


def _right_way_round(sentence: tuple[Token, ...], asked: _Asked, span: tuple[int, int], place: tuple[int, int]) -> bool:
    """Whether the answer does what the question asks who does, or bears what it asks who bears."""
    if not (asked.subject_asked or asked.object_asked):
        return True
    verbs = [at for at in range(span[0], span[1] + 1) if sentence[at].key == asked.verb]
    by = any(token.key == "by" for token in sentence[max(0, place[0] - 3) : place[0]])
    passive = any(token.key == "by" for token in sentence)
    if not verbs:
        return True
    if asked.subject_asked:
        return by or (not passive and place[1] < verbs[-1])
    return not by and (place[0] > verbs[0] or passive)


def _alone(
    sentence: tuple[Token, ...],
    required: Sequence[Token],
    span: tuple[int, int],
    place: tuple[int, int],
    foreign: Sequence[Token],
    known: frozenset[str],
) -> bool:
    """Whether nothing else in the sentence could be meant with equal right."""
    kinds = {token.kind for token in sentence[place[0] : place[1] + 1]} - {"small"}
    kind = next(each for each in ("year", "number", "name", "word") if each in kinds)
    same: Callable[[Token], bool] = {
        "year": lambda token: token.kind == "year",
        "number": lambda token: token.kind == "number" and not _other_unit(token, sentence[place[0] : place[1] + 1]),
    }.get(kind, lambda token: token.kind == "name")
    rivals = [token for token in foreign if same(token)]
    inside = sentence[span[0] : span[1] + 1]
    others = sum(token.kind != "small" and token.key not in known for token in inside)
    if kind == "word" and others > 1:
        return False
    if not rivals:
        return others <= MOST_OTHER_WORDS
    if kind in ("year", "number") and any(token.kind == "name" for token in foreign):
        return False
    width = span[1] - span[0]
    for at, token in enumerate(sentence):
        if token in rivals:
            rival = _span(sentence, required, (at, at))
            if rival is not None and rival[1] - rival[0] <= width:
                return False
    return others == 0


def _other_unit(token: Token, answer: Sequence[Token]) -> bool:
    return any(token.unit and each.unit and token.unit != each.unit for each in answer)
