"""The grammar of the scanner against a peer: Python's own parser, and documents in the manner of JSONTestSuite."""

from __future__ import annotations

import json
import random
from typing import NoReturn

import numpy as np
import pytest

from groundswell import limits
from groundswell.wire.grammar import nesting, skip_space, value_end

SOUND = [
    b"1", b"-0", b"0", b"0.0", b"1e10", b"1E+2", b"1.5e-10", b"-1.25", b'""', b'"a"', b"[]", b"{}", b"true", b"null",
    b'[1,2,{"a":[]}]', b' { "a" : [ 1 ,\tnull,true,\r\nfalse ] , "b":"\\u00e9\\ud83d\\ude00\\n\\/" } ',
    '"ä€😀"'.encode(), b'"\\u0000"', b'{"":0}', b'{"a":1,"a":2}', b'"\x7f"', b"[[[[]]]]", b"1" * 400,
    b'"\xf4\x8f\xbf\xbf"', b"[" * limits.json_depth_max + b"]" * limits.json_depth_max,
]  # fmt: skip

BROKEN = [
    b"", b" ", b"01", b"-", b"-a", b"1.", b".5", b"1e", b"1e+", b"1.e1", b"+1", b"0x1", b"1_0", b"NaN", b"-Infinity",
    b"Infinity", b"[1,]", b"[,1]", b"[1 2]", b"[1", b"[1}", b"]", b'{"a":1,}', b'{"a"}', b'{"a":}', b"{a:1}",
    b"{'a':1}", b'{"a":1 "b":2}', b'{"a":1]', b'{"a" 1}', b"{1:1}", b"{,}", b"tru", b"True", b"nul", b"nulll",
    b"fals", b"1 2", b'"a', b"'a'", b'"\\x41"', b'"\\u12"', b'"\\u12g4"', b'"\\', b'"\x01"', b'"a\nb"', b'"\t"',
    b'"\x00"', b'"\\ud800"', b'"\\ude00"', b'"\\ud800\\u0041"', b'"\\ud800x"', b'"\xff"', b'"\xc3"', b'"\xc0\x80"',
    b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xf8\x88\x80\x80\x80"', b'"\xe0\x80\x80"', b"\xef\xbb\xbf1",
    b"/**/1", b"1//", b"\x0c1", b"\xc2\xa01", b"undefined",
    b"[" * (limits.json_depth_max + 1) + b"]" * (limits.json_depth_max + 1), b'{"a":' * 10_000, b"[" * 100_000,
]  # fmt: skip


def is_sound(text: bytes) -> bool:
    data = np.frombuffer(text, np.uint8)
    end = value_end(data, skip_space(data, 0, len(data), False), len(data), 0, False)
    return bool(end >= 0 and skip_space(data, end, len(data), False) == len(data))


def no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def is_sound_to_python(text: bytes) -> bool:
    try:
        value = json.loads(text.decode(), parse_constant=no_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("text", SOUND)
def test_sound_json_is_stepped_over(text: bytes) -> None:
    assert is_sound(text)


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: repr(text[:24]))
def test_broken_json_is_not(text: bytes) -> None:
    assert not is_sound(text)


def test_any_bytes_are_judged_as_python_judges_them() -> None:
    tokens = [b"{", b"}", b"[", b"]", b",", b":", b'"', b'"a"', b'"b":', b"1", b"0", b"-", b".", b"e", b"true", b"null"]
    tokens += [b" ", b"\n", b"\\", b"\\u0041", b"\\ud83d", b"\\ude00", b"\xc3\xa9", b"\xc3", b"\xf0\x9f\x98\x80"]
    seeded = random.Random(7)

    for _ in range(40_000):
        text = b"".join(seeded.choices(tokens, k=seeded.randrange(1, 9)))
        assert is_sound(text) == is_sound_to_python(text), text


def test_a_line_feed_is_no_space_within_a_line() -> None:
    data = np.frombuffer(b"\n 1", np.uint8)

    assert skip_space(data, 0, 3, True) == 0
    assert skip_space(data, 0, 3, False) == 2


@pytest.mark.parametrize(("text", "depth"), [(b"1", 0), (b"[]", 1), (b'{"a":[1]}', 2), (b'"[[[\\"["', 0), (b"[[]", 2)])
def test_nesting_counts_brackets_outside_of_texts(text: bytes, depth: int) -> None:
    assert nesting(np.frombuffer(text, np.uint8)) == depth
