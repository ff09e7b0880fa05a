"""The audit: what log and lake hold, recounted from the records, against what is promised.

    promise 2, exactly once     every identity that the log accepted is in the lake once, and nothing else is
    promise 3, conservation     both ledgers add up for every source, and agree with a recount of the records
    promise 4, nothing vanishes every file, dead letter, refusal and log record that is counted is there

Everything is judged as of one snapshot and one moment of the log, so it may run beside traffic. What the log dropped
by age cannot be recounted; its sealed tallies stand for it, and the report says from where on it looked itself.
What is damaged is named under promise 4 and the rest is recounted: what a damaged file or record may hold is neither
called lost nor held against the numbers.

Exit codes: 0 all hold; 2, 3 or 4 the first promise that does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

from groundswell.errors import Corrupt, GroundswellError, PromiseBroken, Unavailable
from groundswell.ingest.audit_counts import DeadCount, IntakeCount, LogCount, count_dead, count_intake, count_log
from groundswell.ingest.audit_damage import LogDamage
from groundswell.ingest.audit_identities import IdentityFindings, compare_identities
from groundswell.lake.contract import IngestState, Lake, LakeFile, Snapshot
from groundswell.log.contract import DEAD_TOPIC, EVENTS_TOPIC, INTAKE_TOPIC, EventLog, Origin
from groundswell.model.ledger import IntakeCounts, LakeCounts
from groundswell.wire.intake import tallied_intake

__all__ = ["AuditReport", "Finding", "PromiseCheck", "audit", "audit_lake"]

Promise = Literal[2, 3, 4]
_TITLES: Final[dict[Promise, str]] = {2: "exactly once", 3: "conservation", 4: "nothing vanishes"}
_IDENTITY: Final = frozenset({"source", "event_id", "event_hash"})  # columns without which rows cannot be compared
_ATTEMPTS_MAX: Final = 50  # traffic moves the log while its tallies are read; a quiet millisecond is enough


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that does not add up."""

    promise: Promise
    what: str
    source: str | None = None
    expected: int | None = None
    found: int | None = None
    examples: tuple[str, ...] = ()

    def line(self) -> str:
        """Return it in words."""
        where = f"{self.source}: " if self.source else ""
        numbers = f", expected {self.expected:,}, found {self.found:,}" if self.expected is not None else ""
        shown = f" ({', '.join(self.examples)})" if self.examples else ""
        return f"{where}{self.what}{numbers}{shown}"


class PromiseCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one promise holds."""

    promise: Promise
    title: str
    ok: bool
    checked: tuple[str, ...]  # what was looked at, in words


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the audit saw."""

    snapshot_id: int | None
    promises: tuple[PromiseCheck, ...]
    findings: tuple[Finding, ...]
    sources: Mapping[str, LakeCounts]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def exit_code(self) -> int:
        """0, or the first promise that is off."""
        return min((finding.promise for finding in self.findings), default=0)

    def lines(self) -> list[str]:
        """Return the report in words."""
        told: list[str] = []
        for check in self.promises:
            told.append(f"promise {check.promise}, {check.title}: {'ok' if check.ok else 'OFF'}")
            told += [f"  {one}" for one in check.checked]
            told += [f"  OFF: {one.line()}" for one in self.findings if one.promise == check.promise]
        return told + [f"note: {note}" for note in self.notes]

    def require(self) -> None:
        """Raise ``PromiseBroken`` where a promise is off."""
        if self.findings:
            raise PromiseBroken("; ".join(finding.line() for finding in self.findings))


@runtime_checkable
class _Verifiable(Protocol):
    """A log that can check its own files."""

    def verify(self) -> Sequence[_LogFinding]: ...


class _LogFinding(Protocol):
    @property
    def file(self) -> str: ...

    @property
    def what(self) -> str: ...


@runtime_checkable
class _Checksummed(Protocol):
    """A lake that can check every byte of a file."""

    def damaged_columns(self, file: LakeFile) -> Mapping[str, str]: ...


