"""The ledger of imports, and published scorecards."""

from __future__ import annotations

import sqlite3

import pytest

from groundswell.errors import Conflict, Corrupt, NotFound
from groundswell.store import Store
from groundswell.testing.clock import ManualClock

FILE, MAPPING = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def test_an_import_is_one_record_for_ever(store: Store, clock: ManualClock) -> None:
    first = store.import_started(FILE, MAPPING, "hillstrom.csv.gz", rows=64_000)
    clock.advance(10)
    finished = store.import_finished(FILE, MAPPING, rows=64_000, counts={"accepted": 63_999, "dead_lettered": 1})
    clock.advance(365 * 86_400)
    again = store.import_started(FILE, MAPPING, "renamed.csv.gz")

    assert (first.state, first.attempts, first.finished_at_us) == ("started", 1, None)
    assert (finished.state, finished.finished_at_us) == ("finished", first.started_at_us + 10_000_000)
    assert again == finished
    assert store.imports() == [finished]
    assert store.find_import(FILE, MAPPING) == finished


def test_an_import_that_was_cut_off_is_tried_again(store: Store) -> None:
    store.import_started(FILE, MAPPING, "hillstrom.csv.gz")

    again = store.import_started(FILE, MAPPING, "hillstrom.csv.gz")

    assert (again.state, again.attempts, again.rows) == ("started", 2, None)
    assert store.imports() == [again]


def test_the_same_file_with_another_mapping_is_another_import(store: Store) -> None:
    store.import_started(FILE, MAPPING, "hillstrom.csv.gz")
    store.import_started(FILE, "sha256:other", "hillstrom.csv.gz")

    assert [one.mapping_digest for one in store.imports()] == [MAPPING, "sha256:other"]
    assert store.import_finished(FILE, MAPPING, rows=0).counts == {}
    assert store.find_import("sha256:nowhere", MAPPING) is None


def test_an_import_ends_once(store: Store) -> None:
    with pytest.raises(NotFound, match="never started"):
        store.import_finished(FILE, MAPPING, rows=1)
    store.import_started(FILE, MAPPING, "a.csv")
    done = store.import_finished(FILE, MAPPING, rows=1, counts={"accepted": 1})

    assert store.import_finished(FILE, MAPPING, rows=1, counts={"accepted": 1}) == done
    with pytest.raises(Conflict, match="was finished with 1 rows"):
        store.import_finished(FILE, MAPPING, rows=2, counts={"accepted": 2})


def publish(store: Store, experiment: str = "checkout", body: bytes = b'{"n": 1}', moments: bytes = b"\x00\xff") -> int:
    return store.save_scorecard(
        experiment,
        2**63 - 1,
        definitions_version=3,
        as_of_us=17,
        body=body,
        moments=moments,
        keep_until_us=99,
        by="ada",
    )


def test_a_published_scorecard_comes_back_byte_for_byte(store: Store, clock: ManualClock) -> None:
    number = publish(store)

    card = store.scorecard(number)

    assert (card.body, card.moments) == (b'{"n": 1}', b"\x00\xff")
    assert card.info == store.scorecards("checkout")[0]
    assert (card.info.snapshot_id, card.info.definitions_version, card.info.as_of_us) == (2**63 - 1, 3, 17)
    assert (card.info.published_at_us, card.info.published_by, card.info.keep_until_us) == (clock.now_us(), "ada", 99)


def test_scorecards_are_listed_newest_first(store: Store, clock: ManualClock) -> None:
    first = publish(store)
    clock.advance(1)
    second, other = publish(store), publish(store, "banner")

    assert [info.scorecard_id for info in store.scorecards("checkout")] == [second, first]
    assert [info.scorecard_id for info in store.scorecards()] == [other, second, first]
    assert store.scorecards("nothing") == []


def test_a_scorecard_that_was_never_published_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="no published scorecard 7"):
        store.scorecard(7)


@pytest.mark.parametrize("column", ["body", "moments"])
def test_a_scorecard_that_was_tampered_with_is_told(store: Store, column: str) -> None:
    number = publish(store)
    with sqlite3.connect(store.path) as connection:
        connection.execute(f"UPDATE scorecards SET {column} = X'00'")
    connection.close()

    with pytest.raises(Corrupt, match="does not match its digest"):
        store.scorecard(number)
