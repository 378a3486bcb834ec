"""What commands print with: consoles, tables, progress bars. NO_COLOR is honoured by rich."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import IO, Any, cast

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TransferSpeedColumn,
)
from rich.table import Column, Table

_PIPE_WIDTH = 10_000  # what is read by a program, or kept in a file, is not wrapped
_LEAST_WIDTH = 12  # of a column that is wrapped


class _Trimmed:
    """A stream that is no terminal: cells are not filled with spaces up to the end of a line.
    Spaces at the end of what is written wait for more of their line."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._held = stream, ""

    def write(self, text: str) -> int:
        lines = re.sub(r" +(?=\n)", "", self._held + text)
        shown = lines.rstrip(" ")
        self._held = lines[len(shown) :]
        self._stream.write(shown)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def console(stderr: bool = False) -> Console:
    """As wide as the terminal. Elsewhere as wide as what is shown, or as COLUMNS says."""
    stream = sys.stderr if stderr else sys.stdout
    asked = os.environ.get("COLUMNS", "")
    width = int(asked) if asked.isdecimal() and int(asked) > 0 else None
    if stream.isatty():
        if asked and width is None:  # rich would take 0 at its word, and print nothing
            width = get_terminal_size().columns
        return Console(stderr=stderr, width=width, highlight=False)
    width = width or _PIPE_WIDTH
    return Console(file=cast("IO[str]", _Trimmed(stream)), width=width, highlight=False)


class _Table(Table):
    """Where it does not fit, as few columns as possible are wrapped, those of many words first, so
    that the names in others stay whole."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        def measured(column: Column) -> tuple[int, int]:
            """Its widest word and its widest cell."""
            cells, wide = (column.header, *column.cells), options.update(width=_PIPE_WIDTH)
            found = [Measurement.get(console, wide, cell) for cell in cells]
            return max(m.minimum for m in found), max(m.maximum for m in found)

        sizes = [(*measured(column), column) for column in self.columns]
        free = options.max_width - 2 * (len(sizes) - 1)
        kept, taken = sum(cell for _, cell, _ in sizes), 0
        for _, cell, column in sorted(sizes, key=lambda size: (size[0] - size[1], -size[1])):
            column.no_wrap = kept + taken <= free
            if not column.no_wrap:
                kept -= cell
                taken += min(cell, _LEAST_WIDTH)
        yield from super().__rich_console__(console, options)


def table(*columns: str) -> Table:
    made = _Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def rows_of(rows: Iterable[Sequence[str]]) -> Table:
    """A table without a header, for things with a name: what is too long goes on below itself."""
    made = Table.grid(padding=(0, 2, 0, 0))
    for row in rows:
        made.add_row(*row)
    return made


def size(count: float) -> str:
    """Bytes for people, in binary units."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def _progress(*columns: ProgressColumn) -> Progress:
    """Shown on a terminal only: elsewhere it would be an empty line among the messages."""
    out = console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        console=out,
        transient=True,
        disable=not out.is_terminal,
    )


@contextmanager
def loading(what: str = "loading weights") -> Iterator[Callable[[int, int], None]]:
    """A progress bar for weights, on standard error."""
    columns = (DownloadColumn(binary_units=True), TransferSpeedColumn())
    with _progress(*columns) as progress:
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
    with _progress(MofNCompleteColumn(), TextColumn("{task.fields[name]}")) as progress:
        task = progress.add_task(what, total=None, name="")

        def tell(name: str, done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, name=name)

        yield tell