class _Moment(msgspec.Struct, frozen=True):
    """One moment of the log beside one snapshot that is not newer."""

    snapshot: Snapshot | None
    ends: Mapping[str, Mapping[int, int]]
    tally: Mapping[tuple[str, Origin], int]
    intake: Mapping[str, IntakeCounts]

    @property
    def state(self) -> IngestState:
        return self.snapshot.state if self.snapshot else IngestState()


class _Findings:
    """Collects findings and what was checked."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.checked: dict[Promise, list[str]] = {2: [], 3: [], 4: []}
        self.notes: list[str] = []

    def off(self, promise: Promise, what: str, **fields: object) -> None:
        self.found.append(msgspec.convert({"promise": promise, "what": what, **fields}, Finding))

    def equal(self, promise: Promise, what: str, source: str | None, expected: int, found: int) -> None:
        """Note a finding where two counts differ."""
        if expected != found:
            self.off(promise, what, source=source, expected=expected, found=found)


def audit(log: EventLog, lake: Lake) -> AuditReport:
    """Recount log and lake and say which promises hold.

    Raises:
        Unavailable: the log never stood still for a millisecond, or log or lake are away.
    """
    try:
        moment, damage = _moment(log, lake), LogDamage(log)
    except Corrupt as error:
        return audit_lake(lake, error)
    findings = _Findings()
    files = lake.files(moment.snapshot.snapshot_id) if moment.snapshot else []
    held = _check_files(findings, lake, files)
    counted = count_log(log, moment.state.offsets, moment.ends[EVENTS_TOPIC], damage)
    intake = count_intake(log, moment.ends[INTAKE_TOPIC], damage)
    dead = count_dead(log, moment.state.offsets, moment.ends[DEAD_TOPIC], damage)
    _check_log_files(findings, log, damage)
    _check_rows(findings, moment, held)
    if damage:
        findings.notes.append("records of the log cannot be read, so its counts are not compared")
    else:
        _check_conservation(findings, moment, counted)
        _check_intake(findings, moment, intake)
        _check_dead(findings, moment, dead)
    seen = compare_identities(log, lake, held.readable, moment.state.offsets, damage)
    _check_identities(findings, seen, held)
    return _report(findings, moment.snapshot)


def audit_lake(lake: Lake, error: GroundswellError) -> AuditReport:
    """Report that the log cannot be read at all, and check what can be checked without it: the lake's files."""
    findings = _Findings()
    findings.off(4, f"the log cannot be read: {error}")
    findings.notes.append("without the log nothing is compared with it; restore it from a backup, then audit again")
    snapshot = lake.current()
    _check_files(findings, lake, lake.files(snapshot.snapshot_id) if snapshot else [])
    return _report(findings, snapshot)


def _report(findings: _Findings, snapshot: Snapshot | None) -> AuditReport:
    return AuditReport(
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        promises=tuple(
            PromiseCheck(
                promise=promise,
                title=title,
                ok=all(finding.promise != promise for finding in findings.found),
                checked=tuple(findings.checked[promise]),
            )
            for promise, title in _TITLES.items()
        ),
        findings=tuple(findings.found),
        sources=dict(snapshot.state.ledger) if snapshot else {},
        notes=tuple(findings.notes),
    )


def _moment(log: EventLog, lake: Lake) -> _Moment:
    """Read tallies and ends between which nothing was appended."""
    for _ in range(_ATTEMPTS_MAX):
        snapshot = lake.current()
        ends = _ends(log)
        tally = log.tally(EVENTS_TOPIC)
        intake: Counter[str] = Counter()
        for (name, _origin), count in log.tally(INTAKE_TOPIC).items():
            intake[name] += count
        if _ends(log) == ends:
            return _Moment(snapshot, ends, tally, tallied_intake(intake))
    raise Unavailable("the log is appended to too fast to be audited; try again at a quieter moment")


