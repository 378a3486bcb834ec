"""A feature plugin whose kernel hangs when told to, as a distribution in a folder.

Install it with PYTHONPATH. A file `hang` in the folder makes the next call wait forever; a file
`hold` makes it wait forever with the interpreter's lock held, as faulty native code does. The call
takes the file away, so that a restarted engine works.
"""

from __future__ import annotations

from pathlib import Path

PLUGIN = """
import ctypes
import time
from pathlib import Path

from inferplane.spec import SPEC_VERSION, Candidate, FeatureSpec, Support, hookimpl

FOLDER = Path(__file__).parent


@hookimpl
def inferplane_feature():
    return FeatureSpec(name="hanging", api=SPEC_VERSION)


def supports(request):
    return Support.yes()


@hookimpl
def inferplane_ops(props):
    load = "hanging_plugin:gated"
    return [Candidate(op="activation.gated", name="hanging.gated", supports=supports, load=load,
                      features=("silu", "gelu", "gelu_tanh", "limit"), priority=1000)]


def gated(request):
    from inferplane.reference.activation import gated as reference

    inner = reference(request)

    def run(*arguments):
        if taken("hang"):
            a_kernel_that_hangs()
        if taken("hold"):
            ctypes.PyDLL(None).sleep(3600)
        return inner(*arguments)

    return run


def taken(name):
    file = FOLDER / name
    if not file.exists():
        return False
    file.unlink()
    return True


def a_kernel_that_hangs():
    while True:
        time.sleep(0.05)
"""


def write_plugin(folder: Path) -> Path:
    """The folder to put on PYTHONPATH."""
    (folder / "hanging_plugin.py").write_text(PLUGIN)
    info = folder / "hanging-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[inferplane.v0]\nhanging = hanging_plugin\n")
    return folder
