"""An environment as a new author has it: wheels of the core and of plugins, no sources of ours.

Other packages (torch, ...) come from the environment that runs the tests: a line in a .pth file
adds its folder, but does not follow the editable installs in there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Environment:
    """folder: of the environment. home: an empty folder to work in."""

    folder: Path
    home: Path

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    def variables(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "INFERPLANE_"))}
        return {**kept, "OMP_NUM_THREADS": "1", "PATH": f"{self.bin}:{kept['PATH']}"}

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command in `home`; its first word is looked up in the environment."""
        given = [str(self.bin / command[0]), *map(str, command[1:])]
        done = subprocess.run(
            given,
            cwd=self.home,
            env=self.variables(),
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done

    def install(self, *paths: Path) -> None:
        """Wheels, or folders of source, without their dependencies."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "--quiet"]
        options = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
        done = subprocess.run(
            [*pip, "install", *options, *map(str, paths)],
            env=self.variables(),
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def build(source: Path, target: Path) -> Path:
    """The wheel of a project."""
    before = set(target.glob("*.whl"))
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = set(target.glob("*.whl")) - before
    return wheel


def make_environment(folder: Path, wheels: Sequence[Path]) -> Environment:
    venv.create(folder / "env", with_pip=False, symlinks=True)
    home = folder / "home"
    home.mkdir()
    made = Environment(folder / "env", home)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    made.install(*wheels)
    return made


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """With the wheels of the core and of the example plugin."""
    folder = tmp_path_factory.mktemp("fresh")
    wheels = [build(ROOT, folder), build(ROOT / "plugins" / "example", folder)]
    return make_environment(folder, wheels)
