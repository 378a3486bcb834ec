"""What a quantized checkpoint's config.json says, checked: damage is a UserError that names the
field and its value."""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import Repr
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from inferplane.errors import UserError

WHERE = "quantization_config"


class Fields(BaseModel):
    """Base of the fields that a format reads; others are left alone. Types are taken strictly:
    "4" is no number, and neither is true."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


F = TypeVar("F", bound=Fields)


def read_fields(model: type[F], config: Mapping[str, Any]) -> F:
    """The `quantization_config` of a config.json. Raises UserError."""
    given = config.get(WHERE)
    if not isinstance(given, Mapping):
        raise UserError(f"{WHERE} is {shown(given)}, it must be a JSON object")
    return checked(model, given, WHERE)


def checked(model: type[F], given: Any, where: str) -> F:
    """Any JSON value. where: what it is called in the message."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        lines = []
        for wrong in error.errors()[:6]:
            field = ".".join(map(str, (where, *wrong["loc"])))
            if wrong["type"] == "missing":
                lines.append(f"{field} is missing")
            else:
                lines.append(f"{field} is {shown(wrong['input'])}: {wrong['msg']}")
        raise UserError("\n  ".join(lines)) from None


def refuse(field: str, value: Any, known: str, where: str = WHERE) -> UserError:
    """For a value that has the right type and is not served."""
    return UserError(f"{where}.{field} is {shown(value)}; known: {known}")


def shown(value: Any) -> str:
    """As Python writes it, cut: what a file says may be of any size and depth."""
    short = Repr()
    short.maxstring = short.maxother = short.maxlong = 80
    return short.repr(value)
