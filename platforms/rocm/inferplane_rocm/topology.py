"""How the GPUs of this host are joined, from amdsmi.

Source: AMD SMI documentation, `amdsmi_topo_get_link_type`.
"""

from __future__ import annotations

from typing import Any

from inferplane.spec import DeviceProps, LinkTopology

from .management import by_address, smi


def topology(props: DeviceProps) -> LinkTopology:
    """Between all GPUs of the host, in the order of their PCI addresses."""
    with smi() as lib:
        handles = [handle for _, handle in sorted(by_address(lib).items())]
        rows = [["" if a is b else link(lib, a, b) for b in handles] for a in handles]
    return LinkTopology(tuple(map(tuple, rows)))


def link(lib: Any, one: Any, other: Any) -> str:
    """ "xgmi" (Infinity Fabric), "pcie", or "unknown"."""
    kinds = lib.AmdSmiLinkType
    names = {kinds.AMDSMI_LINK_TYPE_XGMI: "xgmi", kinds.AMDSMI_LINK_TYPE_PCIE: "pcie"}
    try:
        return names.get(lib.amdsmi_topo_get_link_type(one, other)["type"], "unknown")
    except lib.AmdSmiException:
        return "unknown"


def links_between(lib: Any, handles: list[Any]) -> str:
    """The slowest kind of all pairs; "" for one GPU."""
    kinds = {link(lib, a, b) for i, a in enumerate(handles) for b in handles[i + 1 :]}
    for kind in ("unknown", "pcie", "xgmi"):
        if kind in kinds:
            return kind
    return ""
