"""The SQLite log against the log in memory: whatever is done to both, they answer the same."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from groundswell.errors import RetentionGap
from groundswell.log.contract import DEAD_TOPIC, EVENTS_TOPIC, INTAKE_TOPIC, Entry, EventLog
from groundswell.log.rules import SegmentRules
from groundswell.log.sqlite import SqliteEventLog
from groundswell.testing.clock import ManualClock
from groundswell.testing.log import MemoryEventLog

RULES = SegmentRules(age_s_max=100, retention_s=300, dead_letter_retention_s=900)
TOPICS = (EVENTS_TOPIC, DEAD_TOPIC, INTAKE_TOPIC)
ENTRIES = st.builds(
    lambda topic, partition, payload, counts, origin: Entry(
        topic, partition if topic == EVENTS_TOPIC else 0, payload, counts, origin
    ),
    st.sampled_from([EVENTS_TOPIC, EVENTS_TOPIC, DEAD_TOPIC, INTAKE_TOPIC]),
    st.integers(0, 2),
    st.binary(max_size=40),
    st.dictionaries(st.sampled_from(["web", "ios"]), st.integers(0, 5), max_size=2),
    st.sampled_from(["live", "import", "replay"]),
)


def answers(log: EventLog, committed: dict[int, int]) -> dict[str, Any]:
    found: dict[str, Any] = {"segments": log.segments()}
    for topic in TOPICS:
        begins, ends = log.begins(topic), log.ends(topic)
        found[topic] = (begins, ends, log.tally(topic), log.pending(topic, committed if topic == EVENTS_TOPIC else {}))
        for partition, begin in begins.items():
            records = log.read(topic, partition, begin, bytes_max=100_000)
            assert [record.offset for record in records] == list(range(begin, ends[partition]))
            found[f"{topic}/{partition}"] = records
            for bytes_max in (0, 30, 60):
                found[f"{topic}/{partition} {bytes_max}"] = log.read(topic, partition, begin, bytes_max=bytes_max)
            if begin:
                try:
                    log.read(topic, partition, begin - 1, bytes_max=1)
                except RetentionGap as error:
                    found[f"{topic}/{partition} gap"] = str(error)
    return found


class SameLogs(RuleBasedStateMachine):
    @initialize()
    def open_both(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="groundswell-test-")
        self.clock = ManualClock()
        self.committed: dict[int, int] = {}
        self.memory = MemoryEventLog(clock=self.clock, partitions=3, rules=RULES)
        self.sqlite = self.open()

    def open(self) -> SqliteEventLog:
        return SqliteEventLog(Path(self.folder.name) / "log", clock=self.clock, partitions=3, rules=RULES)

    @rule(entries=st.lists(ENTRIES, max_size=5))
    def append(self, entries: list[Entry]) -> None:
        assert self.sqlite.append(entries) == self.memory.append(entries)

    @rule(seconds=st.sampled_from([10, 60, 150, 400]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(back=st.integers(0, 3))
    def commit(self, back: int) -> None:
        self.committed = {p: max(end - back, 0) for p, end in self.memory.ends(EVENTS_TOPIC).items()}

    @rule()
    def maintain(self) -> None:
        keep = {EVENTS_TOPIC: self.committed}
        assert self.sqlite.maintain(keep) == self.memory.maintain(keep)

    @precondition(lambda self: self.memory.segments())
    @rule()
    def reopen(self) -> None:
        self.sqlite.close()
        self.sqlite = self.open()

    @invariant()
    def agree(self) -> None:
        assert answers(self.sqlite, self.committed) == answers(self.memory, self.committed)

    def teardown(self) -> None:
        assert self.sqlite.verify() == []
        self.sqlite.close()
        self.folder.cleanup()


SameLogs.TestCase.settings = settings(
    max_examples=10, stateful_step_count=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
TestSameLogs = SameLogs.TestCase
