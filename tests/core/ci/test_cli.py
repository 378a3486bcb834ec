"""The command line, as a vendor's repository uses it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.fakes.ci import CONFIG, source

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=8)

TWO = {"tests/test_a.py": source(est_seconds=8), "tests/test_b.py": source(est_seconds=3)}


@pytest.fixture
def acme(tmp_path):
    """A folder with the metadata of a distribution that offers the platform "acme"."""
    info = tmp_path / "site" / "inferplane_acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: inferplane-acme\nVersion: 1.0\n")
    entry = "[inferplane.v0]\nacme = acme_not_importable.plugin\n"
    (info / "entry_points.txt").write_text(entry)
    return tmp_path / "site"


def test_help_imports_no_torch_and_nothing_of_the_plugins():
    code = (
        "import sys; sys.argv = ['inferplane-ci', '--help']\n"
        "from inferplane.ci.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'pluggy', 'pydantic', 'pytest'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "matrix" in done.stdout


def test_no_command_imports_torch_or_a_plugin(project, ci_process):
    root = project(TWO)
    code = (
        "import sys; sys.argv = ['inferplane-ci', 'matrix', '--json']\n"
        "from inferplane.ci.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print('torch' in sys.modules or 'inferplane.platforms.cpu.plugin' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_list_shows_tests_and_suites(project, ci):
    root = project(TWO)
    assert "tests/test_a.py" in ci(root, "list").out
    found = ci(root, "list", "--suite=unit", "--platform=cpu", "--json").json
    assert [test["path"] for test in found["tests"]] == list(TWO)
    assert [(s["suite"], s["files"], s["est_seconds"]) for s in found["suites"]] == [
        ("unit", 2, 11)
    ]


def test_validate_passes_a_right_project(project, ci):
    done = ci(project(TWO), "validate")
    assert (done.code, done.out) == (0, "2 test files, 2 suites, 0 errors\n")


def test_validate_shows_every_error_and_ends_with_1(project, ci):
    root = project({"tests/test_a.py": "", "tests/test_b.py": source(suite="x")})
    done = ci(root, "validate")
    assert done.code == 1
    assert [line.split(": ")[:2] for line in done.err.splitlines()] == [
        ["error", "tests/test_a.py"],
        ["error", "tests/test_b.py:3"],
    ]
    kinds = [error["kind"] for error in ci(root, "validate", "--json").json["errors"]]
    assert kinds == ["unregistered", "unknown-suite"]


def test_stale_durations_are_warnings(project, ci):
    root = project(TWO, '[tool.inferplane-ci]\ndurations = "d.json"\n' + CONFIG)
    files = {"tests/test_gone.py": {"seconds": 1, "marks": {"": 1}}}
    run = {"suite": "unit", "platform": "cpu", "nightly": False, "files": files}
    (root / "d.json").write_text(json.dumps({"version": 1, "runs": [run]}))
    done = ci(root, "validate")
    assert done.code == 0
    assert done.err == "warning: d.json: tests/test_gone.py is not there any more\n"


def test_a_wrong_project_stops_other_commands(project, ci):
    done = ci(project({"tests/test_a.py": ""}), "list")
    assert done.code == 1
    assert done.err.startswith("error: 1 problem of registration:\n  tests/test_a.py")


def test_partition_prints_all_parts_or_one(project, ci):
    root = project(TWO)
    options = ("--suite=unit", "--platform=cpu", "--parts=2", "--json")
    assert ci(root, "partition", *options).json == [
        {"part": 1, "est_seconds": 8, "files": ["tests/test_a.py"]},
        {"part": 2, "est_seconds": 3, "files": ["tests/test_b.py"]},
    ]
    (part,) = ci(root, "partition", *options, "--index=2").json
    assert part["files"] == ["tests/test_b.py"]


def test_run_ends_with_1_where_a_file_fails(project, ci):
    root = project({"tests/test_a.py": source("def test_a(): assert 0\n")})
    done = ci(root, "run", "--suite=unit", "--platform=cpu", "--json")
    assert done.code == 1
    assert [(r["path"], r["state"]) for r in done.json] == [("tests/test_a.py", "failed")]
    assert "assert 0" in done.err


def test_run_warns_of_a_platform_that_is_only_declared(project, ci):
    root = project({"tests/test_a.py": source(platforms=["abacus"])})
    done = ci(root, "run", "--suite=unit", "--platform=abacus")
    assert done.code == 0
    assert "no plugin that is installed here offers it" in done.err


def test_measured_seconds_come_back_as_estimates(project, ci, tmp_path):
    slow = source("import time\ndef test_a(): pass\n", est_seconds=50)
    root, kept = project({"tests/test_a.py": slow}), tmp_path / "durations.json"
    options = ("--suite=unit", "--platform=cpu", "--part=1/1", f"--durations={kept}")
    assert ci(root, "run", *options).code == 0
    shown = ci(root, "durations", f"--from={kept}").out
    assert "-pytestmark = pytest.mark.ci(suite='unit', est_seconds=50)" in shown
    assert "est_seconds=50" in (root / "tests/test_a.py").read_text()
    assert ci(root, "durations", "--from", str(kept), "--write").code == 0
    assert "est_seconds=50" not in (root / "tests/test_a.py").read_text()
    assert "near enough" in ci(root, "durations", str(kept)).out


def test_durations_need_a_file(project, ci):
    assert "no durations file was given" in ci(project(TWO), "durations").err


def test_an_installed_third_partys_platform_is_in_the_matrix(project, ci_process, acme):
    root = project({"tests/test_a.py": source(platforms=["acme"])})
    done = ci_process(root, "matrix", "--json", "--platform=acme", paths=(acme,))
    assert done.code == 0, done.err
    assert [(r["platform"], r["runs-on"]) for r in done.json["include"]] == [
        ("acme", ["self-hosted", "acme"])
    ]


def test_without_the_distribution_its_platform_is_an_error(project, ci_process):
    done = ci_process(project({"tests/test_a.py": source(platforms=["acme"])}), "matrix")
    assert done.code == 1
    assert "no platform 'acme'" in done.err


def test_the_matrix_says_what_waits_for_a_runner(project, ci):
    root = project({"tests/test_a.py": source(platforms=["cpu", "abacus"])})
    done = ci(root, "matrix", "--json", "--runners=")
    assert {row["platform"] for row in done.json["include"]} == {"cpu"}
    assert done.err == "1 jobs wait for a labelled runner: abacus\n"


def test_extras_to_install_are_shown_in_the_matrix(project, ci):
    declared = (
        f'{CONFIG}\n[tool.inferplane-ci.platforms.cpu]\ninstall = ["-e", "plugins/x[test]"]\n'
    )
    done = ci(project(TWO, config=declared), "matrix")
    assert "plugins/x[test]" in done.out, done.err


def test_names_that_are_not_there_are_errors(project, ci):
    assert "no platform 'cpuu'" in ci(project(TWO), "matrix", "--runners=cpuu").err
    assert "no suite 'unitt'" in ci(project(TWO), "matrix", "--suite=unitt").err
