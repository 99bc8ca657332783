"""The rooms of the house: who may import whom, and what is public."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import mlrs_cli

PACKAGE = Path(mlrs_cli.__file__).parent
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(PACKAGE)], "mlrs_cli."))
# A module may import from floors below its own, and from its own room.
FLOORS = [
    {"errors", "files", "labels", "settings", "environment"},
    {"schedules"},
    {"tasks", "direction", "optimizers"},
    {"tangent"},
    {"questions"},
    {"learner"},
    {"run", "zoo"},
    {"plan", "train", "adapters"},
    {"track"},
    {"meta", "export"},
    {"transfer"},
    {"compare"},
    {"report"},
    {"commands"},
    {"__main__"},
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def imports(path: Path) -> set[str]:
    """Rooms of ours that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "mlrs_cli" else [f"mlrs_cli.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("mlrs_cli.")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for other in imports(path) - {room}:
        assert FLOOR[other] < FLOOR[room], f"{path.name} of '{room}' imports '{other}', which is not below it"


def test_adapters_use_schedules_and_the_zoo_alone() -> None:
    for path in (PACKAGE / "adapters").glob("*.py"):
        assert imports(path) <= {"adapters", "errors", "schedules", "zoo"}


@pytest.mark.parametrize("name", MODULES)
def test_public_names_exist(name: str) -> None:
    library = name.rpartition(".")[2]
    if ".adapters." in name:
        pytest.importorskip(library, reason="an optional package")
    module = importlib.import_module(name) if not name.endswith("__main__") else None
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public)


def test_the_package_exports_what_it_says_and_loads_it_late() -> None:
    assert mlrs_cli.__all__ == sorted(mlrs_cli.HOMES)
    for name in mlrs_cli.__all__:
        assert getattr(mlrs_cli, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'surprise'"):
        _ = mlrs_cli.surprise
