"""The shape of the house: no vendor in the core, one-way imports, small files, tests as mirrors."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from statistics import median

import pytest

from inferplane.spec import SPEC_VERSION

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

ROOT = Path(__file__).parent.parent
CORE = ROOT / "core" / "inferplane"
TESTS = ROOT / "tests" / "core"

VENDOR_WORDS = {"cuda", "hip", "rocm", "npu", "ascend", "musa", "xpu", "nvidia", "amd"}
VENDOR_NUMBERS = re.compile(r"(?<![a-z])(?:sm_?\d+|gfx\d+)")
WORD = re.compile(r"[A-Za-z0-9]+")
CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

# From low to high. A part imports parts of lower rows, and modules of its own part.
LAYERS = (
    ("spec",),
    ("errors",),
    ("batch", "params", "activity"),
    ("plugins", "settings"),
    ("layers",),
    ("models", "formats"),
    ("planning", "cache"),
    ("reference", "scheduler"),
    ("platforms", "runner"),
    ("executor",),
    ("engine",),
    ("llm",),
    ("server", "testing"),
    ("authoring",),
    ("cli",),
    ("ci",),  # a tool: nothing imports it
)
# Arrows that a row does not forbid, but that must not be.
NEVER = {
    "scheduler": {"runner", "executor", "layers", "models", "planning", "plugins"},
    "cache": {"plugins", "layers", "models", "formats"},
    "reference": {"plugins", "layers", "models", "formats", "planning", "cache", "scheduler"},
    "platforms": {"plugins", "layers", "models", "formats", "planning", "cache", "scheduler"},
    "models": {"formats"},
    "runner": {"models", "plugins", "scheduler", "planning"},
    "server": {"runner", "executor", "layers", "models"},
}
NO_TORCH = (
    "scheduler",
    "cache",
    "server",
    "plugins",
    "planning",
    "models",
    "settings",
    "batch",
    "ci",
    "activity",
)

MOST_LINES = 400
LONG_FILES = {"spec/requests.py"}  # every request of the contract on one page
PLATFORM_FILES = {
    "__init__",
    "plugin",
    "device",
    "memory",
    "attention",
    "moe",
    "quantization",
    "communicator",
    "ops",
    "graphs",
    "supports",
    "sample",
    "probe",
    "profiles",
    "topology",
    "management",
    "libraries",
}
MOST_PLATFORM_LINES = 1200
# Tests that are about a package as a whole.
FREE_TESTS = {
    "engine/test_faults.py",
    "engine/test_hot_path.py",
    "plugins/test_broken.py",
    "models/test_greedy.py",
    "models/test_greedy_mixtures.py",
    "models/test_parity.py",
    "models/test_published.py",
    "models/test_windows.py",
    "reference/test_ops.py",
    "runner/test_capture.py",
    "server/test_faults.py",
    "server/test_openai.py",
    "plugins/test_no_torch.py",
    "scheduler/test_any_order.py",
    "testing/conformance/test_mutants.py",
    "spec/test_contract.py",
    "layers/test_overrides.py",
    "layers/test_mesh.py",
}


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def shown(path: Path) -> str:
    return path.relative_to(CORE).as_posix()


def part(path: Path) -> str:
    """The part of the core that a file belongs to: "cache" for cache/tree.py."""
    return path.relative_to(CORE).parts[0].removesuffix(".py")


@cache
def imports(path: Path) -> set[tuple[str, bool]]:
    """(module, whether it is imported with the file) of all imports but those for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ["inferplane", *path.relative_to(CORE).parent.parts]
    found: set[tuple[str, bool]] = set()

    def visit(node: ast.AST, at_import: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            at_import = False
        if isinstance(node, ast.Import):
            found.update((alias.name, at_import) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            found.add((module, at_import))
            found.update((f"{module}.{alias.name}", at_import) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child, at_import)

    visit(tree, True)
    return found


def our_parts(path: Path) -> set[str]:
    """The other parts of the core that a file imports, anywhere in it."""
    names = {name.split(".")[1] for name, _ in imports(path) if name.startswith("inferplane.")}
    known = {name for row in LAYERS for name in row}
    return (names & known) - {part(path)}


def level(name: str) -> int:
    for at, row in enumerate(LAYERS):
        if name in row:
            return at
    raise AssertionError(f"{name!r} has no place in LAYERS: say which parts may import it")


CORE_FILES = sources(CORE)
PARTS = sorted({part(path) for path in CORE_FILES} - {"__init__", "__main__"})


def vendor_words(text: str) -> set[str]:
    """Vendor words in a text, as words or as parts of identifiers."""
    found = set(VENDOR_NUMBERS.findall(text.lower()))
    for word in WORD.findall(text):
        pieces = {word.lower(), *(piece.lower() for piece in CAMEL.findall(word))}
        found |= pieces & VENDOR_WORDS
    return found


@pytest.mark.parametrize(
    "text",
    ["is_cuda()", "CudaGraph", "torch.cuda", "NPU_VISIBLE", "sm90", "sm_90a", "gfx942", "useHIP"],
)
def test_a_vendor_word_is_seen(text):
    assert vendor_words(text)


@pytest.mark.parametrize(
    "text", ["input", "inputs_T", "ship", "chip", "lambda", "small9", "example"]
)
def test_a_common_word_is_none(text):
    assert not vendor_words(text)


@pytest.mark.parametrize("path", CORE_FILES, ids=shown)
def test_the_core_names_no_vendor(path):
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    assert {n: words for n, line in lines if (words := vendor_words(line))} == {}


@pytest.mark.parametrize("name", PARTS)
def test_imports_point_down(name):
    arrows = {
        (shown(path), other)
        for path in CORE_FILES
        if part(path) == name
        for other in our_parts(path)
        if level(other) >= level(name)
    }
    assert arrows == set()


@pytest.mark.parametrize("name", NEVER)
def test_parts_that_must_not_know_each_other_do_not(name):
    arrows = {
        (shown(path), other)
        for path in CORE_FILES
        if part(path) == name
        for other in our_parts(path) & NEVER[name]
    }
    assert arrows == set()


def test_the_contract_imports_nothing_of_ours():
    found = {
        (shown(path), module)
        for path in sources(CORE / "spec")
        for module, _ in imports(path)
        if module.startswith("inferplane.") and not module.startswith("inferplane.spec")
    }
    assert found == set()


def torch_imports(name: str, only_at_import: bool) -> set[str]:
    return {
        shown(path)
        for path in CORE_FILES
        if part(path) == name
        for module, at_import in imports(path)
        if module.split(".")[0] == "torch" and (at_import or not only_at_import)
    }


@pytest.mark.parametrize("name", NO_TORCH)
def test_parts_that_know_no_tensors_never_import_torch(name):
    assert torch_imports(name, only_at_import=False) == set()


@pytest.mark.parametrize("name", ["spec", "layers", "formats"])
def test_parts_that_plan_import_torch_in_functions_only(name):
    assert torch_imports(name, only_at_import=True) <= {"spec/torch_types.py"}


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_files_are_short():
    long = {shown(path): lines(path) for path in CORE_FILES if lines(path) > MOST_LINES}
    assert {name: count for name, count in long.items() if name not in LONG_FILES} == {}


def test_no_file_is_excused_without_need():
    assert {name for name in LONG_FILES if lines(CORE / name) <= MOST_LINES} == set()


def test_most_files_are_very_short():
    assert median(lines(path) for path in CORE_FILES) < 120


def mirrored(test: Path) -> bool:
    """Whether tests/core/x/test_y.py has its core/inferplane/x/y.py, or x/y/."""
    inside = test.relative_to(TESTS)
    target = CORE / inside.parent / inside.name.removeprefix("test_")
    return target.exists() or target.with_suffix("").is_dir()


def test_tests_mirror_the_code():
    tests = sorted(TESTS.rglob("test_*.py"))
    names = {t.relative_to(TESTS).as_posix() for t in tests if not mirrored(t)}
    assert names - FREE_TESTS == set()


def test_folders_of_tests_mirror_packages():
    folders = {path.parent for path in TESTS.rglob("test_*.py")}
    assert {f.name for f in folders if not (CORE / f.relative_to(TESTS)).is_dir()} == set()


def platform_packages() -> list[Path]:
    built_in = [p for p in (CORE / "platforms").iterdir() if (p / "plugin.py").exists()]
    return built_in + sorted((ROOT / "platforms").glob("*/inferplane_*"))


@pytest.mark.parametrize("package", platform_packages(), ids=lambda p: p.name)
def test_platforms_use_the_agreed_file_names(package):
    assert {path.stem for path in package.glob("*.py")} - PLATFORM_FILES == set()


PLUGINS = [p for kind in ("platforms", "plugins") for p in ROOT.glob(f"{kind}/*/*/plugin.py")]
VENDOR_PACKAGES = sorted((ROOT / "platforms").glob("*/inferplane_*"))


@pytest.mark.parametrize("package", VENDOR_PACKAGES, ids=lambda p: p.name)
def test_platform_packages_use_the_contract_and_no_other_platform(package):
    found = {
        (path.name, name)
        for path in sources(package)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imported(node)
        if name.startswith("inferplane") and not name.startswith(("inferplane.spec", package.name))
    }
    assert found == set()


def test_in_tree_plugins_are_built_for_the_present_contract():
    wanted = f"api=({SPEC_VERSION[0]}, {SPEC_VERSION[1]})"
    found = {p.parent.name: re.findall(r"api=\(\d+, \d+\)", p.read_text()) for p in PLUGINS}
    assert len(found) >= 5
    assert found == {name: [wanted] for name in found}


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module or ""]
    return []


@pytest.mark.parametrize("package", VENDOR_PACKAGES, ids=lambda p: p.name)
def test_platform_packages_are_small(package):
    count = {p.name: lines(p) for p in package.rglob("*") if p.suffix in (".py", ".json")}
    assert sum(count.values()) <= MOST_PLATFORM_LINES, count
    assert max(count.values()) <= MOST_LINES


def runs_of_lines(path: Path, length: int = 6) -> set[tuple[str, ...]]:
    """Every run of so many lines that are neither empty, imports nor closing brackets."""
    text = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    common = ("import ", "from ", '"""', "#", "@hookimpl", "def inferplane_")
    kept = [t for t in text if not t.startswith(common) and not re.fullmatch(r"[\w)}\]]*,?", t)]
    return {tuple(kept[i : i + length]) for i in range(len(kept) - length + 1)}


def test_no_platform_package_copies_another():
    seen: dict[tuple[str, ...], Path] = {}
    copies = set()
    for package in VENDOR_PACKAGES:
        for path in sources(package):
            for run in runs_of_lines(path):
                other = seen.setdefault(run, path)
                if other.parent != package:
                    copies.add((shown_in(other), shown_in(path), run))
    assert copies == set()


def shown_in(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
