"""The plan in docs/internals/ARCHITECTURE.md, held against the imports."""

from __future__ import annotations

from typing import Any

GROUND = {"errors", "limits"}
MAY_KNOW: dict[str, set[str]] = {
    "errors": set(),
    "limits": set(),
    "model": set(),
    "wire": {"model"},
    "stats": {"model"},
    "allocation": {"model"},
    "log": {"model"},
    "store": {"model"},
    "lake": {"model", "wire"},
    "engine": {"model", "wire", "lake"},
    "collector": {"model", "wire", "log", "store"},
    "ingest": {"model", "wire", "log", "lake", "store"},
    "experiments": {"model", "wire", "stats", "allocation", "lake", "store", "engine", "log", "ingest"},
    "web": {"model", "allocation", "store"},
    "testing": {"model", "wire", "log", "lake"},
    "simulate": {"model", "wire", "log", "lake", "collector", "ingest", "testing"},
}  # fmt: skip
TOP = {"wiring", "cli", "groundswell", "__main__"}  # may know every room

# a seam's contract may be known where its implementations may not
ONLY_CONTRACT = {("engine", "lake"), ("collector", "log"), ("collector", "store"), ("web", "store")}

DRIVERS: dict[str, set[str]] = {
    "pyiceberg": {"lake"},
    "sqlite3": {"log", "store", "lake"},  # lake: sets up WAL of the SQLite catalog
    "sqlalchemy": {"store", "lake"},
    "alembic": {"store"},
    "duckdb": {"lake"},
    "starlette": {"web"},
    "jinja2": {"web"},
    "granian": {"collector"},
    "prometheus_client": {"collector", "web", "ingest"},
    "typer": {"cli"},
    "rich": {"cli"},
    "yaml": {"store", "ingest"},
}


def test_rooms_know_only_whom_the_plan_allows(modules: list[Any]) -> None:
    broken: list[str] = []
    for module in modules:
        if module.room in TOP:
            continue
        for name in module.imports:
            parts = name.split(".")
            if parts[0] != "groundswell" or len(parts) < 2:
                continue
            other = parts[1]
            if other == module.room or other in GROUND:
                continue
            if other not in MAY_KNOW[module.room]:
                broken.append(f"{module.name} imports {name}")
            elif (module.room, other) in ONLY_CONTRACT and parts[2:] not in (["contract"], ["ports"]):
                broken.append(f"{module.name} imports {name}: only the contract of {other} may be known here")

    assert broken == []


def test_every_room_stands_in_the_plan(modules: list[Any]) -> None:
    rooms = {module.room for module in modules}

    assert rooms - set(MAY_KNOW) - TOP == set()


def test_each_driver_is_known_in_its_room_alone(modules: list[Any]) -> None:
    broken = [
        f"{module.name} imports {name}"
        for module in modules
        for name in module.imports
        if (driver := name.split(".")[0]) in DRIVERS and module.room not in DRIVERS[driver]
    ]

    assert broken == []


def test_no_modules_import_each_other_in_a_circle(modules: list[Any]) -> None:
    names = {module.name for module in modules}
    graph = {m.name: sorted({i for i in m.imports_running if i in names and i != m.name}) for m in modules}
    done: set[str] = set()
    circles: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circles.append(" -> ".join((*path[path.index(name) :], name)))
            return
        if name in done:
            return
        for other in graph[name]:
            visit(other, (*path, name))
        done.add(name)

    for name in graph:
        visit(name, ())

    assert circles == []
