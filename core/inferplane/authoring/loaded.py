"""The second half of `plugin check`, in a process of its own where the plugin may import all.

Probes, loads every candidate, asks for device and memory, and sees after each step what was
written into our modules or torch's. `python -m inferplane.authoring.loaded NAME DISTRIBUTION`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import pkgutil
import sys
import traceback
from typing import Any

from inferplane.plugins.discovery import Plugin, discover
from inferplane.plugins.selection import probe
from inferplane.spec import DeviceProps, Probe

from .findings import Finding
from .isolation import own_packages
from .offers import NO_PROFILE, collect
from .others import of_device, of_setting_names
from .patches import Names, snapshot, torch_snapshot, written
from .pure import find
from .targets import of_load

# Not parts of a running engine, or they start something when they are imported.
_LEFT_OUT = ("inferplane.authoring", "inferplane.testing", "inferplane.ci", "inferplane.cli")


def import_core() -> None:
    """Every module of the core: a patch of one that is not imported yet would not be seen.

    One that needs a package that is not here is left out: a plugin cannot patch it either.
    """
    import inferplane

    for module in pkgutil.walk_packages(inferplane.__path__, "inferplane."):
        if module.name.startswith(_LEFT_OUT) or module.name.endswith("__main__"):
            continue
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)


class Loaded:
    """One run."""

    def __init__(self, name: str, distribution: str) -> None:
        self.found = find(name, distribution)
        self.own = own_packages(self.found[0][0].value, distribution)
        self.findings: list[Finding] = []
        self.ours: Names = {}
        self.torchs: Names = {}

    def run(self) -> None:
        import_core()
        self._remember()
        (plugin,) = discover(found=self.found)
        self._writes("", "when it is discovered")
        if plugin.error is not None:  # the first half says why
            return
        devices = self._probe(plugin)
        profiles = plugin.platform.profiles if plugin.platform else ()
        for props in devices or profiles or (NO_PROFILE,):
            self._offers(plugin, props)
        for props in devices[:1]:
            self.findings += of_device(plugin, props)
            self._writes("", "when it makes its device")
        if plugin.platform and not devices and not profiles:
            text = "add profiles to PlatformSpec, or a device: no candidate can be asked"
            self.findings.append(Finding("IP120", "", text))

    def _remember(self) -> None:
        self.ours, self.torchs = snapshot(), torch_snapshot()

    def _writes(self, subject: str, when: str) -> None:
        for name in written(self.ours, snapshot()):
            text = f"it writes {name} {when}; offer a candidate or ask for a hook instead"
            self.findings.append(Finding("IP403", subject, text))
        for name in written(self.torchs, torch_snapshot(), additions=False):
            text = f"it replaces {name} {when}, for every other plugin too"
            self.findings.append(Finding("IP404", subject, text))
        self._remember()

    def _probe(self, plugin: Plugin) -> tuple[DeviceProps, ...]:
        if plugin.platform is None:
            return ()
        try:
            result: Any = plugin.platform.probe()
        except BaseException as error:
            text = (
                f"probe raised {type(error).__name__}: {error}; "
                "return Probe.missing(reason, remedy) for a device that cannot be used"
            )
            self.findings.append(Finding("IP130", "probe", text))
            return ()
        found = probe(plugin)
        if not isinstance(result, Probe):
            self.findings.append(Finding("IP130", "probe", found.reason))
        elif not found.available and not found.remedy:
            text = f"it says {found.reason!r} without a remedy: tell users what to do"
            self.findings.append(Finding("IP131", "probe", text))
        self._writes("probe", "when it probes")
        return found.devices

    def _offers(self, plugin: Plugin, props: DeviceProps) -> None:
        ignored: list[Finding] = []  # the first half has noted them
        for _, candidate in collect(plugin, props, ignored.append):
            finding = of_load(candidate, self.own)
            self.findings += [finding] if finding else []
            self._writes(candidate.name, "when it is loaded")
        self.findings += of_setting_names(plugin, props)


def main(name: str, distribution: str) -> None:
    out = sys.stdout
    sys.stdout = sys.stderr
    run = Loaded(name, distribution)
    try:
        run.run()
    except Exception as error:
        traceback.print_exc()
        run.findings.append(Finding("IP901", "", f"{type(error).__name__}: {error}"))
    json.dump({"findings": [f.as_row() for f in run.findings]}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
