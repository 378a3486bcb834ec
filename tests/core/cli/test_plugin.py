"""`inferplane plugin`."""

from __future__ import annotations

import json

import pytest
from tests.fakes.packages import install_broken

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=15)


@pytest.mark.parametrize("command", ["new", "list", "show", "check", "diff"])
def test_every_command_has_help(run, command):
    done = run("plugin", command, "--help")
    assert done.returncode == 0
    assert f"plugin {command}" in done.stdout


def test_list_shows_what_is_ready_and_what_is_not(run, tmp_path):
    site = str(install_broken(tmp_path, "import_error"))
    rows = {
        r["name"]: r for r in json.loads(run("plugin", "list", "--json", PYTHONPATH=site).stdout)
    }
    assert rows["cpu"]["ready"]
    assert "libbroken" in rows["broken"]["state"]


def test_list_is_a_table_for_people(run):
    assert "reference  feature" in run("plugin", "list").stdout


def test_show_has_hooks_and_candidates(run):
    (row,) = json.loads(run("plugin", "show", "cpu", "--json").stdout)
    assert "inferplane_ops" in row["hooks"]
    assert {"laptop", "server"} <= {p["profile"] for p in row["profiles"]}
    (flash,) = [c for c in row["candidates"] if c["name"] == "cpu.flash"]
    assert (flash["op"], flash["features"]) == (
        "attention",
        ["kv_dtype", "kv_scales", "sinks", "window"],
    )


def test_show_prints_tables_for_people(run):
    done = run("plugin", "show", "cpu")
    assert "cpu.flash" in done.stdout
    assert "laptop" in done.stdout


def test_check_ends_with_1_for_an_error(run, tmp_path):
    site = str(install_broken(tmp_path, "unknown_op"))
    done = run("plugin", "check", "broken", PYTHONPATH=site)
    assert done.returncode == 1
    assert "IP202" in done.stdout
    assert "1 error;" in done.stdout


def test_diff_of_the_last_two_versions(run):
    found = json.loads(run("plugin", "diff", "0.1", "0.2", "--json").stdout)
    assert {"Device.fault", "Fault"} <= {row["name"] for row in found["changes"]}


def test_diff_for_a_plugin_leaves_out_what_it_does_not_use(run):
    found = json.loads(run("plugin", "diff", "0.1", "--plugin", "reference", "--json").stdout)
    assert "Device.fault" not in {row["name"] for row in found["changes"]}


def test_diff_of_an_unknown_version_is_a_users_error(run):
    done = run("plugin", "diff", "9.9")
    assert done.returncode == 1
    assert "no contract version '9.9'; there are" in done.stderr


def test_an_unknown_plugin_is_a_users_error(run):
    assert "no plugin 'abacus' is installed" in run("plugin", "show", "abacus").stderr
