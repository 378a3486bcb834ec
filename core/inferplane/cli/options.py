"""Command-line flags out of `Settings`, so that a setting is declared once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import typer

from inferplane.settings import Settings

ENGINE = (
    "revision",
    "device",
    "plugins",
    "kernel",
    "strict",
    "tuning",
    "dtype",
    "kv_dtype",
    "quantization",
    "fuse_shared_experts",
    "load_format",
    "threads",
    "page_size",
    "num_pages",
    "memory_fraction",
    "kv_memory",
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "enable_prefix_caching",
    "policy",
    "overlap",
    "graphs",
    "warm_up",
    "seed",
    "step_timeout_s",
    "check_numerics",
)
SERVER = (
    "served_model_name",
    "max_waiting",
    "host",
    "port",
    "api_key",
    "drain_timeout",
    "log_level",
    "skip_tokenizer_init",
    "restart_limit",
    "restart_window_s",
    "restart_backoff_s",
    "restart_backoff_most_s",
)


def with_settings(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds a flag for each setting, and --config. The function gets them as `flags` and `config`,
    after its own parameters; a flag that was not given is None."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())
        own = [p for p in own if p.name not in ("flags", "config")]

        def wrapper(**arguments: Any) -> Any:
            flags = {name: arguments.pop(name) for name in names}
            flags = {name: value for name, value in flags.items() if value not in (None, [])}
            config = arguments.pop("config")
            return function(**arguments, flags=flags, config=config)

        file = inspect.Parameter(
            "config",
            inspect.Parameter.KEYWORD_ONLY,
            default=typer.Option(None, "--config", help="YAML file of settings"),
            annotation=str | None,
        )
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        parameters += [_flag(name) for name in names] + [file]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        wrapper.__name__, wrapper.__doc__ = function.__name__, function.__doc__
        return wrapper

    return decorate


def _flag(name: str) -> inspect.Parameter:
    field = Settings.model_fields[name]
    kind: Any = field.annotation
    if get_origin(kind) is Literal:
        text = f"{field.description or name}: {', '.join(get_args(kind))}"
        kind = str
    else:
        text = field.description or name
        inner = [t for t in get_args(kind) if t is not type(None)]
        if get_origin(kind) is tuple or (inner and get_origin(inner[0]) is tuple):
            kind = list[str]
        elif inner:
            kind = inner[0]
    if field.default is not None and field.default not in ("", ()):
        text += f" [default: {field.default}]"
    flag = "--" + name.replace("_", "-")
    declared = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=typer.Option(None, declared, help=text, show_default=False),
        annotation=kind if kind == list[str] else kind | None,
    )