def _ends(log: EventLog) -> dict[str, dict[int, int]]:
    return {topic: log.ends(topic) for topic in (EVENTS_TOPIC, INTAKE_TOPIC, DEAD_TOPIC)}


# --- promise 4 ---------------------------------------------------------------------------------------------------


class _Held(NamedTuple):
    """What the lake's files hold."""

    readable: Sequence[LakeFile]  # files whose identities can be read
    rows: Mapping[str, int]  # of those, by source
    unreadable: int  # rows that the other files say they have


def _check_files(findings: _Findings, lake: Lake, files: Sequence[LakeFile]) -> _Held:
    """Read every file that the snapshot names, all of its columns."""
    readable: list[LakeFile] = []
    rows: Counter[str] = Counter()
    for file in files:
        try:
            damaged = lake.damaged_columns(file) if isinstance(lake, _Checksummed) else {}
            if damaged:
                first = next(iter(damaged.values()))
                findings.off(4, f"a data file is damaged in {', '.join(damaged)}: {first}", examples=(file.path,))
            if not _IDENTITY.isdisjoint(damaged):
                continue
            counts = lake.read([file], ["source"]).column("source").value_counts()
        except GroundswellError as error:
            findings.off(4, f"a data file cannot be read: {error}", examples=(file.path,))
            continue
        by_source = dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
        if (found := sum(by_source.values())) != file.rows:
            findings.off(
                4, "a data file has other rows than it says", expected=file.rows, found=found, examples=(file.path,)
            )
        rows.update(by_source)
        readable.append(file)
    findings.checked[4].append(f"{len(files):,} data files, {rows.total():,} rows, every column")
    unreadable = sum(file.rows for file in files) - sum(file.rows for file in readable)
    if unreadable:
        findings.notes.append(f"{unreadable:,} rows of damaged files are not compared with the log")
    return _Held(readable, rows, unreadable)


def _check_log_files(findings: _Findings, log: EventLog, damage: LogDamage) -> None:
    """Let the log check its own files; what of it could not be read is told where it does not tell itself."""
    try:
        found = log.verify() if isinstance(log, _Verifiable) else ()
    except Corrupt as error:
        findings.off(4, f"the log's files cannot be checked: {error}")
        return
    if damage and not found:
        findings.off(4, "records of the log cannot be read", examples=tuple(damage.messages()))
    if not isinstance(log, _Verifiable):
        return
    for one in found:
        findings.off(4, f"the log's files do not add up: {one.what}", examples=(one.file,))
    findings.checked[4].append("checksums, tallies and the chain of digests of the log")


def _check_dead(findings: _Findings, moment: _Moment, counted: DeadCount) -> None:
    """Hold the dead letters in their topic against those that the ledger counts."""
    ledger = {source: counts.dead_lettered for source, counts in moment.state.ledger.items()}
    findings.checked[4].append(f"{sum(counted.by_source.values()):,} dead letters")
    if counted.begins > 0:
        findings.notes.append("dead letters past their retention were dropped, so their number is not compared")
        return
    for source in sorted(ledger.keys() | counted.by_source.keys()):
        found = counted.by_source.get(source, 0)
        findings.equal(4, "dead letters in their topic", source, ledger.get(source, 0), found)


