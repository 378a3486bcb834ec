"""pytest's side of `inferplane.testing.Conformance`. Loaded whenever pytest starts, so it imports
nothing of ours before a test class asks for it."""

from __future__ import annotations

from typing import Any

import pytest

FIXTURE = "conformance_case"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("inferplane")
    group.addoption(
        "--inferplane-device",
        default="",
        metavar="DEVICE",
        help="run conformance classes on this device instead of their own",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a case. A device that is not there is one test, which fails."""
    if FIXTURE not in metafunc.fixturenames or metafunc.cls is None:
        return
    from .suite_class import Conformance

    if not issubclass(metafunc.cls, Conformance):
        return
    found, ids = _cases(metafunc.cls, metafunc.config.getoption("--inferplane-device"))
    metafunc.parametrize(FIXTURE, found, ids=ids)


def _cases(kind: Any, device: str) -> tuple[list[Any], list[str]]:
    from inferplane.errors import UserError

    try:
        session = kind.open(device)
        return [(session, case) for case in session.cases], [case.id for case in session.cases]
    except UserError as error:
        return [error], ["device"]
