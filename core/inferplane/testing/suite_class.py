"""The conformance kit as pytest tests, one a case:

from inferplane.testing import Conformance

class TestAcme(Conformance):
    device = "acme"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from .conformance.case import Case
    from .conformance.session import Session


class Conformance:
    """Base of a test class; the plugin `inferplane.testing.pytest_plugin` fills it with cases.

    device: as after `--device`; `--inferplane-device` replaces it. (optional) areas: only these.
    draws: drawn cases a kernel. level: "V0" checks answers only, and needs no device.
    """

    device: ClassVar[str] = ""
    areas: ClassVar[tuple[str, ...]] = ()
    draws: ClassVar[int] = 8
    level: ClassVar[str] = ""

    @classmethod
    def open(cls, device: str = "") -> Session:
        """Raises UserError where there is no such device: nothing is skipped silently."""
        from inferplane.errors import UserError

        from .conformance.session import Choice, Session
        from .conformance.target import LEVELS, Target

        named = device or cls.device
        if not named:
            raise UserError(f"{cls.__name__} has no device: set one, or give --inferplane-device")
        target = Target.open(named, data_only=cls.level == "V0")
        if cls.level and LEVELS.index(target.level()) < LEVELS.index(cls.level):
            raise UserError(f"level is {cls.level}; a run on {named} proves {target.level()}")
        return Session(target, Choice(areas=tuple(cls.areas), draws=cls.draws))

    def test_case(self, conformance_case: tuple[Session, Case] | Exception) -> None:
        import pytest

        if isinstance(conformance_case, Exception):
            pytest.fail(str(conformance_case), pytrace=False)
        session, case = conformance_case
        result = session.run(case)
        if result.status in ("refused", "not run"):
            pytest.skip(f"{result.status}: {result.note}")
        if result.failures:
            pytest.fail(_text(session, case, result), pytrace=False)


def _text(session: Session, case: Case, result: Any) -> str:
    import shlex

    again = f"inferplane conformance --device {session.target.name} --case {shlex.quote(case.id)}"
    lines = [f"{case.id} [{f.check}] {f.message}" for f in result.failures]
    return "\n".join([*lines, f"  {again}"])
