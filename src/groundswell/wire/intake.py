"""The form of a record of intake: what senders were told, by source, with reasons and samples of what was refused.

Invariants
    received = refused + accepted, for each source
    at most ``limits.refused_samples_max`` samples a record: a flood of rubbish must not fill the disk
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from groundswell import limits
from groundswell.errors import Corrupt
from groundswell.model.ledger import IntakeCounts
from groundswell.wire.faults import Refused

__all__ = [
    "UNKNOWN_SOURCE",
    "IntakeRecord",
    "IntakeTally",
    "RefusedSample",
    "decode_intake",
    "encode_intake",
    "intake_counts",
    "tallied_intake",
]

UNKNOWN_SOURCE: Final = "(unknown)"  # who sends without a valid key; no source can be named so


class RefusedSample(msgspec.Struct, frozen=True, omit_defaults=True):
    """One refused event, cut to ``limits.refused_sample_bytes_max``."""

    source: str
    reason: str
    message: str
    received_at_us: int
    sample: bytes  # base64 in the record
    event_id: str | None = None


class IntakeRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one group commit adds to the intake ledger."""

    format: int = 1
    counts: dict[str, IntakeCounts] = {}  # by source
    reasons: dict[str, dict[str, int]] = {}  # source -> reason -> events refused
    samples: tuple[RefusedSample, ...] = ()


class IntakeTally:
    """Gathers counts until they are appended."""

    def __init__(self) -> None:
        self._counts: dict[str, IntakeCounts] = {}
        self._reasons: dict[str, dict[str, int]] = {}
        self._samples: list[RefusedSample] = []

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(
        self, source: str, *, received: int, accepted: int, refused: Iterable[Refused] = (), at_us: int = 0
    ) -> None:
        """Count one request of ``source``."""
        counted = IntakeCounts(received, received - accepted, accepted)
        self._counts[source] = self._counts.get(source, IntakeCounts()) + counted
        for fault in refused:
            reasons = self._reasons.setdefault(source, {})
            reasons[fault.reason] = reasons.get(fault.reason, 0) + 1
            if len(self._samples) < limits.refused_samples_max:
                sample = fault.sample[: limits.refused_sample_bytes_max]
                self._samples.append(RefusedSample(source, fault.reason, fault.message, at_us, sample, fault.event_id))

    def merge(self, other: IntakeTally) -> None:
        """Add what ``other`` gathered."""
        for source, counts in other._counts.items():
            self._counts[source] = self._counts.get(source, IntakeCounts()) + counts
        for source, reasons in other._reasons.items():
            mine = self._reasons.setdefault(source, {})
            for reason, count in reasons.items():
                mine[reason] = mine.get(reason, 0) + count
        self._samples += other._samples[: limits.refused_samples_max - len(self._samples)]

    def record(self) -> IntakeRecord:
        """Return what was gathered so far."""
        reasons = {source: dict(by_reason) for source, by_reason in self._reasons.items()}
        return IntakeRecord(counts=dict(self._counts), reasons=reasons, samples=tuple(self._samples))


def encode_intake(record: IntakeRecord) -> bytes:
    """Return the record as JSON, which an operator can read in the log."""
    return _ENCODER.encode(record)


def decode_intake(payload: bytes) -> IntakeRecord:
    """Return the content of a record of intake.

    Raises:
        Corrupt: the bytes are no such record.
    """
    try:
        return _DECODER.decode(payload)
    except msgspec.DecodeError as error:
        raise Corrupt(f"intake record == {payload[:32]!r}, must be JSON of IntakeRecord ({error})") from error


def intake_counts(record: IntakeRecord) -> dict[str, int]:
    """Return the record's counts under the names that the log's tally keeps for ever: ``<source>/received`` and so on.

    Records of intake leave with their segment; the tally stays, so that the first ledger can always be checked.
    """
    return {
        f"{source}/{name}": count
        for source, counted in record.counts.items()
        for name, count in (
            ("received", counted.received),
            ("refused", counted.refused),
            ("accepted", counted.accepted),
        )
        if count
    }


def tallied_intake(tally: Mapping[str, int]) -> dict[str, IntakeCounts]:
    """Return the first ledger by source from what ``intake_counts`` left in the log's tally."""
    sources = sorted({name.rpartition("/")[0] for name in tally})
    return {
        source: IntakeCounts(*(tally.get(f"{source}/{name}", 0) for name in ("received", "refused", "accepted")))
        for source in sources
    }


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(IntakeRecord)
