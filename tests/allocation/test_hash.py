"""MurmurHash3 against mmh3, an independent implementation, interpreted and compiled."""

from __future__ import annotations

import mmh3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundswell.allocation.hash import absorb_blocks, finish, murmur3_32, whole_blocks


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 2**32 - 1))
def test_the_hash_is_murmur3_x86_32(key: bytes, seed: int):
    assert murmur3_32(key, seed) == mmh3.hash(key, seed, signed=False)


@pytest.mark.parametrize("length", range(20))
def test_every_tail_length_agrees_at_extreme_bytes(length: int):
    for byte in (b"\x00", b"\x7f", b"\x80", b"\xff"):
        assert murmur3_32(byte * length) == mmh3.hash(byte * length, signed=False)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_absorbing_a_salt_first_changes_nothing(salt: bytes, key: bytes):
    shared = whole_blocks(len(salt))
    rest = salt[shared:] + key
    whole = whole_blocks(len(rest))

    state = absorb_blocks(rest, whole, absorb_blocks(salt, shared, 0))

    assert finish(rest, whole, len(rest), len(salt + key), state) == mmh3.hash(salt + key, signed=False)


def test_the_compiled_parts_agree_with_the_interpreted_ones():
    from groundswell.allocation import kernel

    rng = np.random.default_rng(20260105)
    for length in range(64):
        data = rng.integers(0, 256, length, dtype=np.uint8)
        whole = whole_blocks(length)

        state = kernel.absorb(data, whole, 0)

        assert kernel.finish(data, whole, length, length, state) == mmh3.hash(data.tobytes(), signed=False)
