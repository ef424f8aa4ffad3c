"""Whether two answers say the same.

Two steps: `read` gives each answer a value (a number with its unit, an option, a truth value, a list, a date, a time,
words), and values of like kinds are compared exactly; what is mathematical beyond that goes to Math-Verify in a child
process. docs/evidence.md lists what counts as equal and why.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from kaelum_graph.algebra import algebra
from kaelum_graph.answer_values import Listing, Moment, Number, Option, Truth, Value, Words, is_mathematical, read

MAX_LENGTH = 4000


def answers_equal(a: str, b: str) -> bool:
    """Whether answers `a` and `b` say the same. Symmetric; blank answers equal nothing.

    An unreadable or overlong pair, or one that takes the algebra longer than its limit, is equal only as text.
    """
    if not a.strip() or not b.strip():
        return False
    if a == b:
        return True
    if max(len(a), len(b)) > MAX_LENGTH:
        return " ".join(a.split()) == " ".join(b.split())
    return _equal(min(a, b), max(a, b))


_EQUATION = re.compile(r"(?<![<>!:=])=(?!=)")


@lru_cache(maxsize=16384)
def _equal(a: str, b: str) -> bool:
    one, other = read(a), read(b)
    if one == other:
        return True
    decided = _same_kind(one, other)
    if decided is not None:
        return decided
    if not (is_mathematical(a) and is_mathematical(b)):
        return False
    if bool(_EQUATION.search(one.text)) != bool(_EQUATION.search(other.text)):
        # "x = 13" has been read as 13 by now; of "4k = 13" the algebra would take the right side alone.
        return False
    one_text, one_constant = _without_constant(one.text)
    other_text, other_constant = _without_constant(other.text)
    if one_constant != other_constant:
        # "x^3/3" is one antiderivative, "x^3/3 + C" all of them; and C may be a variable. So they differ.
        return False
    if one_constant:
        return algebra().equal_up_to_constant(one_text, other_text) is True
    return algebra().equal(one.text, other.text) is True


def _same_kind(one: Value, other: Value) -> bool | None:
    """Equality of two values of known kinds; None where only algebra can tell."""
    if isinstance(one, Number) and isinstance(other, Number):
        return _same_number(one, other)
    if isinstance(one, Truth) and isinstance(other, Truth):
        return one.value == other.value
    if isinstance(one, Moment) and isinstance(other, Moment):
        return _same_moment(one, other)
    if isinstance(one, Option) and isinstance(other, Option):
        return one.letter == other.letter
    if isinstance(one, Option) or isinstance(other, Option):
        option, plain = (one, other) if isinstance(one, Option) else (other, one)
        assert isinstance(option, Option)
        # A bare letter may be an option or a name: "B" is "(B)".
        return isinstance(plain, Words) and plain.key == option.letter
    if isinstance(one, Listing) and isinstance(other, Listing):
        return _same_listing(one, other)
    if isinstance(one, Listing) or isinstance(other, Listing):
        listing, single = (one, other) if isinstance(one, Listing) else (other, one)
        assert isinstance(listing, Listing)
        if len(listing.items) == 1:
            return answers_equal(listing.items[0], single.text)
        if isinstance(single, Words) and not is_mathematical(single.text):
            # "apple bat cat" for "apple, bat, cat"
            return listing.key == single.key
        return None
    if type(one) is not type(other):
        words = one if isinstance(one, Words) else other
        # A number against plain words can't be equal; against "2*pi" algebra tells.
        return None if isinstance(words, Words) and words.symbolic else False
    if isinstance(one, Words) and isinstance(other, Words):
        if one.key == other.key and len(one.key) == 1:
            return True  # "B" and "b"
        return None if one.symbolic or other.symbolic else one.key == other.key
    return False


def _same_moment(one: Moment, other: Moment) -> bool:
    kind, year, *rest = one.key
    other_kind, other_year, *other_rest = other.key
    return (kind, rest) == (other_kind, other_rest) and (year == other_year or None in (year, other_year))


def _same_number(one: Number, other: Number) -> bool:
    if not _compatible_units(one.unit, other.unit):
        return False
    if _close(one, other):
        return True
    # "50%" answers "what percentage": a bare "50" means the same. Two numbers with a percent sign were compared above.
    if one.percent != other.percent:
        percent, bare = (one, other) if one.percent else (other, one)
        return percent.value * 100 == bare.value and not bare.unit
    return False


def _compatible_units(one: frozenset[str], other: frozenset[str]) -> bool:
    """Equal, or one says less: "42 apples" and "42", "42 red apples" and "42 apples"."""
    return one <= other or other <= one


def _close(one: Number, other: Number) -> bool:
    if one.value == other.value:
        return True
    difference = abs(one.value - other.value)
    scale = max(abs(one.value), abs(other.value))
    if one.places + other.places > 0 and difference <= scale / 10**9:
        return True  # noise of binary floating point, as in 0.30000000000000004
    # A rounded (or cut) decimal for a value that has no short decimal: 0.333 for 1/3, 3.1416 for 3.14159265.
    for short, exact in ((one, other), (other, one)):
        longer = exact.places > short.places or not _terminates(exact.value)
        enough = 3 if not _terminates(exact.value) else 4
        if longer and short.places >= enough and difference < Fraction(1, 10**short.places):
            return True
    return False


def _terminates(value: Fraction) -> bool:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _same_listing(one: Listing, other: Listing) -> bool | None:
    if len(one.items) != len(other.items) or (one.names and other.names and one.names != other.names):
        return False
    if "interval" in (one.shape, other.shape) and one.brackets != other.brackets and one.brackets and other.brackets:
        return None  # "(1, 2)" against "[1, 2]" may be intervals, where the brackets decide
    if not (one.unordered or other.unordered):
        return all(answers_equal(a, b) for a, b in zip(one.items, other.items, strict=True))
    rest = list(other.items)
    for item in one.items:
        match = next((index for index, candidate in enumerate(rest) if answers_equal(item, candidate)), None)
        if match is None:
            return False
        del rest[match]
    return True


_CONSTANT = re.compile(r"\s*\+\s*(?:C|c|K|k|\\text\{C\}|constant)(?:_?\{?[01]\}?)?\s*$")


def _without_constant(text: str) -> tuple[str, bool]:
    """`text` without a closing "+ C", and whether it had one."""
    match = _CONSTANT.search(text)
    return (text[: match.start()], True) if match and re.search(r"[a-zA-Z]", text[: match.start()]) else (text, False)
