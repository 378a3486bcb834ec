"""The first half of `plugin check`, in a process of its own where nothing heavy can be imported.

`python -m inferplane.authoring.pure NAME DISTRIBUTION` prints JSON: findings, and every answer of
every `supports`, so that two processes can be compared.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from inferplane.plugins.discovery import Plugin, discover, entry_points
from inferplane.spec import DeviceProps

from .answers import ask_all
from .findings import Finding
from .isolation import Blocker, Recorder, own_packages
from .offers import all_props, collect, of_candidates, of_error, of_plugin, of_sizes
from .others import of_models, of_settings


def find(name: str, distribution: str) -> list[Any]:
    """The entry point, as `discover` takes it."""
    return [e for e in entry_points() if e[0].name == name and e[2] == distribution]


class Pure:
    """One run. findings, and answers: "op name profile" -> texts."""

    def __init__(self, name: str, distribution: str) -> None:
        self.found = find(name, distribution)
        self.blocker = Blocker(own_packages(self.found[0][0].value, distribution))
        self.recorder = Recorder()
        self.findings: list[Finding] = []
        self.answers: dict[str, list[str]] = {}

    def run(self) -> None:
        self.recorder.install()
        sys.meta_path.insert(0, self.blocker)
        (plugin,) = discover(found=self.found)
        refused = self._refused("IP401", "", "when it is discovered")
        if plugin.error is not None:
            blocked = refused and "(not allowed here:" in str(plugin.error)
            self.findings += [] if blocked else of_error(plugin)
            return
        self.findings += of_plugin(plugin)
        for props in all_props(plugin):
            self._offers(plugin, props)
        self.findings += of_models(plugin)

    def _refused(self, code: str, subject: str, when: str) -> bool:
        names = list(dict.fromkeys(name.split(".")[0] for name in self.blocker.refused))
        self.blocker.refused.clear()
        for name in names:
            text = f"it imports {name} {when}; import it in probe, or in what `load` names"
            self.findings.append(Finding(code, subject, text))
        return bool(names)

    def _offers(self, plugin: Plugin, props: DeviceProps) -> None:
        known: list[Finding] = []
        offered = collect(plugin, props, known.append)
        blocked = self._refused("IP402", "", "when it is asked for candidates")
        if not blocked:
            self.findings += known
        self.findings += of_candidates(plugin, offered, props)
        for _, candidate in offered:
            try:
                found, texts = ask_all(candidate, props, self.blocker, self.recorder)
            except KeyError:  # an op that does not exist, which is a finding already
                continue
            self.findings += found
            key = f"{candidate.op} {candidate.name} {props.profile}"
            self.answers[key] = texts
            self.findings += of_sizes(candidate, props)
            self.blocker.refused.clear()  # supports was asked again, and is reported already
        self.findings += of_settings(plugin, props)
        self._refused("IP402", "inferplane_settings", "when it is asked for settings")


def main(name: str, distribution: str) -> None:
    out = sys.stdout
    sys.stdout = sys.stderr  # what a plugin prints is not our result
    run = Pure(name, distribution)
    run.run()
    json.dump({"findings": [f.as_row() for f in run.findings], "answers": run.answers}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
