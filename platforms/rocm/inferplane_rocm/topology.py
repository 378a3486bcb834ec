"""How the GPUs of this host are joined, from amdsmi; and roughly, from the kernel.

Sources: AMD SMI documentation, `amdsmi_topo_get_link_type`; Linux, amdkfd/kfd_topology.c (nodes
have a location_id: bus, device and function; and a hive_id, the same for GPUs that XGMI joins).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from inferplane.spec import DeviceProps, LinkTopology

from .management import NoSMI, by_address, smi

NODES = Path("/sys/class/kfd/kfd/topology/nodes")


def topology(props: DeviceProps) -> LinkTopology:
    """Between the GPUs that the probe finds, in its order."""
    from .probe import address, visible

    return LinkTopology(_links(map(address, visible())))


def _links(addresses: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """From each to each; "unknown" for one that amdsmi does not know. Raises NoSMI."""
    with smi() as lib:
        gpus = list(enumerate(map(by_address(lib).get, addresses)))
        return tuple(tuple("" if i == j else link(lib, a, b) for j, b in gpus) for i, a in gpus)


def link(lib: Any, one: Any, other: Any) -> str:
    """ "xgmi" (Infinity Fabric), "pcie", or "unknown"."""
    kinds = lib.AmdSmiLinkType
    names = {kinds.AMDSMI_LINK_TYPE_XGMI: "xgmi", kinds.AMDSMI_LINK_TYPE_PCIE: "pcie"}
    try:
        return names.get(lib.amdsmi_topo_get_link_type(one, other)["type"], "unknown")
    except lib.AmdSmiException:
        return "unknown"


def slowest_link(addresses: list[str]) -> str:
    """The slowest kind of all pairs; "" for one GPU."""
    try:
        kinds = {kind for row in _links(addresses) for kind in row}
    except NoSMI:
        return links_by_kernel(addresses)
    return next((kind for kind in ("unknown", "pcie", "xgmi") if kind in kinds), "")


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
