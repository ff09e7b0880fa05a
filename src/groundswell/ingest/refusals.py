"""Why events were refused: reasons and samples from the intake records that the log still keeps."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from groundswell.log.contract import INTAKE_TOPIC, EventLog
from groundswell.wire.intake import RefusedSample, decode_intake

__all__ = ["Refusals"]

_READ_BYTES: Final = 8 * 1024 * 1024
_SAMPLES_KEPT: Final = 100  # the newest


class Refusals:
    """Counts of refusals by reason. An instance reads on from where it was; one thread uses it at a time."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._position = log.begins(INTAKE_TOPIC)[0]
        self._reasons: Counter[str] = Counter()
        self._samples: deque[RefusedSample] = deque(maxlen=_SAMPLES_KEPT)

    def reasons(self) -> dict[str, int]:
        """Return how many events were refused, by reason, most first."""
        self._read_on()
        return dict(self._reasons.most_common())

    def samples(self) -> list[RefusedSample]:
        """Return the newest samples of what was refused, newest first."""
        self._read_on()
        return list(reversed(self._samples))

    def _read_on(self) -> None:
        self._position = max(self._position, self._log.begins(INTAKE_TOPIC)[0])
        while records := self._log.read(INTAKE_TOPIC, 0, self._position, bytes_max=_READ_BYTES):
            for record in records:
                content = decode_intake(record.payload)
                for reasons in content.reasons.values():
                    self._reasons.update(reasons)
                self._samples.extend(content.samples)
            self._position = records[-1].offset + 1
