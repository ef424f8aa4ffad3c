"""Dates, weekdays and times of day in an answer."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A date (`year` may be absent), a weekday or a time of day in minutes."""

    text: str
    key: tuple[str, int | None, int, int]


_MONTH_NAMES = [
    "january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul", "august aug",
    "september sep sept", "october oct", "november nov", "december dec",
]  # fmt: skip
_MONTHS = {name: number for number, names in enumerate(_MONTH_NAMES, start=1) for name in names.split()}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def moment(text: str) -> Moment | None:
    """The date or time that `text` is; None when it is none. 5/3/2024 is May 3, unless the first can be no month."""
    lower = text.lower().strip(" .")
    if len(lower) > 60:
        return None
    if lower in _WEEKDAYS:
        return Moment(text=text, key=("weekday", None, _WEEKDAYS.index(lower), 0))
    lower = re.sub(rf"^(?:on\s+)?(?:{'|'.join(_WEEKDAYS)}),?\s+", "", lower)
    iso = re.fullmatch(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})", lower)
    if iso:
        return _date(text, int(iso[1]), int(iso[2]), int(iso[3]))
    named = re.fullmatch(rf"({_MONTH})\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+(\d{{4}}))?", lower)
    if named:
        return _date(text, int(named[3]) if named[3] else None, _MONTHS[named[1]], int(named[2]))
    named = re.fullmatch(rf"(?:the\s+)?(\d{{1,2}})(?:st|nd|rd|th)?(?:\s+of)?\s+({_MONTH})\.?(?:,?\s+(\d{{4}}))?", lower)
    if named:
        return _date(text, int(named[3]) if named[3] else None, _MONTHS[named[2]], int(named[1]))
    numeric = re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})", lower)
    if numeric:  # month first, unless that can't be
        month, day = int(numeric[1]), int(numeric[2])
        return _date(text, int(numeric[3]), *((day, month) if month > 12 else (month, day)))
    time = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(a\.?m\.?|p\.?m\.?)?", lower) or re.fullmatch(
        r"(\d{1,2})()()\s*(a\.?m\.?|p\.?m\.?)", lower
    )
    if time:
        hour, minute = int(time[1]), int(time[2] or 0)
        half = (time[4] or "").replace(".", "")
        if minute > 59 or hour > 24 or (half and not 1 <= hour <= 12):
            return None
        hour = hour % 12 + (12 if half == "pm" else 0) if half else hour
        return Moment(text=text, key=("time", None, hour * 60 + minute, int(time[3] or 0)))
    return None


def _date(text: str, year: int | None, month: int, day: int) -> Moment | None:
    return Moment(text=text, key=("date", year, month, day)) if 1 <= month <= 12 and 1 <= day <= 31 else None
