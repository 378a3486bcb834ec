"""Plugins that other processes find too: a module and its entry point in a folder on the path."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

HEAD = """
from inferplane.spec import *
from inferplane.spec import SPEC_VERSION, hookimpl

PROPS = DeviceProps(
    name="Broken 1", profile="broken1", memory_bytes=4 * GiB, dtypes=frozenset({"fp32"}),
    capabilities=frozenset({"int64_index"}),
)

def floats(request):
    return Support.yes() if request.dtype == "fp32" else Support.no("it has fp32 only")

@hookimpl
def inferplane_platform():
    return PlatformSpec(
        name="broken", vendor="nobody", torch_device="cpu", api=SPEC_VERSION,
        probe=lambda: Probe.found([PROPS]), profiles=(PROPS,), process_group="gloo",
    )
"""


def install(folder: Path, code: str, name: str = "broken") -> Path:
    """Writes the plugin; `folder` must then be on the path. code: of the module, after `HEAD`."""
    (folder / f"{name}_plugin.py").write_text(HEAD + dedent(code))
    info = folder / f"inferplane_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: inferplane-{name}\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(f"[inferplane.v0]\n{name} = {name}_plugin\n")
    return folder
