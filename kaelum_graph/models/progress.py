"""How far a download or a conversion is, for whoever wants to show it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

Report: TypeAlias = Callable[[str, int, int], None]
"""Called with a stage, what is done and what there is in all (bytes or pieces; 0 in all: unknown)."""

POLL_SECONDS = 0.2


def silent(stage: str, done: int, total: int) -> None:
    """A report that nobody reads."""


@contextmanager
def watching(folder: Path, stage: str, total: int, report: Report) -> Generator[None]:
    """Report the growth of `folder` in bytes while another process writes into it."""
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(POLL_SECONDS):
            report(stage, folder_bytes(folder), total)

    thread = threading.Thread(target=watch, name="kaelum-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def folder_bytes(folder: Path) -> int:
    """Bytes of the files below a folder; files that vanish while it counts are left out."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


@contextmanager
def on_terminal() -> Generator[Report]:
    """A report that draws a bar on standard error; one line a stage where that is no terminal."""
    if not sys.stderr.isatty():
        seen: set[str] = set()

        def once(stage: str, done: int, total: int) -> None:
            if stage not in seen:
                seen.add(stage)
                print(f"kaelum: {stage}", file=sys.stderr)

        yield once
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def draw(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                for earlier in tasks.values():
                    progress.update(earlier, visible=False)
                tasks[stage] = progress.add_task(stage)
            progress.update(tasks[stage], completed=done, total=total or None)

        yield draw
