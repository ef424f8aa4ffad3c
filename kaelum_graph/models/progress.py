"""How far a download or a conversion is, for whoever wants to show it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Report: TypeAlias = Callable[[str, int, int], None]
"""Called with a stage, the bytes done and the bytes in all (0 in all: not known)."""

POLL_SECONDS = 0.2


def silent(stage: str, done: int, total: int) -> None:
    """A report that nobody reads."""


@contextmanager
def watching(folder: Path, stage: str, total: int, report: Report) -> Generator[None]:
    """Report the growth of `folder` in bytes while another thread or process writes into it."""
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(POLL_SECONDS):
            report(stage, folder_bytes(folder), total)

    report(stage, 0, total)
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
    for directory, _, names in os.walk(folder):  # which, unlike rglob, bears folders that vanish under it
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(directory, name)).st_size
    return total


@contextmanager
def on_terminal() -> Generator[Report]:
    """A report that draws a bar on standard error; one line a stage where that is no terminal."""
    if sys.stderr is not None and sys.stderr.isatty():  # pyright: ignore[reportUnnecessaryComparison] (after `2>&-`)
        from rich.console import Console

        with bars(Console(stderr=True)) as report:
            yield report
        return
    seen: set[str] = set()

    def once(stage: str, done: int, total: int) -> None:
        if stage not in seen:
            seen.add(stage)
            print(f"kaelum: {stage}", file=sys.stderr, flush=True)

    yield once


@contextmanager
def bars(console: Console) -> Generator[Report]:
    """A report that draws one line on `console`: a bar with bytes, rate and time left, or a clock without bytes."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    class Either(ProgressColumn):
        """One column for stages that count bytes, another, or none, for those that don't."""

        def __init__(self, counted: ProgressColumn | None, otherwise: ProgressColumn | None = None) -> None:
            super().__init__()
            self._counted, self._otherwise = counted, otherwise

        def render(self, task: Task) -> RenderableType:
            column = self._counted if task.total else self._otherwise
            return column(task) if column else ""

    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}"), Either(BarColumn(bar_width=16))]
    columns += [Either(DownloadColumn()), Either(TransferSpeedColumn())]
    columns += [Either(TimeRemainingColumn(compact=True), TimeElapsedColumn())]
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def draw(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                for earlier in tasks.values():
                    progress.update(earlier, visible=False)
                tasks[stage] = progress.add_task(stage, total=total or None)
            progress.update(tasks[stage], completed=done, total=total or None)

        yield draw
