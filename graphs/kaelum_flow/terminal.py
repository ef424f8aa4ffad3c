"""What a person sees in a terminal: the live line while a search runs, and the answer with its story."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from kaelum_graph.answer import Answer, Choice, Progress
from kaelum_graph.posterior import form_checked
from kaelum_graph.retrieval import Passage
from kaelum_graph.tree_text import cost_words, stop_words

STATUS_WORDS = {"verified": "verified", "unverified": "agreed", "unsure": "not sure"}
MAX_EVIDENCE_LINES = 6
MAX_ALTERNATIVES = 3
MAX_LINE = 160

# Escape sequences in a model's text could rewrite the screen, the title or the clipboard of whoever reads it.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """`text` without control characters other than tab and newline."""
    return _CONTROL.sub("", text.replace("\r\n", "\n"))


def one_line(text: str, *, limit: int = MAX_LINE) -> str:
    """`text` on one line of at most `limit` characters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def tokens_per_second(answer: Answer) -> float:
    """Completion tokens over the whole time that the answer took; 0 for an answer that took none."""
    return answer.cost.completion_tokens / answer.cost.seconds if answer.cost.seconds > 0 else 0.0


def story(answer: Answer) -> str:
    """The block under an answer: what is claimed, why, by which route and at what cost. Ends without a newline."""
    cost = answer.cost
    lines: list[tuple[str, str]] = []
    if answer.answer is not None:
        lines.append(("answer", one_line(answer.answer)))
    lines.extend(("call", one_line(f"{call.name}({call.arguments})")) for call in answer.calls)
    lines.append(("status", f"{_status(answer)}, P(correct) {answer.confidence:.2f}, {_stop(answer)}"))
    lines.append(("route", _route(answer)))
    lines.extend(_evidence(answer))
    for place, source in enumerate(answer.sources, start=1):
        speaks = "  (supports the answer)" if source.supports else ""
        label = one_line(Passage(text=source.text, source=source.source, title=source.title).label, limit=100)
        lines.append(("sources", f"[{place}] {label or one_line(source.text, limit=60)}{speaks}"))
    for other in answer.alternatives[: 0 if answer.choices else MAX_ALTERNATIVES]:
        if other.answer != answer.answer:
            lines.append(
                (
                    "other",
                    f"{one_line(other.answer, limit=80)} ({other.share:.0%} of the rollouts, P {other.confidence:.2f})",
                )
            )
    lines.append(
        (
            "cost",
            cost_words(dataclasses.asdict(cost))
            + (f" ({tokens_per_second(answer):.0f} tokens/s)" if cost.completion_tokens else ""),
        )
    )
    if answer.trace and (earlier := answer.trace.get("continued_from")):
        lines.append(("", f"continued from {earlier}: {len(answer.trace['rollouts']):,} rollouts in all"))
    lines.append(("model", one_line(answer.model)))
    lines.extend(("note", one_line(notice)) for notice in answer.notices)
    if answer.recorded:
        lines.append(("id", f"{answer.id}  (kaelum --feedback {answer.id} --score 1)"))
    previous = ""
    shown: list[str] = []
    for label, value in lines:
        shown.append(f"  {'' if label == previous else label:8}  {value}")
        previous = label
    return "\n".join(shown)


def further_choices(answer: Answer) -> str:
    """The answers after the first, where several were asked for: a heading and the text of each. No newline at the end.

    Empty when there is no other.
    """
    return "\n\n".join(
        f"[{place}] {_heading(choice)}\n{printable(choice.text).strip()}"
        for place, choice in enumerate(answer.choices[1:], start=2)
    )


def _heading(choice: Choice) -> str:
    value = "" if choice.answer is None else f"{one_line(choice.answer, limit=80)} · "
    # A single rollout agrees with nobody, so "agreed" would say too much here.
    status = {"verified": "verified", "unverified": "unverified", "unsure": "not sure"}[choice.status]
    return (
        f"{value}{status}, P(correct) {choice.confidence:.2f}, {choice.share:.0%} of the rollouts, "
        f"{one_line(choice.worker)}"
    )


