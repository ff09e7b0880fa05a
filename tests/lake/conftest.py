"""Lakes of every kind, and tables to put into them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from groundswell.lake.contract import Change, IngestState, Lake, LakeFile, Snapshot
from groundswell.lake.iceberg import IcebergLake
from groundswell.model.definitions import Definitions, PropertyDef
from groundswell.testing.clock import ManualClock
from groundswell.testing.lake import FaultyLake, MemoryLake
from groundswell.wire.schema import events_schema

DEFINITIONS = Definitions(
    version=1,
    properties={
        "revenue": PropertyDef(type="float"),
        "watch_ms": PropertyDef(type="int"),
        "title": PropertyDef(type="string"),
        "autoplay": PropertyDef(type="bool"),
        "released": PropertyDef(type="timestamp"),
    },
)
DAY_US = 1_767_571_200_000_000  # 2026-01-05

MakeTable = Callable[..., pa.Table]
Append = Callable[..., tuple[LakeFile, Snapshot]]


@pytest.fixture
def definitions() -> Definitions:
    return DEFINITIONS


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def iceberg(tmp_path: Path, clock: ManualClock) -> Iterator[IcebergLake]:
    lake = IcebergLake(tmp_path / "lake", clock=clock)
    yield lake
    lake.close()


@pytest.fixture(params=["memory", "iceberg", "slow memory", "iceberg that loses every race"])
def lake(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Lake]:
    """Every lake must keep the contract, the crippled ones too."""
    kind = request.param
    if "memory" in kind:
        memory = MemoryLake(clock=clock)
        yield FaultyLake(memory, clock=clock, faults=itertools.repeat("slow"), slow_s=0.1) if "slow" in kind else memory
        return
    made = IcebergLake(tmp_path / "lake", clock=clock)
    yield FaultyLake(made, clock=clock, faults=itertools.repeat("race_lost")) if "race" in kind else made
    made.close()


@pytest.fixture
def few_snapshots(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let few snapshots live, so that a test need not commit hundreds."""
    monkeypatch.setattr("groundswell.lake.retention._KEPT_MAX", 4)
    return 4


@pytest.fixture
def make_table() -> MakeTable:
    return table_of


@pytest.fixture
def append() -> Append:
    return append_to


def table_of(units: Sequence[int | None], *, ids: str = "e", received_us: int = DAY_US, **columns: Any) -> pa.Table:
    """Return events of ``units``; other columns as given, the rest is made up or missing."""
    rows = len(units)
    values: dict[str, Any] = {
        "event_id": [f"{ids}{place}" for place in range(rows)],
        "type": ["view"] * rows,
        "ts": [received_us + place for place in range(rows)],
        "received_at": [received_us + place for place in range(rows)],
        "source": ["web"] * rows,
        "unit_hash": list(units),
        "event_hash": [_hash(f"{ids}{place}") for place in range(rows)],
        "content_hash": list(range(rows)),
    } | columns
    schema = events_schema(DEFINITIONS)
    return pa.table({name: pa.array(column, schema.field(name).type) for name, column in values.items()})


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def append_to(lake: Lake, table: pa.Table, state: IngestState | None = None) -> tuple[LakeFile, Snapshot]:
    """Write ``table`` and commit it."""
    file = lake.write(table)
    snapshot = lake.commit(lambda _: Change(add=[file], state=state))
    assert snapshot is not None
    return file, snapshot
