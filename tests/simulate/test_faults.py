from __future__ import annotations

from pathlib import Path

import pytest

from groundswell.errors import PromiseBroken
from groundswell.ingest.committer import Committer
from groundswell.ingest.contribution import Contribution
from groundswell.lake.contract import IngestState, Lake
from groundswell.simulate.faults import simulate
from groundswell.simulate.pipeline import SeededFaults


@pytest.mark.parametrize("seed", range(1, 13))
def test_whatever_is_killed_every_event_is_counted_once(seed: int, tmp_path: Path) -> None:
    told = simulate(seed, tmp_path)

    assert told.startswith(f"seed {seed}: ")


def test_the_same_seed_tells_the_same_story(tmp_path: Path) -> None:
    first = simulate(7, tmp_path / "first")
    second = simulate(7, tmp_path / "second")

    assert first == second


def test_the_check_can_fail_a_committer_that_does_not_compare_offsets_is_caught(tmp_path: Path) -> None:
    def precedes(state: IngestState, contribution: Contribution) -> bool:
        del state, contribution
        return True  # accepts what was committed before

    def careless(lake: Lake, faults: SeededFaults) -> Committer:
        return Committer(lake, faults=faults, precedes=precedes)

    caught: list[str] = []
    for seed in range(1, 9):
        try:
            simulate(seed, tmp_path / str(seed), make_committer=careless)
        except PromiseBroken as broken:
            caught.append(str(broken))

    assert caught, "eight seeds with a broken commit protocol and nothing was noticed"
    assert all("replay it with" in message for message in caught)


def test_the_check_can_fail_losing_a_file_is_caught(tmp_path: Path) -> None:
    class Forgetful(Committer):
        def commit(self, contributions):  # type: ignore[no-untyped-def]
            stripped = [
                Contribution(one.ranges, (), one.counts, one.watermarks_us, one.definitions_version)
                for one in contributions
            ]
            return super().commit(stripped)._replace(rejected=())

    with pytest.raises(PromiseBroken, match="lost"):
        simulate(1, tmp_path, make_committer=lambda lake, faults: Forgetful(lake, faults=faults))
