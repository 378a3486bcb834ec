"""What commands print with: consoles, tables, progress bars. NO_COLOR is honoured by rich."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TransferSpeedColumn,
)
from rich.table import Table

_PIPE_WIDTH = 200  # a table in a file or a pipe is not cut to 80 columns


def console(stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _PIPE_WIDTH, highlight=False)


def table(*columns: str) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def size(count: float) -> str:
    """Bytes for people, in binary units."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


@contextmanager
def loading(what: str = "loading weights") -> Iterator[Callable[[int, int], None]]:
    """A progress bar for weights, on standard error."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        console=console(stderr=True),
        transient=True,
    ) as progress:
        task: Any = None

        def tell(done: int, total: int) -> None:
            nonlocal task
            if task is None:
                task = progress.add_task(what, total=total)
            progress.update(task, completed=done, total=total)
            if done >= total:
                progress.stop()  # its thread would redraw for as long as a server runs

        yield tell


@contextmanager
def steps(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for many small things, on standard error: (name of this one, done, all)."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[name]}"),
        console=console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task(what, total=None, name="")

        def tell(name: str, done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, name=name)

        yield tell
