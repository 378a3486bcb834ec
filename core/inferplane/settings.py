"""Configuration: one frozen `Settings`, from flags, INFERPLANE_* variables and a YAML file.

Earlier sources win, in that order. None means "derive": `engine.planning` fills it, and `explain`
shows the value and where it came from. No other module reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from inferplane.errors import UserError, nearest

PREFIX = "INFERPLANE_"
DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
Policy = Literal["fcfs", "lpm", "sjf", "priority"]


class Settings(BaseSettings):
    """Every setting there is. Field names are the flags' names with `_` for `-`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", protected_namespaces=()
    )

    # what runs, and where
    model: str = Field("", description="folder, bundled name, or hub name of the model")
    revision: str | None = Field(None, description="revision of a hub model")
    served_model_name: str | None = Field(None, description="name in the API; default: the model")
    device: str = Field("auto", description="NAME, NAME:INDEX,... or auto")
    target: str | None = Field(None, description="plan for this device profile (explain only)")
    plugins: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        None, description="names of plugins that may be imported; default: all"
    )
    kernel: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="OP=NAME to use a kernel, OP!=NAME to forbid one"
    )
    strict: bool = Field(False, description="refuse reference kernels")
    tuning: str | None = Field(
        None,
        description="kernels that `inferplane tune --compare` measured; default: its own file; "
        "none: no file",
    )

    # numbers
    dtype: str | None = Field(None, description="compute type; default: the checkpoint's")
    kv_dtype: str | None = Field(None, description="KV cache type; default: dtype")
    quantization: str | None = Field(
        None,
        description="fp8, int8, int4, mxfp8, int4fp8_moe, or dequantize",
    )
    fuse_shared_experts: bool = Field(
        False, description="compute shared experts with the others, in one grouped kernel"
    )
    load_format: Literal["auto", "dummy"] = Field("auto", description="weights; dummy are random")
    threads: int | None = Field(
        None, ge=1, description="CPU threads; default: this machine's cores"
    )

    # memory and scheduling
    page_size: int | None = Field(None, ge=1, le=1024, description="tokens a KV page")
    num_pages: int | None = Field(None, ge=1, description="KV pages; default: from memory")
    memory_fraction: float = Field(
        0.9, gt=0, le=1, description="share of device memory that weights and KV may take"
    )
    kv_memory: int | None = Field(None, ge=1, description="bytes for KV; default: from memory")
    max_model_len: int | None = Field(None, ge=1, description="most tokens of a request")
    max_num_seqs: int | None = Field(
        None, ge=1, le=65536, description="most requests that run at once"
    )
    max_num_batched_tokens: int | None = Field(None, ge=1, description="most tokens of a step")
    enable_prefix_caching: bool = Field(True, description="reuse KV of equal prefixes")
    policy: Policy = Field("fcfs", description="which waiting request runs next")
    overlap: bool | None = Field(
        None, description="schedule a step while the device runs the last; default: with events"
    )
    graphs: bool | None = Field(
        None, description="capture decode steps as graphs; default: where every kernel allows it"
    )
    warm_up: bool | None = Field(
        None, description="run the largest steps before the first request; default: with events"
    )
    max_waiting: int = Field(1024, ge=0, description="waiting requests before 429")
    seed: int = Field(0, description="base of the seeds of requests that give none")

    # when something breaks
    step_timeout_s: float = Field(
        300.0, ge=0, description="seconds without progress that end a step as hung; 0: never"
    )
    check_numerics: bool = Field(False, description="end requests whose numbers are not finite")
    restart_limit: int = Field(
        10, ge=0, description="restarts of the engine within restart-window-s; 0: never restart"
    )
    restart_window_s: float = Field(600.0, gt=0, description="seconds in which restarts count")
    restart_backoff_s: float = Field(
        1.0, ge=0, description="seconds before the first restart; each further one waits twice that"
    )
    restart_backoff_most_s: float = Field(30.0, ge=0, description="the longest such wait")

    # server
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0: a free one")
    api_key: str | None = Field(None, repr=False, description="clients must send this key")
    drain_timeout: float = Field(
        30.0, ge=0, description="seconds that SIGTERM lets requests finish"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level of what is logged"
    )

    skip_tokenizer_init: bool = Field(False, description="token ids in, token ids out")

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """True would be taken for 1."""
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation not in (
            bool,
            bool | None,
        ):
            raise ValueError("it cannot be true or false")
        return value

    @field_validator("plugins", "kernel", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Names between commas: of a variable, and of each flag that was given."""
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, list | tuple) or not all(isinstance(v, str) for v in given):
            return value
        return tuple(name.strip() for text in given for name in text.split(",") if name.strip())

    @field_validator("dtype", "kv_dtype")
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        return DTYPES.get(value, value) if value else None

    @classmethod
    def restore(cls, fields: dict[str, Any]) -> Settings:
        """Settings that were validated in another process; this one's variables play no part."""
        plain = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls.model_construct(None, **plain)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings


def load_settings(
    flags: dict[str, Any], config: str | None = None
) -> tuple[Settings, dict[str, str]]:
    """The settings and where each given one came from ("flag", "environment", or the file).

    Raises UserError for unknown keys (it names the nearest known one) and bad values.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    _known(given, "setting")
    sources = {name: "flag" for name in given}
    environment = [name[len(PREFIX) :].lower() for name in os.environ if name.startswith(PREFIX)]
    _known(environment, "environment variable", PREFIX)
    for name in environment:
        sources.setdefault(name, "environment")
    if config:
        for name, value in _read_yaml(config).items():
            if name not in sources:
                given[name], sources[name] = value, config
    try:
        return Settings(**given), sources
    except ValidationError as error:
        raise UserError(_explain(error, sources)) from None


def _known(names: Iterable[str], what: str, prefix: str = "") -> None:
    """prefix: how the names are written outside, for the message."""

    def shown(name: str) -> str:
        return prefix + name.upper() if prefix else name

    for name in names:
        if name not in Settings.model_fields:
            known = [shown(field) for field in Settings.model_fields]
            raise UserError(f"no {what} {shown(name)!r}{nearest(shown(name), known)}")


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"--config {path}: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"--config {path}: it must hold 'setting: value' lines")
    found = {str(name).replace("-", "_"): v for name, v in value.items()}
    _known(found, f"setting in {path}:")
    return found


def _explain(error: ValidationError, sources: dict[str, str]) -> str:
    lines = []
    for item in error.errors():
        name = str(item["loc"][0]) if item["loc"] else "settings"
        shown = "***" if name == "api_key" else repr(item.get("input"))
        where = sources.get(name, "default")
        lines.append(f"{name.replace('_', '-')} is {shown} (from {where}): {item['msg']}")
    return "; ".join(lines)