def figures(values: Mapping[str, float]) -> str:
    """Named numbers as aligned lines. Ends without a newline."""
    width = max((len(name) for name in values), default=0)
    return "\n".join(
        f"  {name.replace('_', ' '):{width}}  {value:,.0f}"
        if float(value).is_integer()
        else f"  {name.replace('_', ' '):{width}}  {value:,.2f}"
        for name, value in values.items()
    )


def _status(answer: Answer) -> str:
    if answer.status == "unverified" and form_checked(answer.evidence):
        return "form checked"
    return STATUS_WORDS[answer.status]


def _stop(answer: Answer) -> str:
    return stop_words("cache" if answer.cache == "hit" else answer.stop_reason)


def _route(answer: Answer) -> str:
    likely = sorted(answer.route.items(), key=lambda item: -item[1])[:3]
    chances = ", ".join(f"{name} {chance:.2f}" for name, chance in likely)
    return f"{answer.worker} ({chances})" if chances else answer.worker


def _evidence(answer: Answer) -> Iterator[tuple[str, str]]:
    # What was checked comes before what could not be.
    votes = sorted(answer.evidence, key=lambda vote: vote.outcome == "unscored")
    for vote in votes[:MAX_EVIDENCE_LINES]:
        reason = f": {one_line(vote.reason)}" if vote.reason else ""
        yield "checks", f"{vote.outcome:8}  {vote.source} ({vote.tier}){reason}"
    if len(votes) > MAX_EVIDENCE_LINES:
        yield "checks", f"and {len(votes) - MAX_EVIDENCE_LINES} more (--json shows all)"
    if not votes:
        yield "checks", "none"


class LiveLine:
    """One line that redraws itself while a search runs, and is gone when it closes.

    Shows nothing where `stream` is no terminal or `enabled` is False; `say` works all the same.
    """

    def __init__(self, stream: TextIO, *, enabled: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = Console(file=stream)
        self._clock = clock
        self._started = clock()
        self._doing = "starting"
        self._wave: Progress | None = None
        self._first_tokens: tuple[float, float] | None = None
        self._spinner = Spinner("dots")
        self._live: Live | None = None
        if enabled and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(self, console=self._console, refresh_per_second=8, transient=True, redirect_stdout=False)

    @property
    def searching(self) -> bool:
        """True once tokens were generated: from then on there is something to show for an interrupted search."""
        return self._wave is not None

    def __enter__(self) -> Self:
        self._started = self._clock()
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the line away. Idempotent."""
        if self._live:
            self._live.stop()
            self._live = None

    def say(self, notice: str) -> None:
        """Print a lasting line above the live one, terminal or not."""
        self._console.print(Text(printable(notice)), soft_wrap=True)

    def update(self, progress: Progress) -> None:
        """Take in an event; the line shows it at its next redraw."""
        data = progress.data
        if progress.stage == "wave":
            self._wave = progress
            if self._first_tokens is None:
                # Rates count from here, so that loading the model does not look like slow decoding.
                self._first_tokens = (self._clock(), float(data.get("tokens", 0)))
        self._doing = {
            "call": "choosing whether to call tools",
            "cache": "looking in the cache",
            "route": f"searching with {data.get('worker', 'a worker')}",
            "sources": "looking sources up",
            "wave": "searching",
            "verify": "verifying",
            "shape": "putting the answer in form",
            "reflect": f"reflecting on: {one_line(str(data.get('reason', '')), limit=60)}",
        }[progress.stage]

    def text(self) -> str:
        """What the line says now, without its spinner."""
        now = self._clock()
        parts = [self._doing]
        if self._wave and self._first_tokens:
            data = self._wave.data
            parts.append(f"wave {data.get('wave', 0)}")
            parts.append(f"{data.get('rollouts', 0)}/{data.get('budget', 0)} rollouts")
            if data.get("leader") is not None:
                parts.append(f"leading {one_line(str(data['leader']), limit=40)} ({float(data.get('share') or 0):.0%})")
            since, before = self._first_tokens
            if (tokens := float(data.get("tokens", 0)) - before) > 0 and now > since:
                parts.append(f"{tokens / (now - since):.0f} tokens/s")
        parts.append(f"{now - self._started:.0f} s")
        return " · ".join(parts)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_row(self._spinner, Text(self.text(), no_wrap=True, overflow="ellipsis"))
        yield line
