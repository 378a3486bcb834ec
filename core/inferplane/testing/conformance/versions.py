"""What a certificate says of the machine and the software. No names of hosts, no paths."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from inferplane import __version__
from inferplane.spec import SPEC_VERSION

from .target import Target


def about(target: Target) -> dict[str, Any]:
    owners = target.catalog.owners
    return {
        "platform": target.name,
        "device": target.props.name,
        "profile": target.props.profile,
        "execution": target.props.execution,
        "host": f"{platform.system()} {platform.machine()}",
        "versions": {
            "inferplane": __version__,
            "contract": ".".join(map(str, SPEC_VERSION)),
            "python": platform.python_version(),
            "torch": metadata.version("torch"),
        },
        "candidates": {
            f"{c.op}/{c.name}": {
                "level": target.level(c),
                "kind": c.level,
                "plugin": owners[c.op, c.name].distribution,
                "version": owners[c.op, c.name].version,
            }
            for c in target.catalog.candidates
        },
        "level": target.level(),
    }
