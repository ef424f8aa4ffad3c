"""Which plural belongs to which singular, as far as spelling tells: two different words are never taken for one."""

from __future__ import annotations

_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "mice": "mouse", "geese": "goose",
    "teeth": "tooth", "feet": "foot", "oxen": "ox", "lice": "louse", "dice": "die", "cacti": "cactus",
    "fungi": "fungus", "alumni": "alumnus", "nuclei": "nucleus", "criteria": "criterion", "crises": "crisis",
    "phenomena": "phenomenon", "wolves": "wolf", "knives": "knife", "lives": "life", "wives": "wife", "leaves": "leaf",
    "loaves": "loaf", "thieves": "thief", "halves": "half", "calves": "calf", "elves": "elf", "shelves": "shelf",
    "selves": "self", "scarves": "scarf", "hooves": "hoof", "dwarves": "dwarf", "sheaves": "sheaf",
    "quizzes": "quiz", "theses": "thesis", "oases": "oasis", "matrices": "matrix", "vertices": "vertex",
}  # fmt: skip
# Endings that the rules below would cut too short.
_WHOLE = {
    f"{word}s": word
    for word in (
        "movie cookie zombie hippie rookie genie calorie prairie pixie collie selfie shoe canoe oboe aloe axe cache "
        "house cause blouse spouse clause excuse muse ruse abuse nurse horse goose".split()
    )
}
# Plurals in form whose "singular" is another word ("good", "new"), or that have none.
_NO_PLURAL = frozenset(
    "goods news shorts means customs arms glasses greens blues works spirits woods pants mathematics physics ethics "
    "politics species series lens always perhaps less gas yes plus bias atlas canvas christmas".split()
)


def singular(word: str) -> str:
    """`word` in lower case, without a plural ending; a word whose spelling shows none comes back as it is.

    A capital letter used as a name ("A", "As", "A's") stays that capital letter.
    """
    if len(word.rstrip("s'")) == 1 and word[0].isupper():
        return word[0]
    word = word.lower()
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _WHOLE:
        return _WHOLE[word]
    if word.endswith("men") and len(word) > 5 and not word.endswith(("imen", "omen", "amen", "umen")):
        return word[:-3] + "man"
    if len(word) < 3 or not word.endswith("s") or word.endswith(("ss", "us", "is", "'s")) or word in _NO_PLURAL:
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zzes", "oes", "uses")) and len(word) > 4:
        return word[:-2]
    return word[:-1]


def is_plural(word: str) -> bool:
    """Whether `word` is spelled as the plural of another word."""
    return singular(word) != (word if len(word) == 1 else word.lower())
