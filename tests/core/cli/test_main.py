"""Help, wrong calls, and errors of the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="server", est_seconds=5)

COMMANDS = ("serve", "generate", "devices", "explain", "bench", "eval", "plugin")


def test_help_lists_every_command(run):
    done = run("--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("group", [(), ("plugin",)])
def test_what_a_command_does_is_told_in_whole_sentences(run, group):
    done = run(*group, "--help", COLUMNS="80")
    assert "..." not in done.stdout.partition("Commands:")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run, command):
    done = run(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: inferplane" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["devices", "--help"], ["devices"], ["plugin", "list"], ["plugin", "diff"]],
)
def test_light_commands_import_no_torch(arguments):
    program = (
        "import sys; from inferplane.cli.main import run\n"
        f"try: run({arguments!r})\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_wrong_command_or_flag_ends_with_2(run):
    assert run("nonsense").returncode == 2
    assert run("devices", "--nonsense").returncode == 2


def test_a_users_error_is_one_line_without_traceback(run):
    done = run("explain", "--model", "/nowhere", "--device", "cpu")
    assert done.returncode == 1
    assert done.stderr.startswith("error: no model folder '/nowhere'")
    assert "Traceback" not in done.stderr


def test_an_unknown_variable_names_the_nearest(run):
    done = run("devices", INFERPLANE_PLUGIN="x")
    assert done.returncode == 1
    assert "INFERPLANE_PLUGINS" in done.stderr


def test_a_platform_that_is_not_installed_names_the_package(run):
    done = run("explain", "tiny-arithmetic", "--device", "abacus")
    assert done.returncode == 1
    assert "pip install inferplane-abacus" in done.stderr


def test_the_version_is_shown(run):
    from inferplane import __version__

    assert run("--version").stdout.strip() == __version__
