"""Time, injected. Nobody else asks the machine what time it is.

Inside, a moment is an int of microseconds since 1970-01-01T00:00:00Z (suffix ``_us``); at the edges, RFC 3339 text.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from typing import Final, Protocol

from groundswell.errors import InvalidInput

__all__ = ["Clock", "SystemClock", "duration_s", "format_us", "parse_us"]

US_PER_S: Final = 1_000_000
_DATE_CHARS: Final = len("2026-01-05")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Clock(Protocol):
    """A source of time and of waiting."""

    def now_us(self) -> int:
        """Return microseconds since the epoch, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that never run backwards, for measuring how long something took."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def parse_us(name: str, value: str | date | datetime) -> int:
    """Return a moment in microseconds from RFC 3339 text or a date (its midnight UTC).

    Raises:
        InvalidInput: ``value`` is not a date or a time, or is a time without an offset.

    >>> parse_us("start", "2026-01-05")
    1767571200000000
    """
    moment: date | datetime
    if isinstance(value, str):
        try:
            moment = date.fromisoformat(value) if len(value) == _DATE_CHARS else datetime.fromisoformat(value)
        except ValueError:
            raise InvalidInput(
                name, value, "must be a date or an RFC 3339 time", next_step="write 2026-01-05 or 2026-01-05T09:30:00Z"
            ) from None
    else:
        moment = value
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if moment.tzinfo is None:
        raise InvalidInput(name, str(value), "must say its offset", next_step="write 2026-01-05T09:30:00Z")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def format_us(moment_us: int) -> str:
    """Return RFC 3339 text in UTC, with microseconds only where there are any.

    >>> format_us(1767571200000000)
    '2026-01-05T00:00:00Z'
    """
    moment = _EPOCH + timedelta(microseconds=moment_us)
    return moment.isoformat().replace("+00:00", "Z")


def duration_s(name: str, value: str | int) -> int:
    """Return seconds from text such as ``7d``, ``24h``, ``30m``, ``90s``, ``2w``.

    >>> duration_s("window", "7d")
    604800
    """
    if isinstance(value, str) and len(value) >= 2 and value[-1] in _DURATION_UNITS and value[:-1].isdigit():
        seconds = int(value[:-1]) * _DURATION_UNITS[value[-1]]
        if seconds > 0:
            return seconds
    raise InvalidInput(name, value, "must be a positive whole number and a unit s, m, h, d or w", next_step="write 7d")
