"""What the server and the engine's process say to each other, as msgpack."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from inferplane.params import SamplingParams
from inferplane.scheduler.request import Output, Request


class Add(msgspec.Struct, tag=True):
    """A new request. tokens: int32, native byte order (both ends are on one machine)."""

    id: str
    tokens: bytes
    max_tokens: int
    min_tokens: int
    stop_ids: tuple[int, ...]
    priority: int
    namespace: str
    sampling: SamplingParams
    wants_prompt: bool

    @classmethod
    def of(cls, request: Request) -> Add:
        return cls(
            request.id,
            request.tokens.tobytes(),
            request.max_tokens,
            request.min_tokens,
            request.stop_ids,
            request.priority,
            request.namespace,
            request.sampling,
            request.wants_prompt,
        )

    def request(self) -> Request:
        return Request(
            id=self.id,
            tokens=np.frombuffer(self.tokens, dtype=np.int32),
            max_tokens=self.max_tokens,
            min_tokens=self.min_tokens,
            stop_ids=self.stop_ids,
            priority=self.priority,
            namespace=self.namespace,
            sampling=self.sampling,
            wants_prompt=self.wants_prompt,
        )


class Abort(msgspec.Struct, tag=True):
    ids: list[str]


class Check(msgspec.Struct, tag=True):
    """Asks for the invariants to be checked."""

    serial: int


class Stop(msgspec.Struct, tag=True):
    """Ends the process."""


class Loading(msgspec.Struct, tag=True):
    """Bytes of weights read, and in all."""

    done: int
    total: int


class Ready(msgspec.Struct, tag=True):
    """The model is loaded. kernels: (op, kernel, sites)."""

    max_model_len: int
    kernels: list[tuple[str, str, int]]
    device: str
    load_seconds: float


class Failed(msgspec.Struct, tag=True):
    """The engine cannot go on. user: the message is all that a user needs. lost: its device is."""

    message: str
    user: bool
    lost: bool = False


class Pages(msgspec.Struct):
    """Pages of one KV group."""

    group: str
    total: int
    free: int
    cached: int
    in_use: int


class Stats(msgspec.Struct, tag=True):
    """Counts since the start, and what there is now. faults: see `engine.Stats`."""

    running: int = 0
    waiting: int = 0
    steps: int = 0
    failed_steps: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    pages: list[Pages] = []
    faults: dict[str, int] = {}


class Outputs(msgspec.Struct, tag=True):
    outputs: list[Output]
    stats: Stats


class Checked(msgspec.Struct, tag=True):
    """error: "" when every invariant holds."""

    serial: int
    error: str
    stats: Stats


Down = Add | Abort | Check | Stop
Up = Loading | Ready | Failed | Outputs | Checked

_encoder = msgspec.msgpack.Encoder()
_down = msgspec.msgpack.Decoder(Down)
_up = msgspec.msgpack.Decoder(Up)


def pack(message: Any) -> bytes:
    return _encoder.encode(message)


def unpack_down(data: bytes) -> Down:
    return _down.decode(data)


def unpack_up(data: bytes) -> Up:
    return _up.decode(data)
