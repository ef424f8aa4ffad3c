"""Numbers with their units in an answer: "$1,234.50", "1 1/2 cups", "50%", "twenty-one", "1.5 × 10^3"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from kaelum_graph.exact import NUMBER_WORDS, evaluate, plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """An exact number. `places` counts the decimals as written; `unit` holds its unit's words, normalised."""

    text: str
    value: Fraction
    unit: frozenset[str] = frozenset()
    places: int = 0
    percent: bool = False


_UNITS = {
    "cm": "centimeter centimeters centimetre centimetres", "mm": "millimeter millimeters millimetre millimetres",
    "m": "meter meters metre metres", "km": "kilometer kilometers kilometre kilometres", "in": "inch inches",
    "ft": "foot feet", "yd": "yard yards", "mi": "mile miles", "kg": "kilogram kilograms kilo kilos kgs",
    "g": "gram grams", "mg": "milligram milligrams", "lb": "pound pounds lbs", "oz": "ounce ounces",
    "l": "liter liters litre litres",
    "ml": "milliliter milliliters millilitre millilitres", "s": "second seconds sec secs", "min": "minute minutes mins",
    "h": "hour hours hr hrs", "day": "days", "week": "weeks", "month": "months", "year": "years yr yrs",
    "dollar": "$ dollars usd us$ bucks", "euro": "€ euros eur", "british-pound": "£ gbp", "yen": "¥ jpy",
    "cent": "cents ¢", "degree": "degrees ° deg", "mph": "mi/h", "km/h": "kph kmh kmph",
}  # fmt: skip
_UNIT_OF = {name: unit for unit, names in _UNITS.items() for name in (unit, *names.split())}
_IDLE = frozenset(
    ["in", "total", "of", "the", "a", "an", "left", "each", "altogether", "all", "about", "exactly", "units"]
)
_CURRENCY = "$€£¥"

_NUMERAL = r"[-+]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:e[-+]?\d{1,3})?|\.\d+)"
_QUANTITY = re.compile(
    rf"(?P<sign>[-+]?)\s*(?P<currency>us\$|[{_CURRENCY}])?\s*(?P<value>{_NUMERAL})(?P<percent>\s*%|\s*percent\b)?"
    rf"(?P<unit>\s*(?:[{_CURRENCY}°¢]|[a-z][a-z./²³^\-° ]*[23]?)?)",
)


def number(text: str) -> Number | None:
    """The quantity that `text` is, arithmetic evaluated; None when it is none."""
    lower = text.lower()
    if len(lower) > 120:
        return None
    mixed = re.fullmatch(r"(-?\d+)\s+(\d+)\s*/\s*([1-9]\d*)(?P<unit>\s+[a-z][a-z ]*)?", lower)
    if mixed:
        whole, part = int(mixed[1]), Fraction(int(mixed[2]), int(mixed[3]))
        value = whole + (-part if mixed[1].startswith("-") else part)
        return _with_unit(text, Fraction(value), mixed["unit"] or "", places=0, percent=False)
    match = _QUANTITY.fullmatch(lower)
    if match and not (match["sign"] and match["value"][0] in "+-"):
        value = evaluate(match["value"].lstrip("+"))
        if value is None:
            return None
        sign = -1 if match["sign"] == "-" else 1
        percent = bool(match["percent"])
        digits = re.search(r"\.(\d+)", match["value"])
        return _with_unit(
            text,
            sign * value / (100 if percent else 1),
            f"{match['currency'] or ''} {match['unit']}",
            places=len(digits.group(1)) if digits else 0,
            percent=percent,
        )
    words = _number_in_words(lower)
    if words is not None:
        return words
    value = evaluate(text) if re.search(r"\d", text) else None
    if value is not None:
        return Number(text=text, value=value, percent=plain(text).strip().endswith("%"))
    # "1/2 cup", "3 × 4 apples": an expression before a unit
    parts = re.fullmatch(r"([-+\d\s./*^()×÷·]*[\d)])\s+([a-z][a-z. ]{0,40})", lower)
    value = evaluate(parts[1]) if parts else None
    return _with_unit(text, value, parts[2], places=0, percent=False) if parts and value is not None else None


def unit_named(word: str) -> str | None:
    """The unit that a word or sign in lower case names, normalised: "metres" is "m"; None for any other word."""
    return _UNIT_OF.get(word)


def _with_unit(text: str, value: Fraction, unit: str, *, places: int, percent: bool) -> Number | None:
    if re.search(
        r"\b[a-z]\s*[-+*/^]|[-+*/^]\s*[a-z]\b", unit.replace("km/h", "").replace("mi/h", "").replace("m/s", "")
    ):
        return None  # "2x + y" and "3x^2" are no quantities
    if re.search(r"\b(?:or|and)\b", unit):
        return None  # "2 or -2"
    words = [word for word in re.split(r"[\s]+", unit.strip().strip(".")) if word]
    if len(words) > 5 or (len(words) == 1 and len(words[0]) == 1 and words[0] not in _UNIT_OF):
        return None
    if len(words) == 1 and re.fullmatch(r"[a-z]", words[0]) and not re.search(r"\d\s", text):
        return None  # "5m" and "2s" may be a product
    names = (_UNIT_OF.get(word, word.rstrip(".")) for word in words)
    kept = frozenset(name.removesuffix("s") if len(name) > 3 else name for name in names if name not in _IDLE)
    if "in" in words[:1] and len(words) == 1:
        kept = frozenset(["in"])
    return Number(text=text, value=value, unit=kept, places=places, percent=percent)


def _number_in_words(lower: str) -> Number | None:
    words = re.split(r"[\s-]+", lower)
    if not words or words[0] not in NUMBER_WORDS or len(words) > 6:
        return None
    value = NUMBER_WORDS[words[0]]
    rest = words[1:]
    if value >= 20 and rest and 0 < NUMBER_WORDS.get(rest[0], 0) < 10:
        value += NUMBER_WORDS[rest[0]]
        rest = rest[1:]
    if rest[:1] == ["hundred"] and value < 10:
        value *= 100
        rest = rest[1:]
    if any(word in NUMBER_WORDS or word in ("hundred", "thousand", "million", "point", "and", "or") for word in rest):
        return None
    if not all(re.fullmatch(r"[a-z']+", word) for word in rest):
        return None
    return _with_unit(lower, Fraction(value), " ".join(rest), places=0, percent=False)
