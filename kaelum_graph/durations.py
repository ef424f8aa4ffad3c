"""Stretches of time: the one that a question asks for, and the one that an answer states. Exact, to the microsecond."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from kaelum_graph.leftovers import around, only_requests, without_examples

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = r"(?P<month>(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*)\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?<!\d)(?P<year>\d{4})-(?P<number>\d\d)-(?P<day>\d\d)(?!\d)",
        rf"\b{_MONTH}\s+{_DAY},?\s+(?P<year>\d{{4}})\b",
        rf"\b{_DAY}\s+{_MONTH},?\s+(?P<year>\d{{4}})\b",
    )
)
_TIME = re.compile(
    r"(?<![\d:.])(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<part>\d{1,6}))?)?(?![\d:])"
    r"(?:\s*(?P<half>[ap])\.?m\b\.?)?(?:\s*\(?(?:UTC|GMT)?(?P<zone>[+-]\d\d:?\d\d)\)?)?",
    re.IGNORECASE,
)
_WEEKDAY = r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*"
_JOINED = re.compile(r"\s*(?:,|T|\bat\b|,\s*at\b)?\s*", re.IGNORECASE)

# What a question may be made of, "@" standing for an instant. An event is named with at most three words, and the
# question has to name the same one: "How long was the first half?" is not about the whole.
_JOINING = r"(?:to|from|in|of|with|without|for|per|by|on|at|and|or|that|which|who|except|after|before|until|not)"
_NOUN = rf" (?!{_JOINING}\b)[a-z]+"
_NAMED = rf"\b(?:(?:the|a|an|this|my|our|his|her){_NOUN}(?:{_NOUN}){{0,2}}?|it|he|she|they|i|we)\b"
_BEGAN = r"(?:start(?:s|ed)?|beg(?:ins?|an)|commence[sd]?|depart(?:s|ed)?|leaves?|left|open(?:s|ed)?)"
_ENDED = (
    r"(?:end(?:s|ed)?|finish(?:es|ed)?|complete[sd]?|conclude[sd]?|arrive[sd]?|close[sd]?|stop(?:s|ped)?|land(?:s|ed)?)"
)
_SCENE = re.compile(
    rf"(?P<event>{_NAMED})(?: had)? "
    rf"(?:{_BEGAN} (?:at |on )?@,? and (?:it |he |she |they |i |we )?{_ENDED}"
    rf"|(?P<turned>{_ENDED}) (?:at |on )?@,? and (?:it |he |she |they |i |we )?(?:had )?{_BEGAN}) (?:at |on )?@",
)
_UNIT = r"(?:days|hours|minutes|seconds)"
_OF_SCENE = re.compile(
    rf"(?:how (?:long|much time|many {_UNIT}) (?:was|is|did|does|do) (?P<event>{_NAMED})(?: take| last| open| run)?"
    rf"(?: in {_UNIT}(?: and {_UNIT})?)?|how long"
    rf"|what (?:is|was) (?:the|its) (?:total )?(?P<kind>(?:[a-z]+ )?)(?:duration|length)(?: of (?P<of>{_NAMED}))?)"
    r"(?=\s*(?:[?.!]|$))",
)
_BETWEEN = re.compile(
    rf"(?:how (?:long|much time|many {_UNIT}) (?:is it|was it|is there|elapsed|passed|passes|pass|are there|are)"
    r"|(?:calculate|compute|find|determine|what (?:is|was)) the (?:total )?"
    r"(?:time difference|time interval|time elapsed|elapsed time|duration|difference))"
    r" (?P<ends>from|between) @,? (?:and|to|until) @",
)
_SAME = frozenset("it he she they i we the a an this my our his her trip journey ride".split())
_IN_UNITS = re.compile(rf"\bin {_UNIT}(?: and {_UNIT})?\b", re.IGNORECASE)

_FORM = re.compile(r"\b(?P<days>D days)?(?:,? ?(?P<clock>HH:MM(?P<seconds>:SS)?(?P<part>\.(?:mmm|fff|sss))?))?")
_STATED = re.compile(
    r"(?<![\d:.-])(?:(?P<days>\d+)\s*days?\b,?\s*(?:and\s+)?)?"
    r"(?P<hours>\d{1,4}):(?P<minutes>\d{1,2})(?::(?P<seconds>\d{1,2})(?:\.(?P<part>\d{1,6}))?)?(?![\d:])"
)
_WORDED = re.compile(
    r"(?<![\d:.-])(?:\d+(?:\.\d+)?\s*(?:days?|hours?|hrs?|minutes?|mins?|seconds?|secs?)\b(?:\s*,?\s*(?:and\s+)?)?)+",
    re.IGNORECASE,
)
_UNITS = {"day": 86400, "hou": 3600, "hr": 3600, "hrs": 3600, "min": 60, "sec": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a duration is to be written: "D days", a clock of hours and minutes, its seconds and thousandths."""

    days: bool
    clock: bool
    seconds: bool
    thousandths: bool

    @property
    def unit(self) -> timedelta:
        """The smallest difference that this form shows."""
        if not self.clock:
            return timedelta(days=1)
        return timedelta(milliseconds=1) if self.thousandths else timedelta(seconds=1 if self.seconds else 60)

    def write(self, length: timedelta) -> str:
        """`length` in this form, cut off below its smallest unit."""
        micros = length // timedelta(microseconds=1)
        days, rest = divmod(micros, 86_400_000_000) if self.days else (0, micros)
        text = f"{days} days" if self.days else ""
        if not self.clock:
            return text
        hours, rest = divmod(rest, 3_600_000_000)
        minutes, rest = divmod(rest, 60_000_000)
        seconds, rest = divmod(rest, 1_000_000)
        thousandths = rest // 1000
        clock = f"{hours:02d}:{minutes:02d}"
        clock += f":{seconds:02d}" if self.seconds else ""
        clock += f".{thousandths:03d}" if self.thousandths else ""
        return f"{text}, {clock}" if self.days else clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Two instants of a question, as written, and the time from the first to the second."""

    start: str
    end: str
    length: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class _Instant:
    at: int
    text: str
    when: datetime
    dated: bool
    timed: bool
    half: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """Whether start and end are told apart, the end is named first, and the span is how long an event lasts."""

    directed: bool = True
    turned: bool = False
    lasting: bool = True


def asked_form(question: str) -> Form | None:
    """The form in which `question` wants a duration; None where it names none."""
    for match in _FORM.finditer(question):
        if match["days"] or match["clock"]:
            return Form(
                days=bool(match["days"]),
                clock=bool(match["clock"]),
                seconds=bool(match["seconds"]),
                thousandths=bool(match["part"]),
            )
    return None


def asked_span(question: str) -> Span | None:
    """The span whose length `question` asks for; None where it asks for something else, or that can't be told.

    It must name just two instants, alike in having a date, a time of day, a half of the day and a zone, and be made of
    nothing but what began and ended at them, how long that was, and the form of the answer. Without dates an end that
    is earlier than the start is on the next day, where the question says which is which and its clock has 24 hours.
    """
    question = without_examples(question)
    instants = _instants(question)
    if len(instants) != 2 or _nature(instants[0]) != _nature(instants[1]):
        return None
    reading = _reading(question, instants)
    if reading is None:
        return None
    first, second = reversed(instants) if reading.turned else instants
    # A festival from the 1st to the 3rd may be said to last three days.
    if reading.lasting and not first.timed and asked_form(question) is None:
        return None
    length = second.when - first.when
    # From noon to noon: nothing, or a day.
    if not length and not first.dated:
        return None
    if length < timedelta():
        whole_day = first.half or any(not 1 <= one.when.hour <= 12 for one in instants)
        if first.dated or not reading.directed or not whole_day:
            return None
        length += timedelta(days=1)
    return Span(start=first.text, end=second.text, length=length)


def _nature(one: _Instant) -> tuple[bool, bool, bool, bool]:
    return one.dated, one.timed, one.half, one.when.tzinfo is None


def _reading(question: str, instants: Sequence[_Instant]) -> _Reading | None:
    """How a question tells its instants apart; None for one that says anything else."""
    text = question
    for one in reversed(instants):
        text = f"{text[: one.at]}@{text[one.at + len(one.text) :]}"
    text = re.sub(rf"(?:\b{_WEEKDAY},?\s+)?@(?:\s*\({_WEEKDAY}\))?", "@", text, flags=re.IGNORECASE)
    text = _FORM.sub(lambda form: " " if form[0] else "", text)
    text = " ".join(text.lower().split())
    asked = _BETWEEN.search(text)
    if asked is not None:
        directed = asked["ends"] == "from"
        inclusive = directed and asked[0].partition(" from ")[0].endswith((" are", " there"))
        return _Reading(directed=directed, lasting=inclusive) if _says_no_more(around(asked)) else None
    scene = _SCENE.search(text)
    asked = _OF_SCENE.search(around(scene)) if scene is not None else None
    if scene is None or asked is None or not _says_no_more(around(asked)):
        return None
    named = " ".join(asked[group] or "" for group in ("event", "kind", "of")).split()
    if not _SAME | set(scene["event"].split()) >= set(named):
        return None
    return _Reading(turned=scene["turned"] is not None)


def _says_no_more(rest: str) -> bool:
    return only_requests(_IN_UNITS.sub(" ", rest))


def read_duration(text: str, *, form: Form | None = None) -> timedelta | None:
    """The duration that `text` is, or ends on: "18 days, 21:21:12", "3:30:57", "2 hours and 45 minutes".

    A clock of two parts is hours and minutes. None where there is none, or more than one and none at the end.
    """
    found = list(_STATED.finditer(text)) or list(_WORDED.finditer(text))
    if not found:
        return None
    last = found[-1]
    if last.re is _WORDED:
        return _worded(last[0])
    if int(last["minutes"]) > 59 or int(last["seconds"] or 0) > 59:
        return None
    if form is not None and form.days and last["days"] is None and int(last["hours"]) > 23:
        return None
    return timedelta(
        days=int(last["days"] or 0),
        hours=int(last["hours"]),
        minutes=int(last["minutes"]),
        seconds=int(last["seconds"] or 0),
        microseconds=int((last["part"] or "0").ljust(6, "0")),
    )


def in_asked_form(question: str, answer: str) -> str:
    """`answer` as `question` wants a duration written, where it is one; else as it stands."""
    form = asked_form(question)
    length = read_duration(answer, form=form) if form is not None else None
    return answer if form is None or length is None else form.write(length)


def subtracts(line: str, span: Span) -> bool:
    """Whether `line` takes one of the span's instants from the other."""
    start, end = re.escape(span.start), re.escape(span.end)
    return bool(re.search(rf"{end}\s*[-−–]\s*{start}|{start}\s*[-−–]\s*{end}", line))


