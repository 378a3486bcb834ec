"""`inferplane devices`."""

from __future__ import annotations

import json
import os

import pytest
from tests.fakes.packages import install_broken

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="server", est_seconds=3)


def test_devices_as_json(run):
    rows = {row["name"]: row for row in json.loads(run("devices", "--json").stdout)}
    assert rows["cpu"]["usable"] is True
    assert rows["cpu"]["devices"][0]["memory_bytes"] > 0
    assert rows["reference"]["kind"] == "feature"


def test_no_colour_codes_in_a_pipe(run):
    assert "\x1b[" not in run("devices", NO_COLOR="1").stdout


def test_what_cannot_be_used_is_told_below_the_table(run, tmp_path):
    site = str(install_broken(tmp_path, "import_error"))
    path = os.pathsep.join(filter(None, [site, os.environ.get("PYTHONPATH")]))
    done = run("devices", PYTHONPATH=path, COLUMNS="80")
    assert max(map(len, done.stdout.splitlines())) <= 80
    table, reasons = done.stdout.split("\n\n")[:2]
    (row,) = [line for line in table.splitlines() if line.startswith("broken")]
    assert row.endswith("cannot be used")
    assert "libbroken" in reasons
    plugins = json.loads(run("devices", "--json", PYTHONPATH=path).stdout)
    rows = {row["name"]: row for row in plugins}
    assert rows["broken"]["usable"] is False
    assert "libbroken" in rows["broken"]["reason"]
    assert rows["cpu"]["reason"] == ""


def test_links_between_several_devices_are_a_table(run):
    pytest.importorskip("inferplane_sim")
    done = run("devices", SIM_DEVICES="3", COLUMNS="80")
    shown = done.stdout.split("sim links")[1].splitlines()
    assert shown[0].split() == ["sim:0", "sim:1", "sim:2"]
    assert shown[2].split() == ["sim:1", "host", "–", "host"]
    rows = {r["name"]: r for r in json.loads(run("devices", "--json", SIM_DEVICES="3").stdout)}
    assert rows["sim"]["links"][0] == ["", "host", "host"]
    assert rows["cpu"]["links"] == []


def test_one_device_has_no_links(run):
    assert "sim links" not in run("devices", SIM_DEVICES="1").stdout


def test_links_that_cannot_be_read_are_a_warning_and_no_error():
    from types import SimpleNamespace

    from inferplane.cli.devices import links
    from inferplane.plugins.errors import ImportFailed

    def call(hook, props):
        raise ImportFailed("no library")

    plugin = SimpleNamespace(call=call, warnings=[])
    assert links(plugin, ["a", "b"]) == []
    assert plugin.warnings == ["links are not known: no library"]


def plugin_with(rows):
    from types import SimpleNamespace

    from inferplane.spec import LinkTopology

    found = LinkTopology(rows)
    return SimpleNamespace(call=lambda hook, props: found, warnings=[])


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [((("", "a", "b"), ("a", "", "b"), ("b", "b", "")), "3"), ((("", "a"), ("a",)), "1, 2")],
)
def test_links_of_other_devices_than_the_probe_found_are_not_shown(rows, sizes):
    from inferplane.cli.devices import links

    plugin = plugin_with(rows)
    assert links(plugin, ["a", "b"]) == []
    (warning,) = plugin.warnings
    assert warning == f"links are not known: it tells of {sizes} devices, and its probe found 2"


def test_links_of_the_devices_that_the_probe_found():
    from inferplane.cli.devices import links

    plugin = plugin_with((("", "a"), ("b", "")))
    assert links(plugin, ["a", "b"]) == [["", "a"], ["b", ""]]
    assert plugin.warnings == []
