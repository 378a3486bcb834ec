"""The simulator's settings: environment variables that start with SIM_. No torch."""

from __future__ import annotations

import difflib
import os
from typing import Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from inferplane.spec import DTYPE_BITS

from .faultplan import parse_faults
from .profiles import profile_names

PREFIX = "SIM_"


class SimSettings(BaseSettings):
    """Read once, when the device is first used. A field is set by SIM_ and its name in capitals,
    `asynchronous` by SIM_ASYNC."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
        populate_by_name=True,
    )

    profile: str = Field("s1", description="device profile, one of profiles.json")
    devices: int = Field(1, ge=1, le=64, description="devices that there are")
    memory_mb: int | None = Field(None, ge=1, description="memory of each in MiB [profile]")
    dtypes: str | None = Field(None, description="dtypes to compute with: fp32,bf16 [profile]")
    kernels: bool = Field(True, description="offer own kernels; 0 leaves all to the reference")
    graphs: bool = Field(True, description="offer graph capture")
    graph_pool_mb: int = Field(256, ge=1, description="most memory of captured work in MiB")
    asynchronous: bool = Field(
        True, validation_alias="SIM_ASYNC", description="work runs when it is waited for"
    )
    queue_depth: int = Field(1024, ge=2, description="pieces of work that may wait in a stream")
    latency_us: float = Field(0.0, ge=0, description="time of each launch in microseconds")
    bandwidth_gb_s: float = Field(0.0, ge=0, description="memory bandwidth, 0 for no limit")
    faults: str = Field("", description="faults to inject: see `faultplan.py`")
    seed: int = Field(0, description="of faults that have a probability")

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, value: str) -> str:
        if value not in profile_names():
            raise ValueError(f"no profile {value!r}; profiles: {', '.join(profile_names())}")
        return value

    @field_validator("faults")
    @classmethod
    def _known_faults(cls, value: str) -> str:
        parse_faults(value)
        return value

    @field_validator("dtypes")
    @classmethod
    def _known_dtypes(cls, value: str | None) -> str | None:
        for name in split(value):
            if name not in DTYPE_BITS:
                raise ValueError(f"no dtype {name!r}; dtypes: {', '.join(DTYPE_BITS)}")
        return value


def split(names: str | None) -> list[str]:
    """The names in a comma-separated list."""
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def variables() -> dict[str, str]:
    """Every environment variable of the simulator, with what it is for."""
    return {
        str(field.validation_alias or PREFIX + name.upper()): field.description or name
        for name, field in SimSettings.model_fields.items()
    }


def load_settings(**changes: Any) -> SimSettings:
    """From the environment. Raises ValueError for a wrong value or an unknown SIM_ variable.

    changes: fields that win over the environment, for tests.
    """
    known = variables()
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"{name} is no setting of the simulator{hint} (all: {', '.join(known)})"
            )
    try:
        return SimSettings(**changes)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ValueError(f"simulator settings: {'; '.join(lines)}") from None
