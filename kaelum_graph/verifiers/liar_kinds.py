"""The two kinds of a truth-teller puzzle, under any names: how they are defined, and found in a text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kaelum_graph.verifiers.plurals import is_plural, singular

_TRUTH = (
    r"(?:can only |will always |must always )?(?:always |only |ever )*(?:(?:tells?|speaks?|says?) (?:only "
    r"|nothing but )?"
    r"(?:the truth|truthfully|true (?:things|statements|sentences)|what is true)|makes? (?:only )?true "
    r"statements)(?: always)?"
    r"|(?:can )?never (?:lies?|tells? (?:a )?lies?)|(?:is|are) always (?:truthful|honest|telling the truth)"
)
_LIE = (
    r"(?:can only |will always |must always )?(?:always |only |ever )*(?:lies?|tells? (?:only |nothing but "
    r")?(?:lies|falsehoods)"
    r"|speaks? (?:only )?"
    r"(?:falsely|falsehoods|lies)|says? (?:only )?(?:false (?:things|statements|sentences)|what is false)"
    r"|makes? (?:only )?"
    r"false statements)(?: always)?|(?:can )?never (?:tells?|speaks?) the truth|(?:is|are) always lying"
)
DEFINITION = re.compile(
    r"(?:\b(?P<article>an?|the|every|each|any|all) )?\b(?P<kind>[A-Za-z]+(?:-[A-Za-z]+)?)"
    r"(?: (?:is|are) (?:someone|one|a person|people|those|persons))?(?P<who>,? (?:who|which|that)| \((?:who "
    r"|which |that )?|,)? ?"
    rf"(?:(?P<honest>{_TRUTH})|(?P<lying>{_LIE}))\b\)?,?",
    re.IGNORECASE,
)
NO_KIND = frozenset(
    "who which that they he she it we you i one someone everyone people persons person others other some both latter "
    "former always only and or but sometimes usually often mostly never do does not will can must to t hint note "
    "question answer puzzle rule rules clue example task problem fact remember warning tip solution".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """The names of the kind that tells the truth and of the one that lies, in the singular and lower case."""

    honest: str
    lying: str

    def of(self, word: str) -> bool | None:
        """True for a name of the honest kind, False of the lying one, None for another word. Plurals count too."""
        one = singular(word)
        if one in (self.honest, "truthteller", "truth-teller"):
            return True
        return False if one in (self.lying, "liar") else None


def kinds_defined(text: str) -> Kinds | None:
    """The two kinds, from what is said that they always do; None without exactly one of each."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for match in DEFINITION.finditer(text):
        kind, article = match["kind"], (match["article"] or "").lower()
        does = match["honest"] or match["lying"]
        # "Knights lie" defines a kind, "James lies" says something of James.
        alone = re.match(r"(?:(?:can|will|must|always|only|ever|never) )*(?:tells|speaks|says|lies|makes|is)\b", does)
        plural = is_plural(kind) and not alone
        if kind.lower() in NO_KIND or not (plural or article in ("a", "an", "every", "each", "any", "the")):
            continue
        found[match["honest"] is not None].add(singular(kind))
    if len(found[True]) != 1 or len(found[False]) != 1 or found[True] == found[False]:
        return None
    return Kinds(honest=found[True].pop(), lying=found[False].pop())


def symbols(text: str, *, people: tuple[str, ...], kinds: Kinds, speaker: int | None, quoted: bool) -> str:
    """`text` with people and kinds as `liar_statements` takes them. `speaker` None stands for the narrator."""
    text = " ".join(text.split())
    for short, whole in (("n't", " not"), ("'m", " am"), ("'re", " are"), ("'s not", " is not"), ("can not", "cannot")):
        text = text.replace(short, whole)
    text = re.sub(r"\b([Ii]t|[Hh]e|[Ss]he)'s\b", r"\1 is", text)
    for place, name in enumerate(people):
        # "A" is a name where a verb or a list goes on, an article before a noun.
        ending = (
            r"(?=$|[,.)]| (?:is|am|are|and|or|nor|if|would|could|will|tells|lies|always|both|only)\b)"
            if name == "A"
            else r"\b"
        )
        text = re.sub(rf"(?<![\w@]){re.escape(name)}{ending}", f"@{place}", text)
    if quoted and speaker is not None:
        text = re.sub(r"\b(?:I|me|myself|Me)\b", f"@{speaker}", text)
        if len(people) == 2:
            text = re.sub(
                r"\b(?:[Tt]he other(?: one| person| inhabitant| islander)?|[Hh]e|[Ss]he|him)\b",
                f"@{1 - speaker}",
                text,
            )
        text = re.sub(r"\bthem\b", "?", text)
    else:
        text = re.sub(r"\b(?:I|me|we|us|We)\b", "?", text)
        if speaker is not None and len(people) > 2:
            text = re.sub(r"\bthem\b", "?", text)
    words: list[str] = []
    for word in re.split(r"([A-Za-z]+(?:-[A-Za-z]+)*)", text):
        kind = kinds.of(word) if word[:1].isalpha() else None
        words.append({True: "#t", False: "#f", None: word.lower()}[kind])
    text = "".join(words)
    be = r"(@\d+|us|them) (is|am|are)( not)?"
    text = re.sub(rf"{be} (?:always )?(?:telling the truth|truthful|honest|speaking the truth)\b", r"\1 \2\3 #t", text)
    text = re.sub(rf"{be} (?:always )?(?:lying|dishonest)\b", r"\1 \2\3 #f", text)
    text = re.sub(r"(@\d+) (?:(?:always )?(?:tells?|speaks?) the truth|never lies?)\b", r"\1 is #t", text)
    return re.sub(r"(@\d+) (?:(?:always )?lies?|never tells? the truth)\b", r"\1 is #f", text)
