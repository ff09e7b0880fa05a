"""Files come in whole, once, however often and however brokenly they are brought."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from groundswell.errors import InvalidDefinition, InvalidInput, Unavailable
from groundswell.ingest import steps
from groundswell.ingest.audit import audit
from groundswell.ingest.importer import FileImporter, ImportReport
from groundswell.ingest.mapping import FileMapping, parse_mapping
from groundswell.log.contract import EVENTS_TOPIC
from groundswell.model.ledger import IntakeCounts
from groundswell.store import Store
from groundswell.testing.log import MemoryEventLog

MAPPING = """\
source: shop
envelope: {user_id: {template: "customer-{row}"}, ts: seen_at}
events:
  - {type: view, properties: {watch_ms: ms}}
  - {type: purchase, when: {paid: yes}, properties: {revenue: amount}}
"""
HEADER = ["seen_at", "ms", "paid", "amount"]
AS_IS = "source: shop\nevents: as_is\n"


def row(number: int) -> list[str]:
    paid = number % 3 == 0
    return ["2026-01-04T10:00:00Z", str(number), "yes" if paid else "no", f"{number}.5" if paid else ""]


def write_csv(path: Path, rows: int, delimiter: str = ",") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(HEADER)
        writer.writerows(row(number) for number in range(1, rows + 1))
    return path


def write_ndjson(path: Path, rows: int) -> Path:
    lines = [json.dumps({"event_id": f"n{number}", "type": "view", "user_id": f"u{number}"}) for number in range(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


class Killed(BaseException):
    """The process is gone."""


class KillAt:
    def __init__(self, step: str, nth: int) -> None:
        self._step, self._left = step, nth

    def reach(self, step: str) -> None:
        if step == self._step:
            self._left -= 1
            if self._left == 0:
                raise Killed(step)


@pytest.fixture
def store(bench: Any, tmp_path: Path) -> Any:
    opened = Store.open(tmp_path / "control.db", bench.clock)
    yield opened
    opened.close()


@pytest.fixture
def bring(bench: Any, store: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ImportReport]:
    monkeypatch.setattr("groundswell.limits.import_chunk_rows", 50)
    monkeypatch.setattr("groundswell.limits.import_chunk_bytes", 4_000)

    def run(path: Path, mapping: str | FileMapping = MAPPING, **settings: Any) -> ImportReport:
        meaning = parse_mapping(mapping, file="m.yaml") if isinstance(mapping, str) else mapping
        told = settings.pop("told", None)
        importer = FileImporter(bench.log, store, bench.definitions[1], clock=bench.clock, **settings)
        return importer.run(path, meaning, told=told)

    return run


def ingest(bench: Any) -> None:
    service = bench.service()
    while service.run_once():
        continue


def test_every_row_comes_in(bench: Any, bring: Any, tmp_path: Path) -> None:
    heard: list[int] = []

    report = bring(write_csv(tmp_path / "a.csv", 120), told=lambda progress: heard.append(progress.rows))

    ingest(bench)
    assert (report.progress.rows, report.progress.accepted, report.progress.refused) == (120, 160, 0)
    assert heard == [50, 100, 120]
    assert len(bench.ids()) == 160
    assert bench.log.tally(EVENTS_TOPIC) == {("shop", "import"): 160}
    assert audit(bench.log, bench.lake).ok


def test_the_watermark_covers_all_that_was_imported(bench: Any, bring: Any, tmp_path: Path) -> None:
    bring(write_csv(tmp_path / "a.csv", 1))  # one unit, so one partition

    ingest(bench)

    assert bench.state().watermarks_us == dict.fromkeys(range(4), 1_767_520_800_000_000)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.csv.zst", "a.ndjson", "a.jsonl.gz", "a.parquet"])
def test_every_format_gives_the_same_events(bench: Any, bring: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if ".csv" in name or ".tsv" in name:
        plain = write_csv(tmp_path / "plain", 60, "\t" if ".tsv" in name else ",").read_bytes()
    else:
        objects = [dict(zip(HEADER, row(number), strict=True)) for number in range(1, 61)]
        plain = "\n".join(json.dumps(one) for one in objects).encode()
        if name == "a.parquet":
            pq.write_table(pa.Table.from_pylist(objects), path)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(plain))
    elif name.endswith(".zst"):
        path.write_bytes(zstandard.compress(plain))
    elif name != "a.parquet":
        path.write_bytes(plain)

    report = bring(path)

    ingest(bench)
    table = bench.lake.read(bench.lake.files(), ["type", "user_id", "watch_ms", "revenue"])
    assert report.progress.accepted == 80
    assert sorted(table.column("user_id").to_pylist())[:3] == ["customer-1", "customer-10", "customer-11"]
    assert sum(table.column("watch_ms").drop_null().to_pylist()) == sum(range(1, 61))
    assert sum(table.column("revenue").drop_null().to_pylist()) == sum(n + 0.5 for n in range(3, 61, 3))


def test_packing_and_naming_a_file_changes_nothing(bench: Any, bring: Any, tmp_path: Path) -> None:
    plain = write_csv(tmp_path / "a.csv", 60)
    packed = tmp_path / "other.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    bring(plain)
    ends = bench.log.ends(EVENTS_TOPIC)

    again = bring(packed)

    assert again.already
    assert bench.log.ends(EVENTS_TOPIC) == ends


def test_without_the_ledger_the_ids_still_hold(bench: Any, bring: Any, tmp_path: Path, store: Any) -> None:
    path = write_csv(tmp_path / "a.csv", 60)
    first = bring(path)
    ingest(bench)
    forgetful = Store.open(tmp_path / "other.db", bench.clock)

    FileImporter(bench.log, forgetful, bench.definitions[1], clock=bench.clock).run(path, parse_mapping(MAPPING))

    ingest(bench)
    forgetful.close()
    assert len(bench.ids()) == first.progress.accepted
    assert set(bench.ids().values()) == {1}
    assert bench.state().ledger["shop"].deduplicated == first.progress.accepted


def test_equal_rows_are_different_people(bench: Any, bring: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",".join(HEADER) + "\n" + "2026-01-04T10:00:00Z,5,no,\n" * 30)

    bring(path)

    ingest(bench)
    assert len(bench.ids()) == 30


# --- interrupted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", steps.IMPORT_STEPS)
@pytest.mark.parametrize("as_is", [False, True])
def test_an_import_that_was_killed_goes_on_where_it_stopped(
    bench: Any, bring: Any, tmp_path: Path, step: str, *, as_is: bool
) -> None:
    path = write_ndjson(tmp_path / "a.ndjson", 200) if as_is else write_csv(tmp_path / "a.csv", 200)
    mapping = AS_IS if as_is else MAPPING
    with pytest.raises(Killed):
        bring(path, mapping, faults=KillAt(step, 2 if step == steps.IMPORT_APPEND else 1))

    report = bring(path, mapping)

    ingest(bench)
    accepted = 200 if as_is else 266
    assert 0 < report.resumed_from <= 200
    assert report.progress.accepted == accepted
    assert bench.state().ledger["shop"].committed == accepted
    assert bench.state().ledger["shop"].deduplicated == 0
    assert sum(record.accepted for record in _intake(bench)) == accepted
    assert audit(bench.log, bench.lake).ok
    assert bring(path, mapping).already


def test_an_import_can_be_killed_again_and_again(bench: Any, bring: Any, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", 300)
    for _ in range(5):
        with pytest.raises(Killed):
            bring(path, faults=KillAt(steps.IMPORT_APPEND, 2))

    report = bring(path)

    ingest(bench)
    assert report.resumed_from == 250
    assert len(bench.ids()) == 400
    assert bench.state().ledger["shop"].deduplicated == 0


def test_traffic_between_two_attempts_does_not_hide_how_far_the_first_came(
    bench: Any, bring: Any, tmp_path: Path, make_event: Any
) -> None:
    path = write_csv(tmp_path / "a.csv", 200)
    bench.send([make_event(1)])
    bench.clock.advance(7200)
    with pytest.raises(Killed):
        bring(path, faults=KillAt(steps.IMPORT_APPEND, 3))
    for number in range(30):
        bench.send([make_event(number)])

    assert bring(path).resumed_from == 100


def test_a_log_that_is_away_interrupts_and_nothing_is_lost(bench: Any, bring: Any, tmp_path: Path) -> None:
    class Away:
        def __init__(self) -> None:
            self.calls = 0

        def reach(self, step: str) -> None:
            if step == "log.append":
                self.calls += 1
                if self.calls == 2:
                    raise Unavailable("the disk is full")

    bench.log = MemoryEventLog(clock=bench.clock, faults=Away())
    path = write_csv(tmp_path / "a.csv", 200)
    with pytest.raises(Unavailable):
        bring(path)

    report = bring(path)

    ingest(bench)
    assert report.resumed_from == 50
    assert len(bench.ids()) == 266


# --- broken ------------------------------------------------------------------------------------------------------


def test_broken_rows_are_refused_with_their_number_and_the_rest_comes_in(
    bench: Any, bring: Any, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "a.csv", 100)
    lines = path.read_text().splitlines()
    lines[10] = "too,few"
    lines[20] += ",too,many"
    lines[30] = "2026-01-04T10:00:00Z,lots,no,"
    lines[40] = "someday,5,no,"
    broken = "\n".join(lines).encode().replace(b"2026-01-04T10:00:00Z,50,", b"2026-01-04T10:00:00Z,caf\xe9,")
    path.write_bytes(broken)

    report = bring(path)

    ingest(bench)
    told = {fault.row: (fault.status, fault.reason) for fault in report.faults}
    assert told[10] == ("refused", "wrong_cells")
    assert told[20] == ("refused", "wrong_cells")
    assert told[30] == ("dead_lettered", "wrong_type")
    assert told[40] == ("dead_lettered", "bad_time")
    assert told[50] == ("refused", "invalid_utf8")
    assert report.reasons == {"wrong_cells": 2, "wrong_type": 1, "bad_time": 1, "invalid_utf8": 1}
    assert (report.progress.refused, report.progress.dead_lettered) == (3, 2)
    assert report.progress.rows == 100
    assert audit(bench.log, bench.lake).ok
    (counts,) = {one.received - one.refused - one.accepted for one in _intake(bench)}
    assert counts == 0


def test_broken_lines_of_events_are_told_by_line(bench: Any, bring: Any, tmp_path: Path) -> None:
    path = write_ndjson(tmp_path / "a.ndjson", 150)
    lines = path.read_text().splitlines()
    lines[0] = "{"
    lines[119] = '{"type": "view"}'
    lines[120] = '{"event_id": "x", "type": "nonsense"}'
    path.write_text("\n".join(lines))

    report = bring(path, AS_IS)

    ingest(bench)
    told = {fault.row: fault.reason for fault in report.faults}
    assert told == {1: "not_json", 120: "missing_event_id", 121: "unknown_type"}
    assert (report.progress.rows, report.progress.accepted, report.progress.refused) == (150, 148, 2)


def test_blank_lines_are_no_rows(bench: Any, bring: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text("\n\n" + '{"event_id": "a", "type": "view"}\n  \n{"event_id": "b", "type": "view"}\n\n')
    table = tmp_path / "a.csv"
    table.write_text(",".join(HEADER) + "\n\n2026-01-04T10:00:00Z,5,no,\n\n")

    assert bring(path, AS_IS).progress.rows == 2
    assert bring(table).progress.rows == 1


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_missing_column_names_the_mappings_line(bench: Any, bring: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.csv":
        path.write_text("seen_at,ms,amount\n2026-01-04T10:00:00Z,5,\n")
    else:
        pq.write_table(pa.table({"seen_at": ["x"], "ms": [1], "amount": [None]}), path)

    with pytest.raises(InvalidDefinition, match=r"m\.yaml:5: column == 'paid', must be a column of the file"):
        bring(path)

    assert bench.log.ends(EVENTS_TOPIC)[0] == 0


def test_an_ambiguous_column_is_refused(bring: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("seen_at,ms,paid,amount,ms\n")

    with pytest.raises(InvalidDefinition, match="the name of one column, not of several"):
        bring(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "must have a header"),
        ("a.csv.gz", b"no gzip", "must be whole gzip data"),
        ("a.csv.gz", gzip.compress(b"seen_at,ms,paid,amount\n" * 1000)[:-20], "must be whole gzip data"),
        ("a.csv.zst", b"no zstd", "must be whole zstd data"),
        ("a.csv.zst", zstandard.compress(b"seen_at,ms,paid,amount\n" * 1000)[:-3], "must be whole zstd data"),
        ("a.parquet", b"no parquet", "must be a readable Parquet file"),
        ("a.xlsx", b"", "must end in one of"),
        ("missing.csv", None, "must be readable"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(
    bring: Any, tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InvalidInput, match=said):
        bring(path)


def test_a_file_without_line_ends_is_refused(bring: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundswell.limits.import_line_bytes_max", 50_000)
    path = tmp_path / "a.ndjson"
    path.write_bytes(b"x" * 100_000)

    with pytest.raises(InvalidInput, match="line bytes"):
        bring(path, AS_IS)


def test_as_is_goes_with_ndjson_alone(bring: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidDefinition, match="goes with NDJSON, and the file is csv"):
        bring(write_csv(tmp_path / "a.csv", 1), AS_IS)


def test_quotes_newlines_and_naughty_text_survive(bench: Any, bring: Any, tmp_path: Path) -> None:
    texts = [
        'say "hi"',
        "two\nlines",
        "a,b",
        "ünïcødé 👩‍🚀",
        "\u202etrojan",
        "'; DROP TABLE events;--",
        " padded ",
        "\x00nul",
    ]
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["who"])
        writer.writerows([text] for text in texts)

    bring(path, "source: shop\nevents:\n  - {type: view, envelope: {user_id: who}}\n")

    ingest(bench)
    found = bench.lake.read(bench.lake.files(), ["user_id"]).column("user_id").to_pylist()
    assert sorted(found) == sorted(texts)


# --- spread over processes ---------------------------------------------------------------------------------------


def test_several_processes_give_the_same_as_one(
    bench: Any, bring: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundswell.limits.import_chunk_bytes", 200_000)  # more than a pipe holds, both ways
    path = write_ndjson(tmp_path / "a.ndjson", 30_000)

    report = bring(path, AS_IS, processes=2)

    ingest(bench)
    assert report.progress.accepted == 30_000
    assert len(bench.ids()) == 30_000


def test_ids_are_the_same_for_ever(bench: Any, bring: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("seen_at,ms,paid,amount\n2026-01-04T10:00:00Z,5,no,\n")

    bring(path)

    ingest(bench)
    assert list(bench.ids()) == ["bdaaa1455af2b49787f1ad6c9c834173-1-0"]


def _intake(bench: Any) -> list[IntakeCounts]:
    from groundswell.wire.intake import decode_intake

    found: list[IntakeCounts] = []
    for record in bench.log.read("intake", 0, 0, bytes_max=1 << 30):
        found += decode_intake(record.payload).counts.values()
    return found
