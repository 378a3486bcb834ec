"""Reading JSON that others wrote: validated by a schema, with errors that name field and value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from inferplane.errors import UserError


class Schema(BaseModel):
    """Fields that are not named are left alone; no value is taken for another type."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class Seen(Schema):
    """Of one tensor in the files, as safetensors writes it: see `described`."""

    dtype: str
    shape: list[int]


S = TypeVar("S", bound=Schema)
CONFIG = "config.json: quantization_config"


def read_schema(schema: type[S], data: Any, where: str = CONFIG) -> S:
    """Raises UserError that lists every field that does not fit, with its value."""
    if not isinstance(data, Mapping):
        raise UserError(f"{where} is {_shown(data)}; it must be an object")
    try:
        return schema.model_validate(dict(data))
    except ValidationError as error:
        lines = [
            f"{where}{_path(item['loc'])} is {_shown(item.get('input'))}: {item['msg']}"
            if item["type"] != "missing"
            else f"{where}{_path(item['loc'])} is missing"
            for item in error.errors()
        ]
        raise UserError("; ".join(lines[:8])) from None
    except RecursionError:
        raise UserError(f"{where} is nested too deeply") from None


def refuse(field: str, value: Any, why: str, where: str = CONFIG) -> UserError:
    """The error for what a file may say, but we cannot do."""
    return UserError(f"{where}.{field} is {_shown(value)}: {why}")


def _path(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _shown(value: Any, most: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= most else text[:most] + " ..."