def _check_intake(findings: _Findings, moment: _Moment, counted: IntakeCount) -> None:
    """Hold the intake ledger against its records and against what the log accepted."""
    for source, counts in sorted(moment.intake.items()):
        findings.equal(3, "received = refused + accepted", source, counts.received, counts.refused + counts.accepted)
    for source, refused, reasons in counted.unexplained:
        findings.equal(4, "refused events with a reason", source, refused, reasons)
    if counted.begins == 0:
        for source in sorted(moment.intake.keys() | counted.by_source.keys()):
            tallied = moment.intake.get(source, IntakeCounts())
            recounted = counted.by_source.get(source, IntakeCounts())
            for name in ("received", "refused", "accepted"):
                findings.equal(3, f"{name}, recounted", source, getattr(tallied, name), getattr(recounted, name))
    accepted: Counter[str] = Counter()
    for (source, origin), events in moment.tally.items():
        if origin != "replay":
            accepted[source] += events
    for source in sorted(accepted.keys() | moment.intake.keys()):
        told = moment.intake.get(source, IntakeCounts()).accepted
        findings.equal(3, "accepted by intake = entered into the log", source, told, accepted[source])
    total = sum((counts for counts in moment.intake.values()), IntakeCounts())
    findings.checked[3].append(f"received {total.received:,} = refused {total.refused:,} + accepted {total.accepted:,}")


# --- promise 3 ---------------------------------------------------------------------------------------------------


def _check_rows(findings: _Findings, moment: _Moment, held: _Held) -> None:
    """Hold the lake's ledger against the lake's rows; rows that damaged files have may be of any source."""
    ledger = {source: counts.committed for source, counts in moment.state.ledger.items()}
    if held.unreadable and sum(ledger.values()) == sum(held.rows.values()) + held.unreadable:
        return
    for source in sorted(ledger.keys() | held.rows.keys()):
        findings.equal(3, "rows in the lake", source, ledger.get(source, 0), held.rows.get(source, 0))


def _check_conservation(findings: _Findings, moment: _Moment, counted: LogCount) -> None:
    """Hold the lake's ledger against the log's records."""
    entered: Counter[str] = Counter()
    for (source, _), events in moment.tally.items():
        entered[source] += events
    ledger = moment.state.ledger
    for source in sorted(entered.keys() | ledger.keys() | counted.settled.keys()):
        counts = ledger.get(source, LakeCounts())
        in_flight = counted.in_flight.get(source, 0)
        findings.equal(
            3, "accepted + replayed = settled + in flight", source, entered[source], counts.settled + in_flight
        )
        if not counted.dropped:
            findings.equal(
                3, "events below the committed offsets", source, counts.settled, counted.settled.get(source, 0)
            )
            recounted = counted.settled.get(source, 0) + in_flight
            findings.equal(3, "the log's tally, recounted", source, entered[source], recounted)
    for record in counted.miscounted:
        findings.off(3, "a record of the log holds other events than it says", examples=(record,))
    total = sum(ledger.values(), LakeCounts())
    findings.checked[3].append(
        f"accepted + replayed {entered.total():,} = committed {total.committed:,} + dead-lettered "
        f"{total.dead_lettered:,} + deduplicated {total.deduplicated:,} + forgotten {total.forgotten:,} + in flight "
        f"{sum(counted.in_flight.values()):,}"
    )
    if counted.dropped:
        findings.notes.append("segments past their retention were dropped; their sealed tallies stand for them")


# --- promise 2 ---------------------------------------------------------------------------------------------------


def _check_identities(findings: _Findings, seen: IdentityFindings, held: _Held) -> None:
    """Name what was lost, doubled or never accepted; what damaged files may hold is not called lost."""
    lost = seen.lost if seen.lost > held.unreadable else 0
    findings.checked[2].append(f"{seen.in_log:,} identities of the log against {seen.in_lake:,} rows of the lake")
    for what, count, examples in (
        ("events that the log accepted are not in the lake", lost, seen.lost_examples),
        ("events are in the lake more than once", seen.doubled, seen.doubled_examples),
        ("events are in the lake and not in the log", seen.foreign, seen.foreign_examples),
    ):
        if count:
            findings.off(2, what, expected=0, found=count, examples=tuple(examples))
    if seen.late:
        findings.notes.append(
            f"{seen.late:,} rows repeat an event that was committed longer ago than retries are remembered, or for "
            "another unit; every number counts them once"
        )
    if seen.log_begins:
        findings.notes.append("rows older than the log keeps are not compared with it")
