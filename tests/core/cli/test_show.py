"""What commands print with, where the output is no terminal and where it is narrow."""

from __future__ import annotations

import os
import sys

import pytest

from inferplane.cli.show import console, loading, rows_of, table

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

LONG = "a reason in many words " * 20


@pytest.fixture(autouse=True)
def no_width(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


def made(*rows: tuple[str, ...]):
    shown = table("name", "kernel", "why")
    for row in rows:
        shown.add_row(*row)
    return shown


def test_a_pipe_gets_whole_lines_that_end_with_their_text(capsys):
    out = console()
    out.print(made(("a", "x.kernel", LONG), ("b", "", "short")))
    out.print(LONG)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "kernel", "why"]
    assert lines == [f"a     x.kernel  {LONG.strip()}", f"b{' ' * 15}short", LONG.strip()]


def test_columns_as_the_variable_says(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    console().print(made(("a", "x.kernel", LONG)))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 50
    assert " ".join(line[16:] for line in lines[1:]).split() == LONG.split()


@pytest.mark.parametrize("given", ["0", "-1", "wide", ""])
def test_only_a_positive_width_counts(given, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", given)
    console().print(LONG)
    assert capsys.readouterr().out == LONG.strip() + "\n"


@pytest.mark.parametrize(("given", "width"), [("0", 80), ("70", 70)])
def test_only_a_positive_width_counts_on_a_terminal(given, width, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((80, 24)))
    monkeypatch.setenv("COLUMNS", given)
    console().print("x" * 100)
    assert max(map(len, capsys.readouterr().out.splitlines())) == width


def test_blanks_within_a_line_are_kept(capsys):
    out = console()
    for text, end in (("foo ", ""), ("bar  ", "\n"), ("  baz ", ""), (" ", "\n"), ("  ", "")):
        out.print(text, end=end)
    assert capsys.readouterr().out == "foo bar\n  baz\n"


def test_the_widest_column_is_wrapped_and_names_stay_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    names = ("attention.input", "x.native_attention_input")
    console().print(made((*names, "a reason that is wrapped")))
    _, first, *_ = capsys.readouterr().out.splitlines()
    assert all(name in first for name in names)


def test_where_nothing_fits_nothing_is_lost(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    console().print(made(("attention.input", "x.native_attention_input", LONG)))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 30
    assert shown.count("reason") == 20


def test_rows_with_a_name_go_on_below_themselves(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    console().print(rows_of([("weights", LONG)]))
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith("weights  a reason")
    assert others and all(line.startswith(" " * 9) for line in others)


def test_no_progress_bar_in_a_pipe(capsys):
    with loading() as tell:
        tell(1, 2)
        tell(2, 2)
    assert capsys.readouterr() == ("", "")
