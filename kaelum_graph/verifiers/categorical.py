"""Categorical statements (all, no, some, some … not, and what is said of one named thing): read, and decided exactly.

What follows from premises is decided over regions: with n terms there are 2^n ways of having or lacking each. A
universal statement empties regions, a particular one wants an inhabited region, a name wants one region to be in.
Premises fit together when all wants can be met in the regions that are left; a statement follows when its denial does
not fit the premises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from kaelum_graph.verifiers.plurals import is_plural, singular

MAX_TERMS = 7

Form = Literal["all", "no", "some", "some not", "is", "is not", "exists", "none"]

_DENIAL: dict[Form, Form] = {
    "all": "some not", "some not": "all", "no": "some", "some": "no", "is": "is not", "is not": "is",
    "exists": "none", "none": "exists",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A class of things. Equal by `key`, the words without number; `plural` tells how it was written."""

    key: tuple[str, ...]
    text: str
    plural: bool

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Term) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One statement: of the class `subject`, or of the thing called `name` where `form` is "is" or "is not"."""

    form: Form
    subject: Term | None = None
    name: str = ""
    predicate: Term | None = None

    @property
    def terms(self) -> tuple[Term, ...]:
        return tuple(term for term in (self.subject, self.predicate) if term is not None)

    def denied(self) -> Claim:
        """The statement that is true exactly where this one is false."""
        return Claim(form=_DENIAL[self.form], subject=self.subject, name=self.name, predicate=self.predicate)

    def __str__(self) -> str:
        subject, predicate = (term.text if term else "" for term in (self.subject, self.predicate))
        if self.form in ("is", "is not"):
            return f"{self.name} {self.form} {predicate}"
        if self.form in ("exists", "none"):
            return f"there are {'' if self.form == 'exists' else 'no '}{subject}"
        return f"{self.form.split()[0]} {subject} are {'not ' if self.form == 'some not' else ''}{predicate}"


# -- deciding ---------------------------------------------------------------------------------------------------------


def fit(claims: Sequence[Claim], *, members: bool) -> bool:
    """Whether all `claims` can be true together; with `members`, in a world where each of their classes has a member.

    Raises `ValueError` for more than `MAX_TERMS` terms.
    """
    terms = terms_of(claims)
    if len(terms) > MAX_TERMS:
        raise ValueError(f"{len(terms)} terms; at most {MAX_TERMS} can be decided")
    place = {term: 1 << index for index, term in enumerate(terms)}

    def has(region: int, term: Term | None) -> bool:
        return term is not None and bool(region & place[term])

    def emptied(region: int, claim: Claim) -> bool:
        if claim.form not in ("all", "no", "none") or not has(region, claim.subject):
            return False
        return claim.form == "none" or has(region, claim.predicate) == (claim.form == "no")

    left = [region for region in range(1 << len(terms)) if not any(emptied(region, claim) for claim in claims)]
    for claim in claims:
        if claim.form in ("some", "some not"):
            wanted = claim.form == "some"
            if not any(has(region, claim.subject) and has(region, claim.predicate) == wanted for region in left):
                return False
        if claim.form == "exists" and not any(has(region, claim.subject) for region in left):
            return False
    for name in {claim.name for claim in claims if claim.name}:
        said = [claim for claim in claims if claim.name == name]
        if not any(all(has(region, claim.predicate) == (claim.form == "is") for claim in said) for region in left):
            return False
    # The domain itself is never empty: some region is left even where no class must have a member.
    return bool(left) and (not members or all(any(has(region, term) for region in left) for term in terms))


def follows(premises: Sequence[Claim], conclusion: Claim, *, members: bool) -> bool:
    """Whether `conclusion` is true wherever all of `premises` are."""
    return not fit([*premises, conclusion.denied()], members=members)


def terms_of(claims: Iterable[Claim]) -> tuple[Term, ...]:
    """The distinct terms of `claims`, in order of appearance."""
    return tuple(dict.fromkeys(term for claim in claims for term in claim.terms))


# -- reading ----------------------------------------------------------------------------------------------------------

# A term that holds one of these says more than which class it is, or is no class at all.
_NO_TERM = frozenset(
    "are is was were be been being am not no none nor and or but if then all every each any some only most many few "
    "several both either neither that who which whose whom whether than as except unless because since so therefore "
    "thus hence always never sometimes usually often rarely mostly generally typically probably likely possibly "
    "necessarily almost nearly about this these those it its they them their he his she her him we us our you your i "
    "me my there here one two three four five at least more less much does do did can cannot could must may might "
    "will would shall should has have had other others another same equal also too both follow follows true false "
    "valid invalid conclude half majority anything something nothing everything anyone someone everyone nobody "
    "everybody somebody what how when where why".split()
)
# First words of a sentence that a name never starts with.
_NO_NAME = _NO_TERM | frozenset(
    "given suppose supposing assume assuming consider imagine conclusion premise statement fact clearly obviously "
    "consequently moreover furthermore however indeed now note further again first second third finally next also "
    "accordingly otherwise surely certainly logically answer question the a an hence say says let".split()
)
_ARTICLE = re.compile(r"^(?:an?|the)\s+(?=\S)")
_WORD = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*'?")
_NAME = r"(?P<name>[A-Z][A-Za-z'-]*(?: [A-Z][A-Za-z'-]*){0,2})"
_S, _P = r"(?P<s>\S.*?)", r"(?P<p>\S.*)"
_BE = r"(?:are|is)"
_WHO = r"(?:who|that|which)"
_ONE = r"(?:every(?:one|body|thing)|any(?:one|body|thing))"
_NONE = r"(?:no[ -]?one|nobody|nothing)"
_SOME = r"some(?:one|body|thing)"

_CLASSES: tuple[tuple[Form, str], ...] = (
    ("some not", rf"not (?:all|every|each)(?: of the)? {_S} {_BE} {_P}"),
    ("some not", rf"(?:some|at least one)(?: of the)? {_S} (?:{_BE} not|aren't|isn't) {_P}"),
    ("some not", rf"there (?:are|is|exists?)(?: some| at least one| an?)? {_S} {_WHO} (?:{_BE} not|aren't|isn't) {_P}"),
    ("some", rf"(?:some|at least one)(?: of the)? {_S} {_BE} {_P}"),
    ("some", rf"there (?:are|is|exists?)(?: some| at least one| an?) {_S} {_WHO} {_BE} {_P}"),
    ("some", rf"there (?:are|exists?) {_S} {_WHO} {_BE} {_P}"),
    ("no", rf"(?:no|none of the) {_S} {_BE} {_P}"),
    ("no", rf"there (?:are|is) no {_S} {_WHO} {_BE} {_P}"),
    ("no", rf"{_NONE} (?:{_WHO} is|that's) {_S} is {_P}"),
    ("all", rf"(?:all|every|each)(?: of the)? {_S} {_BE} {_P}"),
    ("all", rf"{_ONE} (?:{_WHO} is|that's) {_S} is {_P}"),
    ("all", rf"if (?:{_SOME}|{_ONE}) is {_S},? (?:then )?(?:it|they|he|she|he or she) {_BE} {_P}"),
    ("all", rf"an? {_S} is (?P<p>an? .*)"),
    ("exists", r"there (?:are|exists?)(?: some)? (?P<s>\S.*)"),
    ("exists", r"there (?:is|exists) (?:at least one|an?) (?P<s>\S.*)"),
    ("exists", rf"(?:some )?{_S} exist"),
    ("exists", rf"at least one {_S} exists"),
    ("none", r"there (?:are|is) no (?P<s>\S.*)"),
    ("none", rf"no {_S} exist"),
)  # fmt: skip
_READERS: tuple[tuple[Form, re.Pattern[str]], ...] = tuple(
    (form, re.compile(pattern, re.IGNORECASE)) for form, pattern in _CLASSES
)
_ONLY = re.compile(rf"only {_S} {_BE} {_P}", re.IGNORECASE)
_PLAIN = re.compile(rf"{_S} are {_P}")
_OF_ONE = re.compile(rf"{_NAME} is(?P<not> not|n't)? {_P}")
_STARTS = re.compile(
    r"(?:all|every|each|any|no|none|some|only|not|there|at|if|an?|the|this|these|those|it|he|she|they|we|you|"
    r"everyone|everybody|everything|anyone|anybody|anything|someone|something|nobody|nothing|most|few|many|"
    r"both|neither|either)\b",
    re.IGNORECASE,
)


def term(text: str) -> Term | None:
    """The class that `text` names, articles aside; None where it is more than up to five plain words."""
    text = text.strip()
    bare = _ARTICLE.sub("", text)
    words = bare.split(" ")
    if text.startswith("the ") or not 1 <= len(words) <= 5 or not all(_WORD.fullmatch(word) for word in words):
        return None
    letter = len(words) == 1 and len(bare.rstrip("s'")) == 1
    if any(word.lower() in _NO_TERM for word in words) if not letter else not bare[0].isupper():
        return None
    # "men of honour": the first word has the number; "black cats": the last.
    head = next((index - 1 for index, word in enumerate(words) if word in ("of", "in", "with", "from") and index), -1)
    head %= len(words)
    key = tuple(singular(word) if index == head else word.lower() for index, word in enumerate(words))
    return Term(key=key, text=bare, plural=is_plural(words[head]))


def claim(text: str, *, classes: frozenset[Term] = frozenset()) -> Claim | None:
    """The statement that the whole of `text` is; None when it is none, or can be meant in two ways.

    "All X are not Y" says for some that none is and for others that not all are, so it is not read. Nor is "Swans are
    white", which need not mean all; "Whales are mammals" is read as all. `classes` are terms that are no names.
    """
    text = " ".join(text.split()).strip(" .,")
    if len(text) > 160:
        return None
    text = re.sub(r"\b(are|is)(n't| not)? (?:also|then|therefore) ", r"\1\2 ", text)
    only = _ONLY.fullmatch(text)
    if only:
        return _of_classes("all", only["p"], only["s"])
    for form, reader in _READERS:
        found = reader.fullmatch(text)
        read = _of_classes(form, found["s"], found.groupdict().get("p")) if found else None
        if read:
            return read
    single = _OF_ONE.fullmatch(text)
    if single and not _STARTS.match(text):
        predicate = term(single["p"])
        named = term(single["name"])
        words = single["name"].split(" ")
        if any(len(word) > 1 and word.lower() in _NO_NAME for word in words) or words[0] == "I":
            return None
        if predicate is None or (named is not None and named in classes):
            return None
        return Claim(form="is not" if single["not"] else "is", name=single["name"], predicate=predicate)
    plain = _PLAIN.fullmatch(text)
    if plain and not _STARTS.match(text):
        found = _of_classes("all", plain["s"], plain["p"])
        return found if found and all(term.plural for term in found.terms) else None
    return None


def _of_classes(form: Form, subject: str, predicate: str | None) -> Claim | None:
    first = term(subject)
    second = term(predicate) if predicate is not None else None
    if first is None or (predicate is not None and second is None):
        return None
    return Claim(form=form, subject=first, predicate=second)


# -- doubts -----------------------------------------------------------------------------------------------------------

_PREFIX = re.compile(r"(?:non|un|in|im|ir|il|dis|anti|semi|grand|great|step|half)-?")


def related(claims: Sequence[Claim]) -> tuple[str, str] | None:
    """Two terms or names of `claims` whose spelling hints at more than was said ("roses", "red roses"); else None.

    Read as unrelated they can only make too little follow, never too much.
    """
    words: dict[str, tuple[str, ...]] = {term.text: term.key for term in terms_of(claims)}
    words.update({claim.name: tuple(claim.name.split()) for claim in claims if claim.name})
    named = list(words.items())
    for index, (one, key) in enumerate(named):
        for other, second in named[index + 1 :]:
            if any(_alike(first, last) for first in key for last in second):
                return one, other
    return None


def _alike(one: str, other: str) -> bool:
    one, other = sorted((one.lower(), other.lower()), key=len)
    if len(one) == 1:
        return one == other
    start = min(len(one), 4)
    if one[:start] == other[:start]:
        return True
    return other.endswith(one) and bool(_PREFIX.fullmatch(other[: -len(one)]))
