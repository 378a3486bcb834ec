"""Reading certificates, and what they say of a kernel."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from tests.fakes.plugins import PROPS, candidate, module_of, platform_spec

from inferplane.plugins.catalog import Catalog
from inferplane.plugins.certificates import Certificates, read
from inferplane.plugins.discovery import discover
from inferplane.plugins.selection import Selection
from inferplane.spec import ENTRY_POINT_GROUP, SPEC_VERSION

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)

ROW = {
    "op": "linear",
    "candidate": "fake.kernel",
    "kind": "op",
    "plugin": "inferplane-fake",
    "version": "1.0",
    "level": "V3",
    "passed": 5,
    "refused": 1,
    "failed": 0,
    "not_run": 0,
    "largest_error": {"fp32": 1e-7},
    "notes": [],
}
GOOD = {
    "schema": 1,
    "platform": "fake",
    "device": "Fake 1",
    "profile": "fake1",
    "execution": "device",
    "host": "Linux x86_64",
    "date": "2030-01-02",
    "draws": 24,
    "complete": True,
    "versions": {
        "inferplane": "0.1.0",
        "contract": ".".join(map(str, SPEC_VERSION)),
        "python": "3.12",
        "torch": "2.13",
    },
    "results": [ROW],
}


def write(folder: Path, name: str = "fake.json", **changes) -> Path:
    (folder / "certificates").mkdir(exist_ok=True)
    path = folder / "certificates" / name
    path.write_text(json.dumps(GOOD | changes))
    return path


def certificates(folder: Path, version: str = "1.0") -> Certificates:
    """Of a platform whose module lies in `folder`."""
    spec = platform_spec()
    module: ModuleType = module_of(
        inferplane_platform=lambda: spec, inferplane_ops=lambda props: [candidate()]
    )
    module.__file__ = str(folder / "plugin.py")

    class Point:
        name, value = "fake", "fake.plugin"

        def load(self):
            return module

    (plugin,) = discover(found=[(Point(), ENTRY_POINT_GROUP, "inferplane-fake", version)])
    return Certificates.of(Catalog([plugin], Selection(plugin, (PROPS,), "test")))


def verified(folder: Path, version: str = "1.0") -> str:
    return certificates(folder, version).verified(candidate())


def test_none_is_not_run(tmp_path):
    assert verified(tmp_path) == "not run"


def test_the_level_of_this_version_and_device(tmp_path):
    write(tmp_path)
    assert verified(tmp_path) == "V3"


def test_another_version_of_the_plugin_is_told(tmp_path):
    write(tmp_path)
    assert verified(tmp_path, "1.1") == "V3 (older version)"


def test_another_version_of_the_contract_is_told(tmp_path):
    write(tmp_path, versions=GOOD["versions"] | {"contract": "0.1"})
    assert verified(tmp_path) == "V3 (older version)"


def test_another_device_is_told(tmp_path):
    write(tmp_path, profile="fake2")
    assert verified(tmp_path) == "V3 (on fake2)"


def test_this_device_counts_more_than_a_higher_level_elsewhere(tmp_path):
    write(tmp_path, "one.json", profile="fake2")
    lower = {**ROW, "level": "V2i"}
    write(tmp_path, "two.json", execution="interpreted", results=[lower])
    assert verified(tmp_path) == "V2i"


def test_another_platform_says_nothing(tmp_path):
    write(tmp_path, platform="other")
    assert verified(tmp_path) == "not run"


def test_a_failed_kernel_is_told_as_such(tmp_path):
    write(tmp_path, results=[{**ROW, "level": "failed", "failed": 1}])
    assert verified(tmp_path) == "failed"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema: Input should be 1"),
        ({"complete": False}, "a part of the kit"),
        ({"results": [{**ROW, "level": "V9"}]}, r"results\.0\.level"),
        ({"extra": 1}, "extra: Extra inputs"),
        ({"execution": "emulated"}, "V3 is not possible"),
        ({"versions": {}}, r"versions\.inferplane"),
    ],
)
def test_a_broken_file_says_what_is_wrong(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path, **changes))


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_a_broken_file_is_a_warning_and_verifies_nothing(tmp_path, text):
    write(tmp_path).write_text(text, encoding="latin-1")
    found = certificates(tmp_path)
    assert found.verified(candidate()) == "not run"
    (warning,) = found.warnings
    assert warning.startswith("plugin 'fake' (inferplane-fake 1.0): certificate fake.json")