def _worded(text: str) -> timedelta:
    seconds = 0.0
    for number, unit in re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.lower()):
        seconds += float(number) * _UNITS.get(unit, _UNITS.get(unit[:3], 0))
    return timedelta(seconds=round(seconds, 6))


def _instants(text: str) -> list[_Instant]:
    dates = sorted((match for pattern in _DATES for match in pattern.finditer(text)), key=lambda match: match.start())
    times = list(_TIME.finditer(text))
    found: list[_Instant] = []
    for date in dates:
        time = next((one for one in times if _JOINED.fullmatch(text[date.end() : one.start()])), None)
        if time is not None:
            times.remove(time)
        end = time.end() if time else date.end()
        when = _when(date, time)
        if when is None:
            return []
        half = bool(time and time["half"])
        found.append(
            _Instant(at=date.start(), text=text[date.start() : end], when=when, dated=True, timed=bool(time), half=half)
        )
    for time in times:
        when = _when(None, time)
        if when is None:
            return []
        half = bool(time["half"])
        found.append(_Instant(at=time.start(), text=time[0].strip(), when=when, dated=False, timed=True, half=half))
    return sorted(found, key=lambda one: one.at)


def _when(date: re.Match[str] | None, time: re.Match[str] | None) -> datetime | None:
    year, month, day = 2000, 1, 1
    if date is not None:
        groups = date.groupdict()
        month = int(groups["number"]) if groups.get("number") else _MONTHS.index(groups["month"][:3].lower()) + 1
        year, day = int(groups["year"]), int(groups["day"])
    hour = minute = second = part = 0
    zone = None
    if time is not None:
        hour, minute, second = int(time["hour"]), int(time["minute"]), int(time["second"] or 0)
        part = int((time["part"] or "0").ljust(6, "0"))
        if time["half"]:
            if not 1 <= hour <= 12:
                return None
            hour = hour % 12 + (12 if time["half"].lower() == "p" else 0)
        if time["zone"]:
            sign, digits = (-1 if time["zone"][0] == "-" else 1), time["zone"][1:].replace(":", "")
            zone = timezone(sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:])))
    try:
        return datetime(year, month, day, hour, minute, second, part, tzinfo=zone)
    except ValueError:
        return None
