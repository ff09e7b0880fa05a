"""The audit names what is damaged on the disk, and goes on with the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from groundswell.ingest.audit import AuditReport, audit
from groundswell.lake.contract import Change
from groundswell.lake.iceberg import IcebergLake
from groundswell.log.rules import SegmentRules
from groundswell.log.sqlite import SqliteEventLog
from groundswell.testing.clock import ManualClock
from groundswell.wiring.installation import Installation
from groundswell.wiring.layout import Layout

Make = Callable[..., dict[str, Any]]
DAY_S = 24 * 3600


@pytest.fixture
def stored(bench: Any, clock: ManualClock, make_event: Make, tmp_path: Path) -> Iterator[Any]:
    """Two sealed segments, an open one and three data files, all sound."""
    log = SqliteEventLog(tmp_path / "log", clock=clock, partitions=4, rules=SegmentRules(age_s_max=DAY_S))
    lake = IcebergLake(tmp_path / "lake", clock=clock)
    made = type(bench)(log, lake, clock)
    service = made.service()
    for batch in range(3):
        numbers = range(batch * 300, batch * 300 + 300)
        made.send([make_event(number, properties={"watch_ms": number}) for number in numbers])
        service.run_once()
        clock.advance(DAY_S)
        log.maintain({})
    made.send([make_event(1, "like")])
    service.run_once()
    yield made
    log.close()
    lake.close()


def damage(path: str | Path, column: str) -> None:
    """Change four bytes inside the last data page of ``column``."""
    metadata = pq.read_metadata(path)
    chunk = metadata.row_group(0).column(metadata.schema.names.index(column))
    pages_at = chunk.dictionary_page_offset or chunk.data_page_offset
    end = pages_at + chunk.total_compressed_size
    held = bytearray(Path(path).read_bytes())
    for place in range(end - 5, end - 1):
        held[place] ^= 0x5A
    Path(path).write_bytes(held)


def of(report: AuditReport, promise: int) -> list[Any]:
    return [finding for finding in report.findings if finding.promise == promise]


def test_a_sound_system_on_disk_passes(stored: Any) -> None:
    report = audit(stored.log, stored.lake)

    assert report.ok, report.lines()


@pytest.mark.parametrize("column", ["user_id", "received_at", "watch_ms", "ts", "unit_hash"])
def test_a_changed_byte_in_a_page_that_proves_no_identity_is_named_by_file_and_column(stored: Any, column: str) -> None:
    path = stored.lake.files()[1].path
    damage(path, column)

    report = audit(stored.log, stored.lake)

    (finding,) = report.findings
    assert report.exit_code == 4
    assert finding.examples == (path,)
    assert f"a data file is damaged in {column}: " in finding.what


@pytest.mark.parametrize("column", ["event_hash", "source", "event_id"])
def test_a_file_with_damaged_identities_is_called_damaged_and_not_lost(stored: Any, column: str) -> None:
    path = stored.lake.files()[1].path
    damage(path, column)

    report = audit(stored.log, stored.lake)

    (finding,) = report.findings
    assert (report.exit_code, finding.examples) == (4, (path,))
    assert any("rows of damaged files are not compared with the log" in note for note in report.notes)


def test_a_file_without_a_footer_is_named_and_the_others_are_read(stored: Any) -> None:
    first, second, *_ = stored.lake.files()
    Path(first.path).write_bytes(Path(first.path).read_bytes()[:-100])
    damage(second.path, "watch_ms")

    report = audit(stored.log, stored.lake)

    assert {finding.examples for finding in report.findings} == {(first.path,), (second.path,)}
    assert report.exit_code == 4


def test_events_that_are_lost_beside_a_damaged_file_are_still_called_lost(stored: Any) -> None:
    gone, damaged = stored.lake.files()[:2]
    stored.lake.commit(lambda _: Change(remove=[gone]))
    damage(damaged.path, "event_hash")

    report = audit(stored.log, stored.lake)

    assert report.exit_code == 2
    assert [finding.what for finding in of(report, 2)] == ["events that the log accepted are not in the lake"]
    assert of(report, 4)[0].examples == (damaged.path,)


def test_a_file_without_checksums_is_read_all_the_same(stored: Any) -> None:
    path = stored.lake.files()[0].path
    pq.write_table(pq.read_table(path), path, compression="zstd", write_page_checksum=False)

    report = audit(stored.log, stored.lake)

    assert report.ok, report.lines()


def test_a_damaged_record_of_the_log_is_named_and_the_rest_is_recounted(stored: Any) -> None:
    segment = min(stored.log.folder.glob("segment-*.sqlite"))
    stored.log.close()
    held = segment.read_bytes()
    segment.write_bytes(held.replace(b"e17", b"e71"))
    log = SqliteEventLog(stored.log.folder, clock=stored.clock)

    report = audit(log, stored.lake)

    log.close()
    assert report.exit_code == 4
    assert {finding.examples for finding in report.findings} == {(str(segment),)}
    assert any("900 rows of the lake" in line for line in report.lines())
    assert any("records of the log cannot be read" in note for note in report.notes)


def test_a_segment_that_is_no_database_is_named_and_the_rest_is_recounted(stored: Any) -> None:
    segment = sorted(stored.log.folder.glob("segment-*.sqlite"))[1]
    stored.log.close()
    segment.write_bytes(b"garbage" * 10_000)
    log = SqliteEventLog(stored.log.folder, clock=stored.clock)
    damage(stored.lake.files()[0].path, "watch_ms")

    report = audit(log, stored.lake)

    log.close()
    assert report.exit_code == 4
    assert {finding.examples for finding in report.findings} == {(str(segment),), (stored.lake.files()[0].path,)}
    assert "restore" in "".join(report.lines())
    assert any("600 identities of the log" in line for line in report.lines())


@pytest.mark.parametrize("kind", ["garbage", "missing"])
def test_a_log_that_cannot_be_opened_is_promise_4_off_and_the_lake_is_still_read(stored: Any, kind: str) -> None:
    layout = Layout.create(stored.log.folder.parent / "data")
    stored.log.close()
    stored.lake.close()
    for name in ("log", "lake"):
        (layout.root / name).rmdir() if (layout.root / name).exists() else None
        stored.log.folder.with_name(name).rename(layout.root / name)
    newest = max(layout.log.glob("segment-*.sqlite"))
    newest.unlink() if kind == "missing" else newest.write_bytes(b"garbage" * 1000)
    with Installation(layout, clock=stored.clock) as installation:
        damage(installation.lake.files()[0].path, "watch_ms")

        report = installation.audit()

    assert report.exit_code == 4
    assert [finding.promise for finding in report.findings] == [4, 4]
    assert newest.name in report.findings[0].what
    assert "data file is damaged in watch_ms" in report.findings[1].what
