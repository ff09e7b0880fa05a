"""RFC 3339 text to microseconds since the epoch, as a kernel over bytes: one definition for one text or many.

Taken: a date, ``T`` or a space, a time, digits of a second past the sixth are cut, ``Z`` or an offset. A 60th second is
the next minute's first. Not taken: a time without an offset (nobody knows when that was), a number, a date alone.
"""
# ruff: noqa: C901, PLR0911 (a compiled kernel is one function on purpose)

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

__all__ = ["NO_TIME", "rfc3339_us"]

NO_TIME: Final = -(2**63)  # what the kernel returns for text that is no time
_FIRST: Final = -62_135_596_800_000_000  # 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z: what a date can say
_LAST: Final = 253_402_300_799_999_999


@numba.njit(cache=True, nogil=True)
def _digits(data: Any, start: Any, count: Any) -> Any:  # pragma: no cover - compiled
    """Return the number written in ``count`` digits, or -1."""
    value = np.int64(0)
    for at in range(start, start + count):
        digit = np.int64(data[at]) - 48
        if digit < 0 or digit > 9:
            return np.int64(-1)
        value = value * 10 + digit
    return value


@numba.njit(cache=True, nogil=True)
def _days(year: Any, month: Any, day: Any) -> Any:  # pragma: no cover - compiled
    """Return days from 1970-01-01 in the proleptic Gregorian calendar, or NO_TIME where there is no such day."""
    if year < 1 or month < 1 or month > 12 or day < 1:
        return np.int64(NO_TIME)
    leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    length = 28 + leap if month == 2 else 30 if month in {4, 6, 9, 11} else 31
    if day > length:
        return np.int64(NO_TIME)
    shifted = year - (month <= 2)  # years that begin in March, so that a leap day is the last
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


@numba.njit(cache=True, nogil=True)
def rfc3339_us(data: Any, start: Any, stop: Any) -> Any:  # pragma: no cover - compiled
    """Return the moment written in ``data[start:stop]``, in microseconds, or NO_TIME."""
    none = np.int64(NO_TIME)
    if stop - start < 20 or data[start + 4] != 45 or data[start + 7] != 45:
        return none
    if data[start + 13] != 58 or data[start + 16] != 58:
        return none
    if data[start + 10] != 84 and data[start + 10] != 116 and data[start + 10] != 32:
        return none
    year, month, day = _digits(data, start, 4), _digits(data, start + 5, 2), _digits(data, start + 8, 2)
    hour, minute, second = _digits(data, start + 11, 2), _digits(data, start + 14, 2), _digits(data, start + 17, 2)
    days = _days(year, month, day)
    if days == none or hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 60:
        return none
    at = start + 19
    micros = np.int64(0)
    if data[at] == 46:
        at += 1
        weight = np.int64(100_000)
        first = at
        while at < stop and 48 <= data[at] <= 57:
            micros += (np.int64(data[at]) - 48) * weight
            weight //= 10
            at += 1
        if at in {first, stop}:
            return none
    offset = np.int64(0)
    if data[at] == 90 or data[at] == 122:
        at += 1
    else:
        if (data[at] != 43 and data[at] != 45) or stop - at != 6 or data[at + 3] != 58:
            return none
        hours, minutes = _digits(data, at + 1, 2), _digits(data, at + 4, 2)
        if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
            return none
        offset = (hours * 60 + minutes) * (60 if data[at] == 43 else -60)
        at += 6
    if at != stop:
        return none
    moment = (days * 86400 + hour * 3600 + minute * 60 + second - offset) * 1_000_000 + micros
    return moment if _FIRST <= moment <= _LAST else none
