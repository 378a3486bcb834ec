"""Device profiles out of profiles.json. No torch."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from inferplane.spec import DTYPE_BITS, DeviceProps, GiB


class Profile(BaseModel):
    """The limits of a device. source: where they are from.

    graphs: whether it has graph capture. int64_index, unified: capabilities by that name.
    capabilities: any others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    source: str = Field(min_length=10)
    memory_gib: float = Field(gt=0)
    dtypes: tuple[str, ...]
    page_sizes: tuple[int, ...] = ()
    capabilities: frozenset[str] = frozenset()
    cores: int = 0

    @field_validator("dtypes")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = set(value) - set(DTYPE_BITS)
        if unknown:
            raise ValueError(f"no dtypes {sorted(unknown)}; dtypes: {', '.join(DTYPE_BITS)}")
        return value

    def props(self, profile: str) -> DeviceProps:
        return DeviceProps(
            name=self.name,
            profile=profile,
            memory_bytes=int(self.memory_gib * GiB),
            dtypes=frozenset(self.dtypes),
            capabilities=self.capabilities,
            page_sizes=self.page_sizes,
            cores=self.cores,
            execution="emulated",
        )


@cache
def profiles() -> dict[str, DeviceProps]:
    """Every profile by its short name, the default first."""
    text = files(__package__).joinpath("profiles.json").read_text(encoding="utf-8")
    read = TypeAdapter(dict[str, Profile]).validate_python(json.loads(text))
    return {name: profile.props(name) for name, profile in read.items()}


def profile_names() -> list[str]:
    return list(profiles())
