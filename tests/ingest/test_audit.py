"""The audit proves the promises, and fails where one is broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from groundswell.errors import PromiseBroken
from groundswell.ingest.audit import AuditReport, audit
from groundswell.ingest.committer import Committer
from groundswell.ingest.dead_letters import DeadLetters
from groundswell.lake.contract import Change, IngestState
from groundswell.log.contract import DEAD_TOPIC, EVENTS_TOPIC, INTAKE_TOPIC, Entry
from groundswell.model.ledger import IntakeCounts, LakeCounts
from groundswell.wire.intake import IntakeRecord, encode_intake, intake_counts
from groundswell.wire.record import NO_DEAD, RecordContent, encode_record

Make = Callable[..., dict[str, Any]]


def fill(bench: Any, make: Make) -> None:
    """Events of two sources with retries, conflicts, dead letters and refusals, all ingested."""
    bench.send([make(number) for number in range(60)])
    bench.send([make(number) for number in range(50, 80)], source="web")
    bench.send([make(3), make(4, platform="ios"), make(200, "like"), b"{", b"[]"])
    service = bench.service(workers=2)
    service.run_once()
    bench.send([make(number) for number in range(70, 75)], source="web")
    service.run_once()


def alter(bench: Any, change: Callable[[IngestState], Change]) -> None:
    bench.lake.commit(change)


def off(report: AuditReport) -> set[tuple[int, str]]:
    return {(finding.promise, finding.what) for finding in report.findings}


def test_a_sound_system_passes(bench: Any, make_event: Make) -> None:
    fill(bench, make_event)

    report = audit(bench.log, bench.lake)

    assert report.findings == ()
    assert report.exit_code == 0
    assert [check.ok for check in report.promises] == [True, True, True]
    assert report.sources["app"] == LakeCounts(committed=60, dead_lettered=1, deduplicated=2, conflicts=1)
    assert report.sources["web"] == LakeCounts(committed=30, deduplicated=5)
    report.require()
    assert any("promise 2, exactly once: ok" in line for line in report.lines())
    assert msgspec.json.encode(report)


def test_an_empty_system_passes(bench: Any) -> None:
    assert audit(bench.log, bench.lake).exit_code == 0


def test_events_in_flight_are_no_loss(bench: Any, make_event: Make) -> None:
    fill(bench, make_event)
    bench.send([make_event(number) for number in range(900, 910)])

    report = audit(bench.log, bench.lake)

    assert report.ok
    assert any("in flight 10" in line for line in report.lines())


def test_replayed_letters_balance(bench: Any, make_event: Make) -> None:
    fill(bench, make_event)
    known = bench.definitions[1]
    today = msgspec.structs.replace(known, events={**known.events, "like": known.events["view"]}, version=2)
    bench.definitions[2] = today
    DeadLetters(bench.log, bench.lake).replay(today)
    bench.service().run_once()

    report = audit(bench.log, bench.lake)

    assert report.ok, report.lines()
    assert report.sources["app"].committed == 61


def test_a_commit_that_does_not_compare_offsets_is_caught(bench: Any, make_event: Make) -> None:
    bench.send([make_event(number) for number in range(40)])
    one, two = bench.worker().step(), bench.worker().step()  # both from offset 0

    Committer(bench.lake, precedes=lambda _state, _one: True).commit([one, two])

    report = audit(bench.log, bench.lake)
    assert report.exit_code == 2
    assert (2, "events are in the lake more than once") in off(report)
    with pytest.raises(PromiseBroken, match="app/e"):
        report.require()


def test_a_lost_event_is_named(bench: Any, make_event: Make) -> None:
    bench.send([make_event(number) for number in range(40)])
    contribution = bench.worker().step()
    rows = bench.lake.read(contribution.files, bench.lake.columns(contribution.files).names)
    short = bench.lake.write(rows.slice(1))
    lost = rows.column("event_id")[0].as_py()

    Committer(bench.lake).commit([_with_files(contribution, short)])

    report = audit(bench.log, bench.lake)
    assert report.exit_code == 2
    (finding,) = [one for one in report.findings if one.promise == 2]
    assert (finding.what, finding.examples) == ("events that the log accepted are not in the lake", (f"app/{lost}",))
    assert (3, "rows in the lake") in off(report)


def test_a_foreign_row_is_named(bench: Any, make_event: Make) -> None:
    fill(bench, make_event)
    rows = bench.lake.read(bench.lake.files()[:1], bench.lake.columns().names).slice(0, 1)
    foreign = rows.set_column(rows.column_names.index("event_hash"), "event_hash", pa.array([42]))
    file = bench.lake.write(foreign)

    alter(bench, lambda _: Change(add=[file]))

    report = audit(bench.log, bench.lake)
    assert report.exit_code == 2
    assert (2, "events are in the lake and not in the log") in off(report)


def test_a_ledger_that_is_off_by_one_is_caught(bench: Any, make_event: Make) -> None:
    fill(bench, make_event)

    def shift(state: IngestState) -> Change:
        ledger = dict(state.ledger)
        ledger["app"] = ledger["app"] + LakeCounts(deduplicated=1)
        return Change(state=msgspec.structs.replace(state, ledger=ledger))

    alter(bench, shift)

    report = audit(bench.log, bench.lake)
    assert report.exit_code == 3
    assert {finding.source for finding in report.findings} == {"app"}
    assert (3, "accepted + replayed = settled + in flight") in off(report)


def test_offsets_that_run_ahead_are_caught(bench: Any, make_event: Make) -> None:
    fill(bench, make_event)
    bench.send([make_event(number) for number in range(500, 540)])
    ends = bench.log.ends(EVENTS_TOPIC)

    alter(bench, lambda state: Change(state=msgspec.structs.replace(state, offsets=ends)))

    report = audit(bench.log, bench.lake)
    assert report.exit_code == 2
    assert (2, "events that the log accepted are not in the lake") in off(report)
    assert (3, "events below the committed offsets") in off(report)


def test_an_intake_that_forgot_a_refusal_is_caught(bench: Any, make_event: Make) -> None:
    fill(bench, make_event)
    record = IntakeRecord(counts={"app": IntakeCounts(received=5, refused=4, accepted=0)})
    bench.log.append([Entry(INTAKE_TOPIC, 0, encode_intake(record), intake_counts(record))])

    report = audit(bench.log, bench.lake)

    assert report.exit_code == 3
    assert off(report) == {(3, "received = refused + accepted"), (4, "refused events with a reason")}


def test_an_event_that_entered_without_being_received_is_caught(bench: Any, make_event: Make) -> None:
    fill(bench, make_event)
    records = bench.log.read(EVENTS_TOPIC, 0, 0, bytes_max=1)
    bench.log.append([Entry(EVENTS_TOPIC, 0, records[0].payload, records[0].counts)])

    report = audit(bench.log, bench.lake)

    assert report.exit_code == 3
    assert (3, "accepted by intake = entered into the log") in off(report)


def test_a_record_that_counts_wrong_is_caught(bench: Any, make_event: Make, records: Any) -> None:
    fill(bench, make_event)
    batch = next(content.batch for content in records() if content.batch.num_rows > 2)
    payload = encode_record(RecordContent(batch.slice(0, 2), NO_DEAD, 1))
    bench.log.append([Entry(EVENTS_TOPIC, 1, payload, {"app": 5})])

    report = audit(bench.log, bench.lake)

    assert (3, "a record of the log holds other events than it says") in off(report)


def test_a_dead_letter_that_vanished_is_caught(bench: Any, make_event: Make) -> None:
    bench.send([make_event(1, "like")])
    contribution = bench.worker(partitions=(0, 1, 2, 3)).step()
    bench.log._segments[-1].records[(DEAD_TOPIC, 0)].clear()
    bench.log._ends[(DEAD_TOPIC, 0)] = 0
    Committer(bench.lake).commit([contribution])

    report = audit(bench.log, bench.lake)

    assert report.exit_code == 4
    (finding,) = report.findings
    assert (finding.what, finding.expected, finding.found) == ("dead letters in their topic", 1, 0)


def test_a_file_that_is_gone_is_named(bench: Any, make_event: Make) -> None:
    fill(bench, make_event)
    path = bench.lake.files()[0].path
    del bench.lake._tables[path]

    report = audit(bench.log, bench.lake)

    assert any(finding.promise == 4 and finding.examples == (path,) for finding in report.findings)


def test_a_repeat_after_the_window_is_no_fault(bench: Any, make_event: Make) -> None:
    bench.send([make_event(number) for number in range(10)])
    bench.service().run_once()
    bench.clock.advance(8 * 24 * 3600)
    bench.send([make_event(3)])
    forgetful = bench.service()
    bench.lake.commit(lambda state: Change(state=state))
    for worker in forgetful._workers:
        worker.reset()
        worker._fingerprints = {partition: type(one)() for partition, one in worker._fingerprints.items()}
    forgetful.run_once()

    report = audit(bench.log, bench.lake)

    assert bench.ids()["e3"] == 2
    assert report.ok, report.lines()
    assert any("1 rows repeat" in line for line in report.lines())


def _with_files(contribution: Any, *files: Any) -> Any:
    import dataclasses

    return dataclasses.replace(contribution, files=files)
