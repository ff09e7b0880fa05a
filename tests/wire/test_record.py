"""Records of the log: what goes in comes out, and bytes that are no record are named so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from groundswell import limits
from groundswell.errors import Corrupt, InvalidInput
from groundswell.model.ledger import IntakeCounts
from groundswell.wire.decode import Decoded
from groundswell.wire.faults import Refused
from groundswell.wire.hashing import fingerprint, hash64
from groundswell.wire.intake import IntakeTally, decode_intake, encode_intake
from groundswell.wire.partition import partition_of, split, split_dead
from groundswell.wire.record import NO_DEAD, NO_ROWS, RecordContent, decode_record, encode_record

Decode = Callable[..., Decoded]


def lines(count: int, unit: str = "user_id") -> str:
    return "\n".join(
        f'{{"event_id":"{i}","type":"{"view" if i % 7 else "gone"}","{unit}":"u{i}"}}' for i in range(count)
    )


@pytest.mark.parametrize("count", [1, 3, 5000])
def test_rows_and_dead_letters_come_back_unchanged(decode: Decode, count: int) -> None:
    decoded = decode(lines(count))
    content = RecordContent(decoded.batch, decoded.dead, 7, heartbeat_us=None)

    back = decode_record(encode_record(content))

    assert back.definitions_version == 7
    assert back.heartbeat_us is None
    assert back.dead.equals(decoded.dead)
    assert back.batch.to_pylist() == decoded.batch.to_pylist()


def test_a_heartbeat_is_small_and_has_no_rows() -> None:
    payload = encode_record(RecordContent(NO_ROWS, NO_DEAD, 0, heartbeat_us=123))

    back = decode_record(payload)

    assert (back.batch.num_rows, back.dead.num_rows, back.heartbeat_us) == (0, 0, 123)
    assert len(payload) == 64


@pytest.mark.parametrize("cut", [0, 3, 63, 64, -1])
def test_bytes_that_are_no_record_are_corrupt(decode: Decode, cut: int) -> None:
    decoded = decode(lines(3))
    payload = encode_record(RecordContent(decoded.batch, decoded.dead, 1))

    with pytest.raises(Corrupt, match="record"):
        decode_record(payload[:cut])


def test_a_damaged_stream_is_corrupt(decode: Decode) -> None:
    decoded = decode(lines(3))
    payload = bytearray(encode_record(RecordContent(decoded.batch, decoded.dead, 1)))
    payload[64:96] = b"\xff" * 32

    with pytest.raises(Corrupt, match="Arrow"):
        decode_record(bytes(payload))


def test_a_later_format_says_upgrade() -> None:
    payload = bytearray(encode_record(RecordContent(NO_ROWS, NO_DEAD, 0, heartbeat_us=1)))
    payload[3] = 2

    with pytest.raises(InvalidInput, match="upgrade"):
        decode_record(bytes(payload))


def test_partitions_are_equal_ranges_of_the_hash() -> None:
    hashes = np.array([-(2**63), -1, 0, 2**63 - 1, -(2**62), 2**62], np.int64)

    assert partition_of(hashes, 4).tolist() == [0, 1, 2, 3, 1, 3]
    assert partition_of(hashes, 3).tolist() == [0, 1, 1, 2, 0, 2]
    assert partition_of(hashes, 1).tolist() == [0] * 6


@pytest.mark.parametrize("partitions", [1, 3, 4, 64])
def test_every_row_goes_to_the_partition_of_its_unit_in_order(decode: Decode, partitions: int) -> None:
    decoded = decode(lines(500))

    parts = split(decoded.batch, partitions)

    assert sum(part.num_rows for part in parts.values()) == decoded.batch.num_rows
    for partition, part in parts.items():
        units = [hash64(unit) for unit in part.column("user_id").to_pylist()]
        assert partition_of(np.array(units), partitions).tolist() == [partition] * part.num_rows
        ids = [int(event_id) for event_id in part.column("event_id").to_pylist()]
        assert ids == sorted(ids)


def test_events_that_name_nobody_go_by_their_identity(decode: Decode) -> None:
    decoded = decode(lines(50, unit="country"))

    for partition, part in split(decoded.batch, 4).items():
        hashes = [fingerprint("web", event_id)[0] for event_id in part.column("event_id").to_pylist()]
        assert partition_of(np.array(hashes), 4).tolist() == [partition] * part.num_rows


def test_a_dead_letter_goes_to_the_same_partition_on_every_retry(decode: Decode) -> None:
    dead = decode(lines(500)).dead

    parts = split_dead(dead, 4)

    assert sum(part.num_rows for part in parts.values()) == dead.num_rows == 72
    for partition, part in parts.items():
        hashes = [fingerprint("web", event_id)[0] for event_id in part.column("event_id").to_pylist()]
        assert partition_of(np.array(hashes), 4).tolist() == [partition] * part.num_rows


def test_nothing_splits_into_nothing(decode: Decode) -> None:
    empty = decode("5")

    assert split(empty.batch, 4) == {}
    assert split(empty.batch, 1) == {}
    assert split_dead(empty.dead, 4) == {}


def test_intake_counts_reasons_and_samples_come_back() -> None:
    tally = IntakeTally()
    tally.add("web", received=3, accepted=2, refused=[Refused(1, "not_json", "byte 0", b"\xff{")], at_us=5)
    tally.add("web", received=1, accepted=1, refused=[], at_us=6)
    tally.add("app", received=1, accepted=0, refused=[Refused(-1, "empty", "body", b"")], at_us=7)

    back = decode_intake(encode_intake(tally.record()))

    assert back.counts == {"web": IntakeCounts(4, 1, 3), "app": IntakeCounts(1, 1, 0)}
    assert back.reasons == {"web": {"not_json": 1}, "app": {"empty": 1}}
    assert [(sample.source, sample.reason, sample.sample) for sample in back.samples] == [
        ("web", "not_json", b"\xff{"),
        ("app", "empty", b""),
    ]
    assert all(counts.balanced for counts in back.counts.values())


def test_a_flood_of_rubbish_leaves_a_bounded_record() -> None:
    tally, other = IntakeTally(), IntakeTally()
    rubbish = [Refused(i, "not_json", "byte 0", b"x" * 10**5) for i in range(1000)]
    for one in (tally, other):
        one.add("web", received=1000, accepted=0, refused=rubbish, at_us=1)

    tally.merge(other)
    record = tally.record()

    assert len(record.samples) == limits.refused_samples_max
    assert record.reasons == {"web": {"not_json": 2000}}
    assert record.counts == {"web": IntakeCounts(2000, 2000, 0)}
    assert len(encode_intake(record)) < 2 * limits.refused_samples_max * limits.refused_sample_bytes_max


def test_bytes_that_are_no_intake_record_are_corrupt() -> None:
    with pytest.raises(Corrupt, match="intake"):
        decode_intake(b"{")


def test_batches_of_different_columns_become_one_record(decode: Decode) -> None:
    first, second = decode(lines(3)).batch, decode('{"event_id":"x","type":"view","properties":{"title":"t"}}').batch
    table = pa.concat_tables([pa.table(first), pa.table(second)], promote_options="default").combine_chunks()

    back = decode_record(encode_record(RecordContent(table.to_batches()[0], NO_DEAD, 1)))

    assert back.batch.column("title").to_pylist() == [None, None, "t"]
