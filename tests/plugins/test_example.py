"""The example plugin, installed as a wheel beside the core's wheel, without our sources."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=19)

EXAMPLE = Path(__file__).parent.parent.parent / "plugins" / "example"
MOST_LINES = 150


def test_the_example_is_short():
    files = [*(EXAMPLE / "inferplane_example").glob("*.py")]
    assert sum(len(f.read_text().splitlines()) for f in files) <= MOST_LINES


def test_it_imports_the_contract_only():
    imported = {
        line.split()[1]
        for path in (EXAMPLE / "inferplane_example").glob("*.py")
        for line in path.read_text().splitlines()
        if re.match(r"\s*(from|import) inferplane", line)
    }
    assert imported == {"inferplane.spec"}


def test_the_core_comes_from_the_wheel(fresh):
    code = "import inferplane, sys; print(inferplane.__file__); print(sys.path)"
    where, path = fresh.run("python", "-c", code).stdout.splitlines()
    assert where.startswith(str(fresh.folder))
    assert str(EXAMPLE.parent.parent / "core") not in path


def test_it_is_ready(fresh):
    rows = json.loads(fresh.run("inferplane", "devices", "--json").stdout)
    (row,) = [row for row in rows if row["name"] == "example"]
    assert row["usable"]
    assert row["distribution"] == "inferplane-example"


def test_it_has_no_findings(fresh):
    (report,) = json.loads(fresh.run("inferplane", "plugin", "check", "example", "--json").stdout)
    assert report["findings"] == []
    assert report["requests_asked"] > 0


def test_it_plans_without_a_device(fresh):
    arguments = ["--device", "example", "--target", "example-8g", "--json"]
    plan = json.loads(fresh.run("inferplane", "explain", "tiny-arithmetic", *arguments).stdout)
    kernels = {row["op"]: row["kernel"] for row in plan["ops"]}
    assert kernels["norm.add_rms"] == "example.add_rms_norm"
    assert kernels["attention"] == "reference.attention"


def test_it_serves(fresh):
    command = [fresh.bin / "inferplane", "serve", "tiny-arithmetic"]
    server = subprocess.Popen(
        [*command, "--device", "example", "--port", "0"],
        cwd=fresh.home,
        env=fresh.variables(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        said = []
        for line in server.stderr:
            said.append(line)
            if "listening on" in line:
                break
        else:
            pytest.fail("".join(said))
        address = re.search(r"http://[\d.:]+", said[-1])[0]
        given = {"model": "tiny-arithmetic", "prompt": "417+286=", "max_tokens": 8}
        request = urllib.request.Request(
            f"{address}/v1/completions",
            json.dumps({**given, "temperature": 0}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()
    assert answer["choices"][0]["text"].startswith("703")


@pytest.fixture(scope="module")
def scaffolded(fresh):
    done = fresh.run("inferplane", "plugin", "new", "fresh-one")
    fresh.install(fresh.home / "inferplane-fresh-one")
    return done.stdout


class TestNewPlugin:
    """What `inferplane plugin new` writes, in the same environment."""

    def test_says_what_to_do_next(self, scaffolded):
        assert "inferplane serve tiny-arithmetic --device fresh-one" in scaffolded

    def test_answers_at_once(self, fresh, scaffolded):
        arguments = ["tiny-arithmetic", "417+286=", "--device", "fresh-one", "--json"]
        assert "703" in fresh.run("inferplane", "generate", *arguments).stdout

    def test_runs_its_own_kernel(self, fresh, scaffolded):
        arguments = ["tiny-arithmetic", "--device", "fresh-one", "--json"]
        plan = json.loads(fresh.run("inferplane", "explain", *arguments).stdout)
        kernels = {row["op"]: row["kernel"] for row in plan["ops"]}
        assert kernels["norm.add_rms"] == "fresh-one.add_rms_norm"

    def test_is_not_written_twice(self, fresh, scaffolded):
        done = fresh.run("inferplane", "plugin", "new", "fresh-one", check=False)
        assert done.returncode == 1
        assert "taken by inferplane-fresh-one" in done.stderr
