"""GPTQ: 4- and 8-bit integers by groups of inputs, from AutoGPTQ, GPTQModel and Optimum.

Legend: N outputs, K inputs, G groups, P numbers a 32-bit word (8 or 4). Per module:

| stored | type and shape | what |
| --- | --- | --- |
| qweight | int32 [K/P, N] | codes; a word has P inputs, low bits first |
| qzeros | int32 [G, N/P] | zero points of neighbouring outputs; in version 1 less one each |
| scales | fp16 [G, N] | |
| g_idx | int32 [K] | the group of an input |

A weight is (code - zero) * scale. Version 1 takes one off every zero by subtracting 0x1111_1111
from a word, borrows and all, so adding it gives back what was there.
Sources: GPTQ, arXiv 2210.17323; the layout as GPTQModel 7.7 and AutoGPTQ 0.7 write and read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar

from inferplane.errors import UserError
from inferplane.spec import UNQUANTIZED, QuantScheme

from .base import Format, Read, Shape
from .matching import listed, pattern
from .names import is_kept, last_word
from .packing import along_rows, bytes_of, canonical
from .schema import CONFIG, Schema, read_schema, refuse
from .stored import take, take_scales

if TYPE_CHECKING:
    import torch

_TYPES = {(4, True): "int4", (4, False): "uint4", (8, True): "int8", (8, False): "uint8"}


class Rule(Schema):
    """How a module is quantized. group_size: -1 for all inputs."""

    bits: int
    group_size: int = 128
    sym: bool = True
    desc_act: bool = False
    static_groups: bool = False

    @property
    def ordered(self) -> bool:
        """Whether inputs were sorted before they were grouped, so that a group's are anywhere."""
        return self.desc_act and not self.static_groups and self.group_size > 0

    @property
    def zero(self) -> int:
        """The zero point of symmetric weights."""
        return 1 << (self.bits - 1)

    def scheme(self) -> QuantScheme:
        return QuantScheme.named(
            weight=_TYPES[self.bits, self.sym],
            granularity="group" if self.group_size > 0 else "channel",
            group=max(self.group_size, 0),
            zero_point=not self.sym,
            scale="fp16",
            reordered=self.ordered,
        )


class Config(Rule):
    """`quantization_config`. dynamic: regular expressions, after "+:" with fields of the modules
    that match, after "-:" for modules that are not quantized; the first that matches counts."""

    checkpoint_format: str = "gptq"
    is_marlin_format: bool = False
    pack_dtype: str = "int32"
    lm_head: bool = False
    dynamic: dict[str, dict[str, Any]] | None = None
    modules_in_block_to_quantize: list[str | list[str]] | None = None
    block_name_to_quantize: str | None = None


