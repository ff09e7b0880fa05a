"""The overview says which partitions are behind, whether or not traffic goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from groundswell.lake.contract import Change, IngestState
from groundswell.log.contract import EVENTS_TOPIC, Entry
from groundswell.testing.clock import ManualClock
from groundswell.web.ports import PartitionLag
from groundswell.wiring.installation import Installation
from groundswell.wiring.layout import Layout
from groundswell.wiring.pages import InstalledPorts


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def installation(tmp_path: Path, clock: ManualClock) -> Iterator[Installation]:
    """Ingest came to the log's end in every partition, a moment ago."""
    with Installation(Layout.create(tmp_path / "data"), clock=clock) as made:
        partitions = range(made.log.partitions(EVENTS_TOPIC))
        made.log.append([Entry(EVENTS_TOPIC, one, b"x", {"app": 1}) for one in partitions])
        state = IngestState(
            offsets=dict.fromkeys(partitions, 1), watermarks_us=dict.fromkeys(partitions, clock.now_us())
        )
        made.lake.commit(lambda _: Change(state=state))
        yield made


def partitions(installation: Installation) -> tuple[PartitionLag, ...]:
    return InstalledPorts(installation).overview().partitions


def test_events_that_wait_longer_than_a_minute_are_behind_though_every_partition_stands_still(
    installation: Installation, clock: ManualClock
) -> None:
    installation.log.append([Entry(EVENTS_TOPIC, 0, b"x", {"app": 931})])
    clock.advance(61)

    first, *others = partitions(installation)

    assert (first.events_behind, first.behind) == (931, True)
    assert not any(one.behind for one in others)


def test_events_that_have_just_come_are_not_behind(installation: Installation, clock: ManualClock) -> None:
    installation.log.append([Entry(EVENTS_TOPIC, 0, b"x", {"app": 5})])
    clock.advance(30)

    assert not any(one.behind for one in partitions(installation))


def test_a_partition_without_traffic_is_not_behind(installation: Installation, clock: ManualClock) -> None:
    clock.advance(3600)

    assert not any(one.behind for one in partitions(installation))


def test_events_of_a_partition_that_was_never_committed_are_behind(tmp_path: Path) -> None:
    with Installation(Layout.create(tmp_path / "new"), clock=ManualClock()) as made:
        made.log.append([Entry(EVENTS_TOPIC, 0, b"x", {"app": 5})])

        assert [one.behind for one in partitions(made)][:2] == [True, False]
