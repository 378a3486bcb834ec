"""How the GPUs of this host are joined, from amdsmi; and roughly, from the kernel.

Sources: AMD SMI documentation, `amdsmi_topo_get_link_type`; Linux, amdkfd/kfd_topology.c (nodes
have a location_id: bus, device and function; and a hive_id, the same for GPUs that XGMI joins).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inferplane.spec import DeviceProps, LinkTopology

from .management import by_address, smi

NODES = Path("/sys/class/kfd/kfd/topology/nodes")


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


def links_by_kernel(addresses: list[str]) -> str:
    """The same for GPUs at these addresses; "" where the kernel does not tell of all."""
    hives = {}
    for node in NODES.glob("*/properties"):
        try:
            known = dict(line.split() for line in node.read_text().splitlines())
        except OSError:  # of a GPU that this container was not given
            continue
        at = int(known["location_id"])
        place = f"{int(known.get('domain', 0)):04x}:{at >> 8:02x}:{at >> 3 & 31:02x}.{at & 7}"
        hives[place] = known.get("hive_id", "0")
    found = {hives.get(address, "") for address in addresses}
    joined = len(found) == 1 and found != {"0"}
    return "" if len(addresses) < 2 or "" in found else "xgmi" if joined else "pcie"
