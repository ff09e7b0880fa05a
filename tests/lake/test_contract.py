"""What every lake promises, run over all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from groundswell import limits
from groundswell.errors import CommitConflict, Conflict, InvalidInput, SnapshotGone
from groundswell.lake.contract import Change, IngestState, Lake
from groundswell.model.clock import SystemClock
from groundswell.model.definitions import Definitions, PropertyDef
from groundswell.model.ledger import LakeCounts
from groundswell.testing.clock import ManualClock

MakeTable = Callable[..., pa.Table]
Append = Callable[..., Any]

STATE = IngestState(
    offsets={0: 7, 3: 9},
    watermarks_us={0: 1_700_000_000_000_000},
    ledger={"web": LakeCounts(committed=2, deduplicated=1)},
    definitions_version=4,
)


def ids(lake: Lake, **options: Any) -> list[str]:
    return lake.read(lake.files(), ["event_id"], **options).column(0).to_pylist()


def test_an_empty_lake_has_no_snapshot_and_no_files(lake: Lake) -> None:
    assert lake.current() is None
    assert lake.snapshots() == []
    assert lake.files() == []
    assert lake.read([], ["event_id", "ts"]).num_rows == 0
    assert (lake.expire(), lake.remove_orphans()) == (0, 0)


def test_a_file_is_invisible_until_a_commit_names_it(lake: Lake, make_table: MakeTable) -> None:
    file = lake.write(make_table([1, 2]))

    before = lake.files()
    lake.commit(lambda _: Change(add=[file]))

    assert before == []
    assert [one.path for one in lake.files()] == [file.path]
    assert ids(lake) == ["e0", "e1"]


def test_files_and_state_land_in_one_snapshot(lake: Lake, make_table: MakeTable, append: Append) -> None:
    _, snapshot = append(lake, make_table([1]), STATE)

    assert snapshot.state == STATE
    assert lake.current() == snapshot
    assert lake.snapshot(snapshot.snapshot_id) == snapshot


def test_a_snapshot_says_when_it_was_committed_by_the_lakes_clock(
    lake: Lake, make_table: MakeTable, append: Append, clock: ManualClock
) -> None:
    _, snapshot = append(lake, make_table([1]))

    assert snapshot.committed_at_us == clock.now_us()


def test_decide_sees_the_state_of_the_newest_snapshot(lake: Lake, make_table: MakeTable, append: Append) -> None:
    append(lake, make_table([1]), STATE)
    seen: list[IngestState] = []

    lake.commit(seen.append)

    assert seen[-1] == STATE


def test_a_decision_to_commit_nothing_changes_nothing(lake: Lake, make_table: MakeTable, append: Append) -> None:
    _, snapshot = append(lake, make_table([1]))

    answer = lake.commit(lambda _: None)

    assert answer is None
    current = lake.current()
    assert current is not None
    assert current.state == snapshot.state
    assert len(lake.files()) == 1


def test_what_decide_raises_comes_out_and_nothing_is_committed(lake: Lake, make_table: MakeTable) -> None:
    file = lake.write(make_table([1]))

    def decide(state: IngestState) -> Change:
        raise InvalidInput("from", 3, "must equal the committed offset")

    with pytest.raises(InvalidInput, match="committed offset"):
        lake.commit(decide)

    assert file.path not in {one.path for one in lake.files()}


def test_a_commit_without_files_moves_the_state_alone(lake: Lake, make_table: MakeTable, append: Append) -> None:
    append(lake, make_table([1]))

    snapshot = lake.commit(lambda _: Change(state=STATE))

    assert snapshot is not None
    assert snapshot.state == STATE
    assert ids(lake) == ["e0"]


def test_a_change_without_state_carries_the_state_forward(lake: Lake, make_table: MakeTable, append: Append) -> None:
    append(lake, make_table([1]), STATE)

    _, snapshot = append(lake, make_table([2], ids="f"))

    assert snapshot.state == STATE


def test_removing_and_adding_in_one_commit_replaces(lake: Lake, make_table: MakeTable, append: Append) -> None:
    old, first = append(lake, make_table([1, 2]))
    new = lake.write(make_table([1, 2], ids="f"), sorted_run=1)

    lake.commit(lambda _: Change(add=[new], remove=[old]))

    assert ids(lake) == ["f0", "f1"]
    assert lake.read(lake.files(first.snapshot_id), ["event_id"]).column(0).to_pylist() == ["e0", "e1"]


def test_removing_a_file_that_is_gone_is_a_conflict(lake: Lake, make_table: MakeTable, append: Append) -> None:
    old, _ = append(lake, make_table([1]))
    new = lake.write(make_table([1], ids="f"), sorted_run=1)
    lake.commit(lambda _: Change(add=[new], remove=[old]))
    again = lake.write(make_table([1], ids="g"), sorted_run=2)

    with pytest.raises(CommitConflict, match="no longer in the table"):
        lake.commit(lambda _: Change(add=[again], remove=[old]))

    assert ids(lake) == ["f0"]


def test_a_file_cannot_be_committed_twice(lake: Lake, make_table: MakeTable, append: Append) -> None:
    file, _ = append(lake, make_table([1]))
    other = lake.write(make_table([2], ids="f"))

    with pytest.raises(CommitConflict, match="already in the table"):
        lake.commit(lambda _: Change(add=[file]))
    with pytest.raises(CommitConflict):
        lake.commit(lambda _: Change(add=[other, other]))

    assert ids(lake) == ["e0"]


def test_a_file_says_what_it_holds(lake: Lake, make_table: MakeTable) -> None:
    file = lake.write(make_table([5, None, -(2**63), 2**63 - 1]), sorted_run=3)
    lake.commit(lambda _: Change(add=[file]))

    (found,) = lake.files()

    assert (found.rows, found.sorted_run) == (4, 3)
    assert (found.unit_hash_min, found.unit_hash_max) == (-(2**63), 2**63 - 1)
    assert (found.received_min_us, found.received_max_us) == (1_767_571_200_000_000, 1_767_571_200_000_003)
    assert found[:-1] == file[:-1]


def test_a_file_whose_rows_all_lack_a_unit_says_so(lake: Lake, make_table: MakeTable, append: Append) -> None:
    append(lake, make_table([None, None]))

    (found,) = lake.files()

    assert (found.unit_hash_min, found.unit_hash_max) == (None, None)
    assert lake.read([found], ["unit_hash"]).column(0).to_pylist() == [None, None]


def test_files_are_listed_run_by_run(lake: Lake, make_table: MakeTable) -> None:
    written = [
        lake.write(make_table(units, ids=ids), sorted_run=run)
        for run, units, ids in ((2, [9], "a"), (0, [5], "b"), (1, [7], "c"), (1, [3], "d"), (1, [None], "e"))
    ]
    lake.commit(lambda _: Change(add=written))

    assert ids(lake) == ["b0", "e0", "d0", "c0", "a0"]


def test_a_range_of_units_reads_only_its_rows(lake: Lake, make_table: MakeTable, append: Append) -> None:
    append(lake, make_table([10, 20, 30, None]))
    append(lake, make_table([None, None], ids="n"))

    assert ids(lake, unit_hash=(20, 30)) == ["e1", "e2"]
    assert ids(lake, unit_hash=(11, 19)) == []
    assert ids(lake, unit_hash=(-(2**63), 2**63 - 1)) == ["e0", "e1", "e2"]


def test_columns_that_a_file_lacks_are_null(
    lake: Lake, make_table: MakeTable, append: Append, definitions: Definitions
) -> None:
    append(lake, make_table([1]))
    lake.ensure_columns(definitions)
    append(lake, make_table([2], ids="f", revenue=[1.5]))

    table = lake.read(lake.files(), ["revenue", "released", "event_id"])

    assert sorted(zip(*[column.to_pylist() for column in table.columns], strict=True), key=str) == [
        (1.5, None, "f0"),
        (None, None, "e0"),
    ]
    assert table.schema.field("released").type == pa.timestamp("us", tz="UTC")


def test_text_comes_coded_where_asked_for_and_says_the_same(lake: Lake, make_table: MakeTable, append: Append) -> None:
    append(lake, make_table([1, 2, None], type=["view", None, "like"]))
    append(lake, make_table([5], ids="f", type=["share"]))
    columns = ["type", "unit_hash", "country"]

    plain = lake.read(lake.files(), columns, unit_hash=(2, 9))
    coded = lake.read(lake.files(), columns, unit_hash=(2, 9), coded=["type", "unit_hash", "country"])

    assert [pa.types.is_dictionary(field.type) for field in coded.schema] == [True, False, True]
    assert coded.to_pylist() == plain.to_pylist()


def test_columns_are_listed_and_those_of_files_too(lake: Lake, make_table: MakeTable, definitions: Definitions) -> None:
    lake.ensure_columns(definitions)
    file = lake.write(make_table([1, None], revenue=[None, 2.0], title=[None, None]))

    assert {"event_id", "experiment", "variant", "revenue", "title"} <= set(lake.columns().names)
    assert lake.columns([file]).names == [
        name for name in lake.columns().names if name in {*make_table([1]).column_names, "revenue"}
    ]


def test_ensuring_columns_again_changes_nothing(lake: Lake, definitions: Definitions) -> None:
    lake.ensure_columns(definitions)
    before = lake.columns()

    lake.ensure_columns(definitions)

    assert lake.columns() == before


def test_a_property_that_changes_its_type_is_a_conflict(lake: Lake, definitions: Definitions) -> None:
    lake.ensure_columns(definitions)

    with pytest.raises(Conflict, match="revenue is int64, but its column in the lake is double"):
        lake.ensure_columns(Definitions(version=2, properties={"revenue": PropertyDef(type="int")}))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"unit_hash": pa.array([1], pa.int64())}, "received_at"),
        ({"received_at": pa.array([None], pa.timestamp("us", tz="UTC"))}, "received_at"),
        ({"surprise": pa.array([1])}, "surprise"),
        ({"ts": pa.array(["yesterday"])}, "type of column ts"),
        ({"received_at": pa.array([], pa.timestamp("us", tz="UTC"))}, "rows == 0"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(lake: Lake, columns: dict[str, pa.Array], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        lake.write(pa.table(columns))


def test_an_unknown_column_cannot_be_read(lake: Lake) -> None:
    with pytest.raises(InvalidInput, match="surprise"):
        lake.read([], ["surprise"])


def test_text_comes_out_as_it_went_in(lake: Lake, make_table: MakeTable, append: Append) -> None:
    naughty = [
        "",
        " ",
        "\u0000",
        "nul\u0000within",
        "\U0001f469\u200d\U0001f469",
        "\u202etest",
        "﷽",
        "'; DROP TABLE",
        "\ufeff",
    ]

    append(lake, make_table(range(len(naughty)), extra=naughty))

    assert lake.read(lake.files(), ["extra"]).column(0).to_pylist() == naughty


def test_snapshots_are_listed_oldest_first(lake: Lake, make_table: MakeTable, append: Append) -> None:
    _, first = append(lake, make_table([1]))
    _, second = append(lake, make_table([2], ids="f"))

    listed = [one.snapshot_id for one in lake.snapshots()]

    assert listed.index(first.snapshot_id) < listed.index(second.snapshot_id)
    assert listed[-1] == second.snapshot_id


def test_an_unknown_snapshot_is_gone(lake: Lake, make_table: MakeTable, append: Append) -> None:
    append(lake, make_table([1]))

    with pytest.raises(SnapshotGone, match="4711"):
        lake.snapshot(4711)
    with pytest.raises(SnapshotGone, match="4711"):
        lake.files(4711)
    with pytest.raises(SnapshotGone, match="4711"):
        lake.tag("mine", 4711, keep_s=60)


def test_the_current_snapshot_never_expires(
    lake: Lake, make_table: MakeTable, append: Append, clock: ManualClock
) -> None:
    _, snapshot = append(lake, make_table([1]))
    clock.advance(365 * 86_400)

    lake.expire()

    assert lake.current() == snapshot
    assert ids(lake) == ["e0"]


def test_snapshots_that_were_replaced_long_ago_expire(
    lake: Lake, make_table: MakeTable, append: Append, clock: ManualClock
) -> None:
    _, first = append(lake, make_table([1]))
    clock.advance(limits.snapshot_age_s_min)
    append(lake, make_table([2], ids="f"))
    clock.advance(limits.snapshot_age_s_min)
    kept = lake.expire()
    still_there = lake.snapshot(first.snapshot_id)
    clock.advance(1)

    gone = lake.expire()

    assert still_there == first
    assert gone > kept
    with pytest.raises(SnapshotGone):
        lake.snapshot(first.snapshot_id)
    assert sorted(ids(lake)) == ["e0", "f0"]


def test_files_of_an_expired_snapshot_are_deleted_when_no_reader_can_need_them(
    lake: Lake, make_table: MakeTable, append: Append, clock: ManualClock, few_snapshots: int
) -> None:
    old, _ = append(lake, make_table([1]))
    new = lake.write(make_table([1], ids="f"), sorted_run=1)
    lake.commit(lambda _: Change(add=[new], remove=[old]))
    for _ in range(few_snapshots):
        lake.commit(lambda _: Change(state=STATE))
    lake.expire()
    while_young = lake.read([old], ["event_id"]).num_rows
    clock.advance(limits.snapshot_age_s_min + 1)

    lake.expire()

    assert while_young == 1
    with pytest.raises(SnapshotGone, match="deleted"):
        lake.read([old], ["event_id"])
    assert ids(lake) == ["f0"]


def test_a_tagged_snapshot_survives_with_its_files_until_its_time(
    lake: Lake, make_table: MakeTable, append: Append, clock: ManualClock
) -> None:
    old, first = append(lake, make_table([1]))
    lake.tag("scorecard/7", first.snapshot_id, keep_s=30 * 86_400)
    new = lake.write(make_table([1], ids="f"), sorted_run=1)
    lake.commit(lambda _: Change(add=[new], remove=[old]))
    clock.advance(30 * 86_400 - 1)
    lake.expire()
    kept = lake.read(lake.files(first.snapshot_id), ["event_id"]).column(0).to_pylist()
    clock.advance(1)

    lake.expire()

    assert kept == ["e0"]
    with pytest.raises(SnapshotGone):
        lake.files(first.snapshot_id)


def test_tagging_again_keeps_longer(lake: Lake, make_table: MakeTable, append: Append, clock: ManualClock) -> None:
    _, first = append(lake, make_table([1]))
    append(lake, make_table([2], ids="f"))
    lake.tag("mine", first.snapshot_id, keep_s=7_200)
    lake.tag("mine", first.snapshot_id, keep_s=14_400)
    clock.advance(14_000)

    lake.expire()

    assert lake.snapshot(first.snapshot_id) == first


@pytest.mark.parametrize(("name", "keep_s"), [("", 60), ("main", 60), ("x" * 257, 60), ("mine", 0), ("mine", -1)])
def test_a_tag_has_a_name_and_a_time(lake: Lake, make_table: MakeTable, append: Append, name: str, keep_s: int) -> None:
    _, snapshot = append(lake, make_table([1]))

    with pytest.raises(InvalidInput):
        lake.tag(name, snapshot.snapshot_id, keep_s=keep_s)


def test_the_oldest_snapshots_expire_where_there_are_too_many(
    lake: Lake, make_table: MakeTable, append: Append, few_snapshots: int
) -> None:
    _, first = append(lake, make_table([1]))
    lake.tag("mine", first.snapshot_id, keep_s=60)
    for _ in range(few_snapshots * 2):
        lake.commit(lambda _: Change(state=STATE))
    newest = [one.snapshot_id for one in lake.snapshots()][1 - few_snapshots :]

    lake.expire()

    assert [one.snapshot_id for one in lake.snapshots()] == [first.snapshot_id, *newest]


def test_a_commit_expires_where_nobody_else_does(
    lake: Lake, few_snapshots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "live_snapshots_max", few_snapshots + 2)

    lives: list[int] = []
    for _ in range(few_snapshots * 3):
        lake.commit(lambda _: Change(state=STATE))
        lives.append(len(lake.snapshots()))

    assert max(lives) <= few_snapshots + 2


def test_a_file_that_nobody_names_stays_while_its_commit_may_be_under_way(
    lake: Lake, make_table: MakeTable, clock: ManualClock
) -> None:
    clock.set_us(SystemClock().now_us())
    orphan = lake.write(make_table([1]))
    clock.advance(limits.orphan_age_s_min - 60)

    removed = lake.remove_orphans()

    assert removed == 0
    assert lake.read([orphan], ["event_id"]).num_rows == 1


def test_a_file_that_nobody_has_named_for_long_is_deleted(
    lake: Lake, make_table: MakeTable, append: Append, clock: ManualClock
) -> None:
    clock.set_us(SystemClock().now_us())
    append(lake, make_table([1]))
    orphan = lake.write(make_table([2], ids="f"))
    clock.advance(limits.orphan_age_s_min + 60)

    removed = lake.remove_orphans()

    assert removed == 1
    assert ids(lake) == ["e0"]
    with pytest.raises(SnapshotGone):
        lake.read([orphan], ["event_id"])


def test_threads_that_commit_at_once_all_land(lake: Lake, make_table: MakeTable) -> None:
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for place in range(3):
                file = lake.write(make_table([1], ids=f"{name}{place}-"))
                lake.commit(
                    lambda state, file=file: Change(
                        add=[file], state=IngestState(offsets={0: state.offsets.get(0, 0) + 1})
                    )
                )
        except Exception as error:  # noqa: BLE001 (shown below)
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert len(set(ids(lake))) == len(ids(lake)) == 12
    current = lake.current()
    assert current is not None
    assert current.state.offsets == {0: 12}


def test_the_location_names_what_other_readers_need(lake: Lake) -> None:
    assert {"catalog", "namespace", "table", "warehouse"} <= lake.location().keys()
