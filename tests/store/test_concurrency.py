"""Several people and processes at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from groundswell.errors import Conflict, GroundswellError, Unauthorized
from groundswell.model.clock import SystemClock
from groundswell.store import ControlView, Manifest, Store

TRIES = 12


def together(*works: Callable[[], None]) -> list[BaseException]:
    """Run ``works`` at the same time; return what they raised."""
    raised: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], None]) -> None:
        barrier.wait(10)
        try:
            work()
        except (GroundswellError, AssertionError) as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return raised


def test_of_two_who_looked_at_the_same_version_one_wins(tmp_path: Path) -> None:
    stores = [Store.open(tmp_path / "control.db", SystemClock()) for _ in range(2)]
    for attempt in range(TRIES):
        version = stores[0].version()

        def apply(index: int, attempt: int = attempt, version: int = version) -> None:
            manifest = Manifest.parse(f"events: {{event_{attempt}: {{description: by {index}}}}}")
            stores[index].apply(manifest, by=str(index), expected_version=version)

        raised = together(lambda: apply(0), lambda: apply(1))

        assert [type(error) for error in raised] == [Conflict]
        assert stores[0].version() == version + 1
        winner = stores[0].history("event", f"event_{attempt}")
        assert [one.by for one in winner] == [winner[0].definition.description.removeprefix("by ")]  # type: ignore[union-attr]
    for store in stores:
        store.close()


def test_those_who_expect_nothing_all_get_a_version_of_their_own(tmp_path: Path) -> None:
    stores = [Store.open(tmp_path / "control.db", SystemClock()) for _ in range(4)]

    def work(index: int) -> None:
        for i in range(5):
            stores[index].apply(Manifest.parse(f"events: {{e_{index}_{i}: }}"), by=str(index))

    raised = together(*(lambda index=index: work(index) for index in range(4)))

    assert raised == []
    assert stores[0].version() == 20
    assert len(stores[0].objects("event")) == 20
    versions = [entry.version for entry in stores[0].audit_trail()]
    assert versions == list(range(1, 21))
    for store in stores:
        store.close()


def test_a_rule_holds_against_another_who_changes_at_the_same_time(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "control.db", SystemClock())
    for attempt in range(TRIES):
        name = f"event_{attempt}"
        store.apply(Manifest.parse(f"events: {{{name}: }}"), by="ada")

        def use(name: str = name) -> None:
            store.apply(Manifest.parse(f"metrics: {{m_{name}: {{type: conversion, event: {name}}}}}"), by="bob")

        def delete(name: str = name) -> None:
            store.delete("event", name, by="cy")

        raised = together(use, delete)

        assert len(raised) == 1
        stands = store.definitions()
        assert (name in stands.events) == (f"m_{name}" in stands.metrics)
    store.close()


def test_threads_read_while_one_writes(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "control.db", SystemClock())
    store.apply(Manifest.parse("sources: {web: }\nproperties: {p0: int}\nevents: {e: {properties: [p0]}}"), by="ada")
    view = ControlView(store, SystemClock(), max_age_s=0.0)
    done = threading.Event()

    def write() -> None:
        for i in range(1, 30):
            text = f"properties: {{p{i}: int}}\nevents: {{e: {{properties: [p{i}]}}}}"
            store.apply(Manifest.parse(text), by="ada")
        done.set()

    def read() -> None:
        seen = 0
        while not done.is_set():
            known = view.definitions()
            assert known.version >= seen
            assert known.events["e"].properties == (f"p{known.version - 1}",)
            seen = known.version

    assert together(write, read, read) == []
    store.close()


OPEN_AND_APPLY = """
import sys
from groundswell.model.clock import SystemClock
from groundswell.store import Manifest, Store

sys.stdin.readline()
store = Store.open(sys.argv[1], SystemClock())
store.apply(Manifest.parse("events: {event_%s: }" % sys.argv[2]), by=sys.argv[2])
store.close()
"""


@pytest.mark.timeout(90)
def test_processes_may_open_a_new_store_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN_AND_APPLY, str(path), str(index)], stdin=subprocess.PIPE)
        for index in range(3)
    ]

    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.close()
    codes = [process.wait(60) for process in processes]

    assert codes == [0, 0, 0]
    store = Store.open(path, SystemClock())
    assert sorted(store.objects("event")) == ["event_0", "event_1", "event_2"]
    store.close()


def test_a_revoked_key_is_refused_in_every_process_that_looks(tmp_path: Path) -> None:
    mine, other = (Store.open(tmp_path / "control.db", SystemClock()) for _ in range(2))
    mine.apply(Manifest.parse("sources: {web: }"), by="ada")
    key = mine.create_key("web", by="ada")
    view = ControlView(other, SystemClock(), max_age_s=0.0)
    assert view.resolve_key(key) == "web"

    mine.revoke_key(key, by="ada")

    with pytest.raises(Unauthorized, match="revoked"):
        view.resolve_key(key)
    mine.close()
    other.close()
