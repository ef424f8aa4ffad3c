"""The commands that need the graph: `kaelum ask` (and so a bare query) and `kaelum graph`.

Nothing heavy is imported before a command runs: `kaelum --help` loads this module.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from kaelum_graph.cli.parser import add_settings_flags, settings_of
from kaelum_graph.errors import KaelumError, StorageError, UsageError

if TYPE_CHECKING:
    from kaelum_flow.facade import Kaelum
    from kaelum_flow.terminal import LiveLine
    from kaelum_graph.answer import Answer, Event
    from kaelum_graph.config import Settings
    from kaelum_graph.models.base import CancelToken

    Subparsers = argparse._SubParsersAction[Any]

UNSURE = 10
INTERRUPTED = 130
PATIENCE_SECONDS = 3.0
"""How long a pipe may stay silent beside a query that is complete without it: many programs hand down an open one."""
MAX_INPUT_BYTES = 16 * 2**20
GRACE_SECONDS = 2.0
"""How long an aborted search may take to come to its end."""
_SHOW_CURSOR = b"\r\x1b[2K\x1b[?25h"


def register_ask(subparsers: Subparsers) -> None:
    """Add `ask`, the command that a bare query stands for."""
    parser = subparsers.add_parser(
        "ask",
        help="answer a query (also without the word: kaelum QUERY)",
        usage="%(prog)s [options] [QUERY ...]",
        description=(
            "Search for the best answer to a query. Text piped in is the query, or follows the one given as an "
            "argument after a blank line."
        ),
    )
    parser.add_argument("query", nargs="*", metavar="QUERY", help="the question; several words are joined by spaces")
    add_output_flags(parser)
    rating = parser.add_argument_group("feedback on an earlier answer (nothing is asked)")
    rating.add_argument(
        "--feedback", metavar="QUERY_OR_ID", help="the answer meant: its id, or its query word for word"
    )
    rating.add_argument("--answer", metavar="TEXT", help="the right answer")
    rating.add_argument("--score", type=float, metavar="X", help="how good the answer was, from 0 to 1")
    rating.add_argument("--suggest-worker", metavar="WORKER", help="the worker that should have been asked")
    rating.add_argument("--comment", metavar="TEXT", help="a remark, kept with the rating")
    add_settings_flags(parser)
    parser.set_defaults(run=run_ask)


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """What a command that searches prints, and how."""
    parser.add_argument("--stream", action="store_true", help="print the answer's text in pieces as it comes")
    parser.add_argument("--json", action="store_true", help="print one JSON object; with --stream one a line")
    parser.add_argument(
        "--trace",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show status, route, checks and cost under the answer (on)",
    )
    parser.add_argument("--metrics", action="store_true", help="print the store's counts, and this query's speed")


def register_graph(subparsers: Subparsers) -> None:
    """Add `graph`."""
    parser = subparsers.add_parser(
        "graph",
        help="print the forward pass as a Mermaid drawing",
        description="Print the Mermaid drawing of the forward pass as it is built. Loads no model.",
    )
    parser.set_defaults(run=run_graph)


def run_graph(arguments: argparse.Namespace) -> int:
    """Print the drawing."""
    from kaelum_flow.forward import mermaid

    print(mermaid().rstrip())
    return 0


def run_ask(arguments: argparse.Namespace) -> int:
    """Answer, rate or count, as the arguments say; returns the exit code."""
    _check_rating(arguments)
    settings = settings_of(arguments).settings
    if arguments.feedback is not None:
        return _rate(arguments, settings)
    query = read_query(arguments.query, optional=arguments.metrics)
    if query is None:
        with open_kaelum(settings) as kaelum:
            _print_figures(kaelum.metrics(), as_json=arguments.json)
        return 0
    return show_search(
        lambda kaelum, token: kaelum.stream(query, cancel=token),
        arguments,
        settings,
        min_confidence=settings.min_confidence,
    )


def open_kaelum(settings: Settings, *, notify: Callable[[str], None] | None = None) -> Kaelum:
    """The facade, imported only now: it brings LangGraph with it. It loads no model before it is asked."""
    from kaelum_flow.facade import Kaelum

    return Kaelum(settings, notify=notify)


def exit_code(answer: Answer, *, min_confidence: float) -> int:
    """What a script learns from an answer: 0 sure enough, 10 not, 130 interrupted, 5 when it could not be recorded."""
    if answer.stop_reason == "cancelled":
        return INTERRUPTED
    if not answer.recorded:
        return StorageError.exit_code
    return UNSURE if answer.status == "unsure" or answer.confidence < min_confidence else 0


def read_query(words: list[str], *, optional: bool = False) -> str | None:
    """The query from the arguments, from standard input, or from both with a blank line between.

    A terminal is never read. Beside an argument (or when the query is `optional`) a pipe is given up after
    `PATIENCE_SECONDS` of silence, with a line that says so. Returns None when there is none and that is `optional`;
    raises `UsageError` for an empty query and for bytes that are not UTF-8.
    """
    argument = " ".join(words).strip()
    if words and not argument:
        raise UsageError("the query is empty.")
    piped = _piped_text(patience=PATIENCE_SECONDS if argument or optional else None).strip("\r\n")
    query = "\n\n".join(part for part in (argument, piped) if part.strip())
    if not query:
        if optional:
            return None
        raise UsageError('the query is empty; for example: kaelum "What is 2+2?" (see kaelum --help)')
    try:
        query.encode()
    except UnicodeEncodeError:
        raise UsageError("the query is not UTF-8 text.") from None
    return query


def _piped_text(*, patience: float | None) -> str:
    """All of standard input when it is a pipe, a socket or a file, else nothing."""
    try:
        descriptor = sys.stdin.fileno()
        kind = os.fstat(descriptor).st_mode
    except (AttributeError, OSError, ValueError):  # closed, or replaced by an object without a descriptor
        return ""
    if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) or stat.S_ISREG(kind)):
        return ""
    if patience is not None and os.name == "posix" and not select.select([descriptor], [], [], patience)[0]:
        print(
            f"kaelum: nothing came from standard input in {patience:.0f} s, going on without it "
            "(give it < /dev/null to skip the wait)",
            file=sys.stderr,
        )
        return ""
    with open(descriptor, "rb", closefd=False) as stream:
        data = stream.read(MAX_INPUT_BYTES + 1)
    if len(data) > MAX_INPUT_BYTES:
        raise UsageError(f"standard input is longer than {MAX_INPUT_BYTES:,} bytes.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8 text (byte {error.start}).") from error


def _check_rating(arguments: argparse.Namespace) -> None:
    parts = {
        "--answer": arguments.answer,
        "--score": arguments.score,
        "--suggest-worker": arguments.suggest_worker,
        "--comment": arguments.comment,
    }
    given = [flag for flag, value in parts.items() if value is not None]
    if arguments.feedback is None:
        if given:
            raise UsageError(f"{given[0]} needs --feedback QUERY_OR_ID, to say which answer is meant.")
        return
    if arguments.query:
        raise UsageError("--feedback rates an earlier answer and asks nothing: leave the query out.")
    if not arguments.feedback.strip():
        raise UsageError("--feedback is empty: expected an answer's id or its query.")
    if not given:
        raise UsageError(f"--feedback says nothing without one of {', '.join(parts)}.")
    if arguments.score is not None and not 0.0 <= arguments.score <= 1.0:
        raise UsageError(f"--score has value {arguments.score:g}: expected a number from 0 to 1.")


def _rate(arguments: argparse.Namespace, settings: Settings) -> int:
    with open_kaelum(settings) as kaelum:
        kept = kaelum.feedback(
            arguments.feedback,
            score=arguments.score,
            answer=arguments.answer,
            worker=arguments.suggest_worker,
            comment=arguments.comment,
            source="cli",
        )
        if arguments.json:
            print(json.dumps({"feedback": arguments.feedback, "kept": kept}))
        else:
            print("feedback kept" if kept else "feedback was already there")
        if arguments.metrics:
            _print_figures(kaelum.metrics(), as_json=arguments.json)
    return 0


def show_search(
    search: Callable[[Kaelum, CancelToken], Iterator[Event]],
    arguments: argparse.Namespace,
    settings: Settings,
    *,
    min_confidence: float,
) -> int:
    """Run a search, show it while it runs and print what it comes to; returns the exit code."""
    from kaelum_flow.terminal import LiveLine
    from kaelum_graph.models.base import CancelToken
    from kaelum_graph.models.progress import on_terminal

    token, line = CancelToken(), LiveLine(sys.stderr, enabled=not arguments.json)
    printer = _Printer(arguments, line)
    with _interrupts(token, line), open_kaelum(settings, notify=lambda text: line.say(f"kaelum: {text}")) as kaelum:
        with on_terminal() as report:
            # Before the live line: two displays would write over each other.
            kaelum.fetch(report)
        with line:
            try:
                for event in search(kaelum, token):
                    printer.take(event)
            except KaelumError as error:
                if token.cancelled:
                    raise KeyboardInterrupt from error
                raise
        figures = kaelum.metrics() if arguments.metrics else None
    return exit_code(printer.finish(figures), min_confidence=min_confidence)


class _Printer:
    """Puts the events of one query on the screen as they come, and the answer at the end."""

    def __init__(self, arguments: argparse.Namespace, line: LiveLine) -> None:
        self._arguments = arguments
        self._line = line
        self._streamed = ""
        self._answer: Answer | None = None

    def take(self, event: Event) -> None:
        """Show an event that came before the end."""
        from kaelum_flow.terminal import printable
        from kaelum_graph.answer import Answer, Progress

        if isinstance(event, Answer):
            self._answer = event
        elif isinstance(event, Progress):
            self._line.update(event)
            if self._arguments.json and self._arguments.stream:
                _print_json({"type": "progress", "stage": event.stage, **event.data})
        elif self._arguments.stream:
            self._line.close()
            if self._arguments.json:
                _print_json({"type": "text", "text": event.text})
            else:
                print(printable(event.text), end="", flush=True)
            self._streamed += event.text

    def finish(self, figures: Mapping[str, float] | None) -> Answer:
        """Print what is left to print once the search is over; returns the answer."""
        from kaelum_flow.terminal import figures as figure_lines
        from kaelum_flow.terminal import further_choices, printable, story, tokens_per_second

        answer = self._answer
        if answer is None:
            raise KaelumError("the search ended without an answer.")
        if figures is not None:
            speed = {"tokens_per_second": round(tokens_per_second(answer), 2), "seconds": round(answer.cost.seconds, 3)}
            figures = {**figures, **speed}
        if self._arguments.json:
            report = answer.to_json()
            if not self._arguments.trace:
                del report["trace"]
            if figures is not None:
                report["metrics"] = dict(figures)
            if self._arguments.stream:
                _print_json({"type": "answer", **report})
            else:
                _print_json(report, indent=2)
            return answer
        if not self._streamed:
            print(printable(answer.text).rstrip() or "(no answer was reached)")
        elif not self._streamed.endswith("\n"):
            print()
        if others := further_choices(answer):
            print(f"\n{others}")
        if self._arguments.trace:
            print(f"\n{story(answer)}")
        else:
            for notice in answer.notices:
                self._line.say(f"kaelum: {notice}")
        if figures is not None:
            print(f"\n{figure_lines(figures)}")
        return answer


def _print_json(report: Mapping[str, object], *, indent: int | None = None) -> None:
    print(json.dumps(report, indent=indent, default=str), flush=True)


def _print_figures(values: Mapping[str, float], *, as_json: bool) -> None:
    from kaelum_flow.terminal import figures

    if as_json:
        _print_json(dict(values), indent=2)
    else:
        print(figures(values))


@contextlib.contextmanager
def _interrupts(token: CancelToken, line: LiveLine) -> Generator[None]:
    """The first Ctrl-C asks for the best answer so far when there may be one; the next aborts.

    An abort waits `GRACE_SECONDS` for what runs in other threads (a download, a model being loaded), then leaves them
    behind; a further Ctrl-C does that at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    leaving = threading.Timer(GRACE_SECONDS, _leave)
    leaving.daemon = True

    def interrupt(number: int, frame: FrameType | None) -> None:
        first = not token.cancelled
        token.cancel()
        if first and line.searching:
            with contextlib.suppress(RuntimeError):  # the signal may have come in the middle of a write
                line.say("kaelum: stopping; the best answer so far follows (Ctrl-C again to abort)")
            return
        if leaving.is_alive():
            _leave()
        leaving.start()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        leaving.cancel()


def _leave() -> None:
    """End the process without waiting for anything, with the terminal in order."""
    os.write(2, (_SHOW_CURSOR if sys.stderr.isatty() else b"") + b"kaelum: error: interrupted\n")
    os._exit(INTERRUPTED)