class GPTQ(Format):
    name: ClassVar[str] = "gptq"

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = found = read_schema(Config, config.get("quantization_config"))
        if found.checkpoint_format not in ("gptq", "gptq_v2"):
            raise refuse("checkpoint_format", found.checkpoint_format, "known: gptq, gptq_v2")
        if found.is_marlin_format:
            raise refuse("is_marlin_format", True, "it must be false")
        if found.pack_dtype != "int32":
            raise refuse("pack_dtype", found.pack_dtype, "known: int32")
        base = _rule({name: getattr(found, name) for name in Rule.model_fields}, CONFIG)
        self.overrides = list(_overrides(found, base))
        self.base = base
        only = found.modules_in_block_to_quantize
        self.only = None if only is None else [n for e in only for n in _as_list(e)]
        self._rules: dict[str, Rule | None] = {}

    def rule(self, module: str) -> Rule | None:
        """None for a module that is left alone."""
        if module not in self._rules:
            self._rules[module] = self._find(module)
        return self._rules[module]

    def _find(self, module: str) -> Rule | None:
        found = self.config
        head = found.lm_head and last_word(module) == "lm_head"
        if is_kept(module) and not head:
            return None
        block = found.block_name_to_quantize
        if block and not head and not module.startswith(f"{block}."):
            return None
        if self.only is not None and not head and not listed(module, self.only):
            return None
        for found_pattern, rule in self.overrides:
            if found_pattern.match(module):
                return rule
        return self.base

    def scheme(self, module: str) -> QuantScheme:
        rule = self.rule(module)
        return rule.scheme() if rule else UNQUANTIZED

    def stored(self, module: str, shape: Shape) -> dict[str, Shape | None]:
        rule = self.rule(module)
        assert rule is not None
        if len(shape) != 2:
            raise UserError(f"{module}: gptq has no stacked experts")
        (rows, columns), per = shape, 32 // rule.bits
        if rows % per or columns % per:
            raise UserError(
                f"{module}: {rows} outputs and {columns} inputs do not fill words of {per} numbers "
                f"({CONFIG}.bits is {rule.bits})"
            )
        groups = ceil(columns / rule.group_size) if rule.group_size > 0 else 1
        return {
            f"{module}.qweight": (columns // per, rows),
            f"{module}.qzeros": (groups, rows // per),
            f"{module}.scales": (groups, rows),
            f"{module}.g_idx": (columns,) if rule.ordered else None,
            f"{module}.bias": None,  # AutoGPTQ stores zeros for layers without
        }

    def load(self, module: str, read: Read) -> dict[str, torch.Tensor]:
        rule = self.rule(module)
        assert rule is not None
        weight = bytes_of(take(read, f"{module}.qweight", "int32").t())
        found = {"scale": _shared(rule, take_scales(read, f"{module}.scales"))}
        zero = self._zeros(rule, take(read, f"{module}.qzeros", "int32"))
        if not rule.sym:
            found["zero"] = _shared(rule, zero)
        elif bool((zero != rule.zero).any()):
            raise UserError(f"{CONFIG}.sym is true, but {module}.qzeros is not all {rule.zero}")
        order = _order(rule, module, weight.shape[1] * 8 // rule.bits, read)
        if order is not None:
            codes = along_rows(weight.view(_words()), rule.bits)[:, order]
            weight, found["order"] = canonical(codes, rule.bits), order.to(_words())
        if rule.bits == 8 and rule.sym:
            weight = (weight ^ rule.zero).view(_signed())
        return {"weight": weight, **found}

    def _zeros(self, rule: Rule, words: torch.Tensor) -> torch.Tensor:
        """uint8 [G, N]."""
        if self.config.checkpoint_format == "gptq":
            words = words + (0x11111111 if rule.bits == 4 else 0x01010101)
        return along_rows(words, rule.bits)

    def describe(self) -> str:
        version = "2" if self.config.checkpoint_format == "gptq_v2" else "1"
        return f"gptq version {version}, {self.base.scheme().name}"


def _words() -> torch.dtype:
    import torch

    return torch.int32


def _signed() -> torch.dtype:
    import torch

    return torch.int8


def _shared(rule: Rule, numbers: torch.Tensor) -> torch.Tensor:
    """[G, N] -> [N, G], or [N] where there are no groups."""
    return numbers.t() if rule.group_size > 0 else numbers[0]


def _order(rule: Rule, module: str, inputs: int, read: Read) -> torch.Tensor | None:
    """int64 [K] that sorts inputs by their group; None where they are in order. Raises UserError
    where groups are not of their size, or not where the config says."""
    import torch

    name = f"{module}.g_idx"
    if rule.group_size <= 0:
        return None
    try:
        groups = take(read, name, "int32", "int64")
    except UserError:
        if rule.ordered:
            raise
        return None
    expected = torch.arange(inputs) // rule.group_size
    if not rule.ordered:
        if not torch.equal(groups.long(), expected):
            raise UserError(f"{CONFIG}.desc_act is false, but {name} is not in order")
        return None
    order = groups.argsort(stable=True)
    if not torch.equal(groups[order].long(), expected):
        raise UserError(f"{name} does not make groups of {rule.group_size} out of {inputs} inputs")
    return order


def _rule(fields: Mapping[str, Any], where: str) -> Rule:
    """Raises UserError for a rule that is not served."""
    rule = read_schema(Rule, fields, where)
    if rule.bits not in (4, 8):
        raise refuse("bits", rule.bits, "known: 4, 8", where)
    if rule.group_size != -1 and rule.group_size < 1:
        raise refuse("group_size", rule.group_size, "it is -1, or a number of inputs", where)
    return rule


def _overrides(config: Config, base: Rule) -> Any:
    """(compiled pattern, rule or None), in the order of the file."""
    for key, fields in (config.dynamic or {}).items():
        text = key.removeprefix("-:") if key.startswith("-:") else key.removeprefix("+:")
        found = pattern(text, f"{CONFIG}.dynamic")
        if key.startswith("-:"):
            yield found, None
        else:
            yield found, _rule(base.model_dump() | fields, f"{CONFIG}.dynamic[{key!r}]")


def _as_list(entry: str | list[str]) -> list[str]:
    return [entry] if isinstance(entry, str) else entry
