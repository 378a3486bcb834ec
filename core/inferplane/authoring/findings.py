"""What `plugin check` finds: a severity, a code, and a message that says what to change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
_ORDER = {"error": 0, "warning": 1, "note": 2}

# --8<-- [start:codes]
CODES: dict[str, tuple[Severity, str]] = {
    # the plugin as a whole
    "IP101": ("error", "it cannot be imported, or its first hook raises"),
    "IP102": ("error", "it was built for a contract that this core does not have"),
    "IP103": ("error", "its name is taken"),
    "IP104": ("error", "a hook is misspelt, unmarked, or has wrong arguments or a wrong result"),
    "IP105": ("error", "it is not on the allow-list"),
    "IP110": ("warning", "it was built for an older contract, or uses renamed names"),
    "IP111": ("warning", "it claims every contract version"),
    "IP112": ("note", "it uses a provisional hook"),
    "IP113": ("warning", "entry point and plugin have different names"),
    "IP120": ("error", "nothing can be planned for it: no profile, and no device here"),
    "IP121": ("warning", "it has no profile, so nobody can plan without its device"),
    "IP122": ("error", "a profile is inconsistent"),
    "IP123": ("warning", "a capability is not a semantic word"),
    "IP130": ("error", "its probe raises, or returns no Probe"),
    "IP131": ("warning", "its probe does not say what to do"),
    # candidates
    "IP201": ("error", "a hook of candidates raises or returns something else"),
    "IP202": ("error", "a candidate is for an op or a level that does not exist"),
    "IP203": ("error", "a candidate claims a feature that nothing asks for"),
    "IP204": ("error", "a name is used twice, or is the core's"),
    "IP205": ("error", "what a candidate loads does not exist"),
    "IP206": ("note", "what a candidate loads could not be imported here"),
    "IP207": ("warning", "a candidate is not named after its plugin"),
    "IP208": ("error", "a candidate's layout or extra_bytes raises"),
    "IP209": ("error", "a page size is not possible"),
    # supports
    "IP301": ("error", "supports raises"),
    "IP302": ("error", "supports returns something else than Support"),
    "IP303": ("warning", "a refusal has no useful reason"),
    "IP304": ("error", "supports answers the same request differently"),
    "IP305": ("error", "supports imports"),
    "IP306": ("error", "supports reads files, the environment, the clock or the network"),
    # what loading does
    "IP401": ("error", "discovery imports a heavy library"),
    "IP402": ("error", "offering candidates imports a heavy library"),
    "IP403": ("error", "it changes the core"),
    "IP404": ("error", "it replaces parts of torch"),
    # other hooks
    "IP501": ("error", "inferplane_device is wrong"),
    "IP502": ("error", "inferplane_memory is wrong"),
    "IP503": ("error", "inferplane_settings is wrong"),
    "IP504": ("error", "inferplane_models or inferplane_formats is wrong"),
    "IP901": ("error", "the check itself ended early"),
}
# --8<-- [end:codes]


@dataclass(frozen=True, slots=True)
class Finding:
    """code: a key of `CODES`. subject: the hook, candidate or profile, "" for the plugin."""

    code: str
    subject: str
    message: str

    @property
    def severity(self) -> Severity:
        return CODES[self.code][0]

    def as_row(self) -> dict[str, Any]:
        return {"severity": self.severity, **asdict(self)}


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Each once, errors first."""
    found = set(findings)
    return sorted(found, key=lambda f: (_ORDER[f.severity], f.code, f.subject, f.message))
