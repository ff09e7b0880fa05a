"""RFC 3339 by the kernel against Python's own calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundswell.wire.times import NO_TIME, rfc3339_us

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read(text: str) -> int | None:
    data = np.frombuffer(text.encode(), np.uint8)
    moment = int(rfc3339_us(data, 0, len(data)))
    return None if moment == NO_TIME else moment


@given(
    st.datetimes(timezones=st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda m: timezone(timedelta(minutes=m)))),
    st.sampled_from("Tt "),
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
)
@settings(max_examples=300, deadline=None)
def test_a_time_is_what_the_calendar_says(moment: datetime, separator: str, precision: str) -> None:
    text = moment.isoformat(sep=separator, timespec=precision)
    expected = (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)

    if -62_135_596_800_000_000 <= expected <= 253_402_300_799_999_999:
        assert read(text) == expected
    else:
        assert read(text) is None


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.5z", 500_000),
        ("1970-01-01T00:00:00.1234567899Z", 123_456),
        ("1969-12-31T23:59:60Z", 0),
        ("1970-01-01T01:00:00-00:30", 5_400_000_000),
        ("2000-02-29T00:00:00Z", 951_782_400_000_000),
    ],
)
def test_forms_of_rfc_3339_are_taken(text: str, micros: int) -> None:
    assert read(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        "1970-01-01T00:00:00",  # no offset: nobody knows when that was
        "1970-01-01",
        "1970-01-01T00:00Z",
        "1970-01-01T24:00:00Z",
        "1970-01-01T00:60:00Z",
        "1970-01-01T00:00:61Z",
        "1970-13-01T00:00:00Z",
        "1970-00-01T00:00:00Z",
        "1970-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "1970-04-31T00:00:00Z",
        "1970-01-00T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00.5",
        "1970-01-01T00:00:00+0100",
        "1970-01-01T00:00:00+24:00",
        "1970-01-01T00:00:00+01:60",
        "1970-01-01T00:00:00Z ",
        " 1970-01-01T00:00:00Z",
        "1970-01-01X00:00:00Z",
        "1970/01/01T00:00:00Z",
        "+970-01-01T00:00:00Z",
        "1970-01-01T00:00:00ZZ",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
    ],
)
def test_what_is_no_time_is_not_guessed(text: str) -> None:
    assert read(text) is None
