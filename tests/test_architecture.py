"""Which room may import which (docs/architecture.md), held by reading the imports of every file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "cytoimagenet_hf"
BASE = {"errors", "schema", "hashing", "files"}  # what every room may use
PIXELS = {"numpy", "PIL", "tifffile", "imagecodecs", "cv2", "zlib_ng", "torch", "datasets"}
TABLES = {"pyarrow", "pandas", "datasets", "csv", "torch"}

# room -> (rooms of ours it may import, modules of others it may not)
ROOMS = {
    "errors": (set(), PIXELS | TABLES),
    "hashing": ({"errors"}, PIXELS - {"numpy"}),
    "files": ({"errors"}, PIXELS | TABLES),
    "schema": ({"errors"}, PIXELS - {"datasets"}),
    "sources": (BASE, PIXELS | {"pyarrow", "pandas"}),
    "imaging": (BASE, TABLES),
    "simulation": (BASE | {"sources", "imaging"}, {"torch", "datasets"}),
    "hub": (BASE, {"torch", "PIL"}),
    "pretraining": (BASE | {"hub", "imaging", "models"}, set()),
    "models": (BASE | {"imaging", "hub"}, {"pyarrow", "pandas"}),
    "evaluation": (BASE | {"sources", "imaging", "hub", "models"}, set()),
    "curation": (BASE | {"sources", "imaging", "hub"}, {"torch"}),
}
FLOORS = {  # top-level folder -> folders of the checkout it may import
    PACKAGE: set(),
    "builders": {PACKAGE},
    "training": {PACKAGE},
    "benchmarks": {PACKAGE, "tests"},  # of the tests, the loopback Hub
}
HEAVY = {
    "torch",
    "datasets",
    "pyarrow",
    "pandas",
    "numpy",
    "PIL",
    "transformers",
    "huggingface_hub",
}


def imported(path: Path, *, nested: bool = True) -> Iterator[str]:
    """Yield the dotted names that a file imports; `from a import b` gives a.b, whatever b is.

    Imports for type checkers only are passed over. With `nested` false only those that run when
    the module is imported are given: not those inside of functions.
    """
    package = [*path.relative_to(ROOT).parent.parts] if path.is_relative_to(ROOT) else []
    yield from _imported(ast.parse(path.read_text(encoding="utf-8")), package, nested)


def _imported(node: ast.AST, package: list[str], nested: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            above = package[: len(package) - child.level + 1] if child.level else []
            base = ".".join([*above, child.module or ""]).strip(".")
            yield from (f"{base}.{alias.name}" for alias in child.names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _imported(other, package, nested)
        elif nested or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imported(child, package, nested)


def rooms(names: Iterator[str]) -> set[str]:
    """Reduce dotted names to the rooms of the package that they reach (`__version__` is none)."""
    ours = [name.split(".")[1] for name in names if name.startswith(f"{PACKAGE}.")]
    return {room for room in ours if not room.startswith("__")}


def tops(names: Iterator[str]) -> set[str]:
    """Reduce dotted names to their first parts."""
    return {name.partition(".")[0] for name in names}


def files_of(room: str) -> list[Path]:
    """All files of a room, be it a folder or a single module."""
    folder = ROOT / PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_only_what_it_stands_on(room):
    """No room reaches into one that is built on top of it, not even inside of a function."""
    may = ROOMS[room][0] | {room}
    for path in files_of(room):
        reached = rooms(imported(path))
        assert reached <= may, f"{path.relative_to(ROOT)} imports {sorted(reached - may)}"


@pytest.mark.parametrize("room", ROOMS)
def test_room_keeps_off_what_is_not_its_business(room):
    """Sources never touch pixels, imaging never touches tables, the base stays small."""
    for path in files_of(room):
        found = tops(imported(path)) & ROOMS[room][1]
        assert not found, f"{path.relative_to(ROOT)} imports {sorted(found)}"


def test_every_module_belongs_to_a_room():
    """A new folder or module of the package gets its rule here before it is merged."""
    # Entry points may use every room.
    entries = {"__init__", "__main__", "cli", "commands", "console", "demo"}
    here = {
        path.stem
        for path in (ROOT / PACKAGE).iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    }
    assert here <= set(ROOMS) | entries, f"no rule for {sorted(here - set(ROOMS) - entries)}"


@pytest.mark.parametrize("floor", FLOORS)
def test_floors_import_downwards(floor):
    """The package knows nothing of the scripts, and scripts know nothing of each other."""
    may = FLOORS[floor] | {floor}
    for path in sorted((ROOT / floor).rglob("*.py")):
        reached = tops(imported(path)) & (set(FLOORS) | {"tests"})
        assert reached <= may, f"{path.relative_to(ROOT)} imports {sorted(reached - may)}"


@pytest.mark.parametrize(
    "name",
    [
        "__init__.py",
        "cli.py",
        "commands/options.py",
        "commands/embeddings.py",
        "commands/publishing.py",
        "commands/scoring.py",
    ],
)
def test_entry_points_import_nothing_heavy(name):
    """`import cytoimagenet_hf` and `cytoimagenet --help` don't wait for libraries."""
    found = tops(imported(ROOT / PACKAGE / name, nested=False)) & HEAVY
    assert not found, f"{name} imports {sorted(found)} at module level"


def test_walker_sees_every_kind_of_import(tmp_path):
    """Plain, dotted, renamed, nested and conditional imports count; those for types don't."""
    path = tmp_path / "some.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    import torch\n"
        "import numpy.typing as npt\n"
        "from cytoimagenet_hf import curation\n"
        "try:\n"
        "    from zlib_ng import zlib_ng\n"
        "except ImportError:\n"
        "    pass\n"
        "def late():\n"
        "    from cytoimagenet_hf.imaging import png\n"
        "    import datasets\n"
    )
    assert tops(imported(path)) == {"typing", "numpy", PACKAGE, "zlib_ng", "datasets"}
    assert rooms(imported(path)) == {"curation", "imaging"}
    assert tops(imported(path, nested=False)) == {"typing", "numpy", PACKAGE, "zlib_ng"}


def test_walker_resolves_relative_imports():
    """`from ..imaging import png` inside of a room counts as the room it reaches."""
    tree = ast.parse("from ..imaging import png\nfrom . import _source\nfrom .. import hub")
    found = _imported(tree, [PACKAGE, "sources"], nested=True)
    assert rooms(found) == {"imaging", "sources", "hub"}
