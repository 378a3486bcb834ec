"""The board on which ranks write what they do."""

from types import SimpleNamespace

import pytest

from inferplane.activity import Activity, Board

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)


def test_another_map_of_the_file_sees_what_a_rank_does(tmp_path):
    mine = Activity(Board(2, tmp_path / "board"), rank=1)
    mine.begin(17)
    mine.enter("forward")
    record = Board(2, tmp_path / "board").record(1)
    assert (record.step, record.what, record.stepping) == (17, "forward", True)


def test_a_rank_that_has_not_started_says_so():
    assert Board(2).record(1).text() == "rank 1: not started"


def test_a_line_for_people_has_rank_process_step_part_and_time():
    board = Board(1)
    activity = Activity(board)
    activity.begin(3)
    activity.enter("sample")
    line = board.text()
    assert line.startswith("rank 0 (pid ") and "step 3, sample, for 0.0 s" in line


def test_between_steps_there_is_no_progress_to_wait_for():
    activity = Activity(Board(1))
    activity.begin(1)
    assert activity.progress is not None
    activity.end()
    assert activity.progress is None
    assert activity.board.record(0).what == "idle"


def test_a_layer_is_progress_and_is_named():
    activity = Activity(Board(1))
    activity.begin(1)
    activity.enter("forward")
    activity.current = SimpleNamespace(layer=3)
    before = activity.progress
    activity.current.layer = 4
    assert activity.progress != before
    assert activity.where() == "forward layer 4"


def test_long_names_are_cut():
    activity = Activity(Board(2))
    activity.enter("x" * 1000)
    assert activity.board.record(0).what == "x" * 160
    assert activity.board.record(1).pid == 0


def test_an_alarm_is_seen_by_all(tmp_path):
    board = Board(1, tmp_path / "board")
    assert not board.alarm
    Board(1, tmp_path / "board").raise_alarm()
    assert board.alarm
