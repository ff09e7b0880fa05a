"""The source as the house tests see it: every module, its imports, its syntax tree."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "groundswell"


@dataclass(frozen=True)
class Module:
    """A source file: dotted name, path, tree, what it imports, and what of that when it runs (not for types alone)."""

    name: str
    path: Path
    tree: ast.Module
    imports: tuple[str, ...]
    imports_running: tuple[str, ...]

    @property
    def room(self) -> str:
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else "groundswell"


def _for_types(tree: ast.Module) -> set[ast.AST]:
    guarded: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            guarded.update(inner for statement in node.body for inner in ast.walk(statement))
    return guarded


def _imports(tree: ast.Module, known: set[str], skipped: set[ast.AST]) -> tuple[str, ...]:
    found: list[str] = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                dotted = f"{node.module}.{alias.name}"
                found.append(dotted if dotted in known else node.module)
    return tuple(found)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    files = sorted(SOURCE.rglob("*.py"))
    names: dict[Path, str] = {}
    for path in files:
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        names[path] = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    known = set(names.values())
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    return [
        Module(names[path], path, tree, _imports(tree, known, set()), _imports(tree, known, _for_types(tree)))
        for path, tree in trees.items()
    ]
