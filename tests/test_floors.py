"""Imports go down only: a room may import rooms on lower floors, never its own floor's or an upper one's."""

from __future__ import annotations

import ast
from pathlib import Path

_PACKAGE = Path(__file__).parent.parent / "src" / "seedbed"
_FLOORS = (
    ("_native", "__init__"),
    ("core",),
    ("tokenizers", "models", "indexes"),
    ("curation", "datasets"),
    ("training",),
    ("scaling", "finetuning", "generation", "embeddings"),
    ("alignment", "evaluation"),
    ("recipes", "reports"),
    ("run",),
    ("lab",),
    ("pipeline", "serving"),
    ("cli",),
    ("__main__",),
)
_FLOOR_OF = {room: floor for floor, rooms in enumerate(_FLOORS) for room in rooms}
# The package's own __init__ hands out the public surface on demand, so it may name any room inside functions.
_LAZY = {"__init__"}


def _imports(file: Path) -> list[tuple[str, int]]:
    """(room, line) of every import of seedbed in a file, also inside functions."""
    package = ("seedbed", *file.relative_to(_PACKAGE).parts[:-1])
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            names = [[*module, alias.name] for alias in node.names]
        else:
            continue
        found += [(name[1] if len(name) > 1 else "__init__", node.lineno) for name in names if name[0] == "seedbed"]
    return [("__init__" if room == "__version__" else room, line) for room, line in found]


def test_imports_go_down_only() -> None:
    wrong = []
    for file in sorted(_PACKAGE.rglob("*.py")):
        parts = file.relative_to(_PACKAGE).with_suffix("").parts
        room = parts[0]
        if room in _LAZY or room == "testing":
            continue
        for other, line in _imports(file):
            if other == room:
                continue
            if _FLOOR_OF.get(other, 99) >= _FLOOR_OF.get(room, -1):
                wrong.append(f"{'/'.join(parts)}.py:{line} imports {other}")
    assert not wrong, "imports that do not go down:\n" + "\n".join(wrong)


def _files_imported(file: Path) -> set[Path]:
    """Files of the package that a file imports to run: anywhere in it, but for what only the type checker reads."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            named = [base / alias.name for alias in node.names]
            # `from .module import name` imports the module; `from . import module` the module named.
            found |= {path.with_suffix(".py") for path in (base, *named)} | {base / "__init__.py"}
    return {path for path in found if path.is_file() and path.name != "__init__.py"} - {file}


def test_no_files_import_each_other_in_a_circle() -> None:
    waiting = {file: _files_imported(file) for file in _PACKAGE.rglob("*.py")}
    while free := [file for file, imported in waiting.items() if not imported & waiting.keys()]:
        for file in free:
            del waiting[file]
    assert not waiting, "in a circle, or above one: " + ", ".join(sorted(path.name for path in waiting))


def test_every_room_has_a_floor() -> None:
    rooms = {path.stem for path in _PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"testing"} <= set(_FLOOR_OF)
