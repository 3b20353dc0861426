"""A progress bar with rate and time left, on long work only, and only where somebody looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Says how much was done, and what to show beside the bar."""

    def __call__(self, done: float, note: str = "") -> None: ...


@contextmanager
def bar(
    name: str, total: float | None, unit: str = "rows", shown: bool = True
) -> Iterator[Advance]:
    """Call what this gives with the work done since, and a note to show beside the bar.

    Without a `unit` no rate is shown: the note says it.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f} {unit}/s" if task.speed and unit else "")

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not shown or not console.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task(name, total=total, note="")

        def advance(done: float, note: str = "") -> None:
            progress.advance(task, done)
            if note:
                progress.update(task, note=note)

        yield advance
