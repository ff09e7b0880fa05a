"""Hashes against the published vectors of SipHash, and their scalar against their vectorised form."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundswell.wire import hashing
from groundswell.wire.hashing import content_hashes, fingerprint, fingerprints, hash64, hash128, unit_columns

# reference vectors: key 00 01 .. 0f, message 00 01 .. of the given length
KEY = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
SIP_2_4_64 = {
    0: "310e0edd47db6f72",
    1: "fd67dc93c539f874",
    2: "5a4fa9d909806c0d",
    3: "2d7efbd796666785",
    4: "b7877127e09427cf",
    15: "e545be4961ca29a1",
}
SIP_2_4_128 = {
    0: "a3817f04ba25a8e66df67214c7550293",
    1: "da87c1d86b99af44347659119b22fc45",
    2: "8177228da4a45dc7fca38bdef60affe4",
    3: "9c70b60c5267a94e5f33b6b02985ed51",
    15: "5493e99933b0a8117e08ec0f97cfc3d9",
}


@pytest.mark.parametrize(("length", "expected"), SIP_2_4_128.items())
def test_hash128_gives_the_published_vectors(length: int, expected: str) -> None:
    first, second = hash128(bytes(range(length)), KEY)

    assert (first.to_bytes(8, "little") + second.to_bytes(8, "little")).hex() == expected


@pytest.mark.parametrize(("length", "expected"), SIP_2_4_64.items())
def test_hash64_gives_the_published_vectors(length: int, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "KEY", KEY)

    value = hash64(bytes(range(length)).decode())

    assert (value % 2**64).to_bytes(8, "little").hex() == expected


def test_a_hash_stays_what_it_was_when_tables_were_written() -> None:
    assert hash64("user-1") == -6594419581111615363
    assert fingerprint("web", "e-1") == (6439906297616903336, -6020408843426970909)


@given(st.lists(st.none() | st.text(max_size=40), max_size=20), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_one_text_hashes_as_it_does_in_a_column(texts: list[str | None], skipped: int) -> None:
    column = pa.array(texts, pa.string())[skipped:]

    hashes = hash64(column)

    assert hashes.tolist() == [hash64(text or "") for text in texts[skipped:]]


@given(st.lists(st.tuples(st.sampled_from(["web", "app", "é"]), st.text(min_size=1, max_size=40)), max_size=20))
@settings(max_examples=60, deadline=None)
def test_one_fingerprint_is_as_in_a_column(events: list[tuple[str, str]]) -> None:
    sources = pa.array([source for source, _ in events], pa.string())
    ids = pa.array([event_id for _, event_id in events], pa.string())

    h1, h2 = fingerprints(sources, ids)

    assert list(zip(h1.tolist(), h2.tolist(), strict=True)) == [fingerprint(*event) for event in events]


def test_source_and_id_are_never_read_as_another_pair() -> None:
    assert fingerprint("ab", "c") != fingerprint("a", "bc")


def test_a_unit_is_the_first_of_user_anonymous_and_device_that_is_not_empty() -> None:
    unit_hash, unit_kind = unit_columns(
        pa.array(["u", None, "", None]), pa.array(["a", "a", None, None]), pa.array(["d", "d", "d", ""])
    )

    assert unit_hash.to_pylist() == [hash64("u"), hash64("a"), hash64("d"), None]
    assert unit_kind.to_pylist() == [0, 1, 2, None]


def test_events_that_name_nobody_have_no_unit() -> None:
    unit_hash, unit_kind = unit_columns(None, None, None, 2)

    assert unit_hash.to_pylist() == unit_kind.to_pylist() == [None, None]


def test_content_depends_on_names_and_values_and_not_on_their_order() -> None:
    a, b = pa.array(["x", None]), pa.array([1, 2])

    one = content_hashes({"a": a, "b": b}, 2)

    assert one.tolist() == content_hashes({"b": b, "a": a}, 2).tolist()
    assert one.tolist() != content_hashes({"a": a, "c": b}, 2).tolist()
    assert one[1] == content_hashes({"b": b}, 2)[1]


def test_an_empty_text_is_other_content_than_none() -> None:
    empty, none = content_hashes({"a": pa.array(["", None]), "b": pa.array([1, 1])}, 2).tolist()

    assert empty != none
