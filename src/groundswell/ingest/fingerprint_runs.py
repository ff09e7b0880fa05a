"""Run files: sorted fingerprints of a stretch of the log, with a filter and a directory, memory-mapped.

Invariants
    a run is written front to back under another name, synced, then named: under its name it is complete
    entries are sorted by (first word, second word), unsigned, and no fingerprint is there twice
    the header's checksum covers the header; the header holds the checksums of every section
    a run never changes

Layout, little-endian; each section starts at a multiple of 4,096 bytes:
    header      4,096 B   magic, format, partition, offsets, times, sizes, checksums (``_HEADER``)
    filter      64 B a block: split block Bloom filter (Putze, Sanders & Singler 2009), 8 words of 64 bits, one bit each
    directory   4 B a bucket and one: where each bucket of first words starts
    first       8 B an entry
    second      8 B an entry
    checks      4 B an entry
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import tempfile
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from groundswell.errors import Corrupt, Unavailable
from groundswell.ingest.fingerprint_kernels import BLOCK_WORDS
from groundswell.log.files import Files

__all__ = ["Entries", "Run", "RunName", "RunWriter", "Stretch", "checksum", "mapped", "run_name"]

UInt64s = npt.NDArray[np.uint64]
UInt32s = npt.NDArray[np.uint32]

FORMAT: Final = 1
_MAGIC: Final = b"GSWFPRUN"
_HEADER: Final = struct.Struct("<8sIIqqqqqqqq5I")  # then the CRC-32 of these bytes
_HEADER_BYTES: Final = 4096
_ALIGN: Final = 4096
_FILTER_BITS: Final = 16  # an entry: one in a thousand searches is in vain, and a search costs a page fault
_BUCKET_ENTRIES: Final = 16  # a bucket's first words are two cache lines
_SYNC_BYTES: Final = 32 * 1024 * 1024  # several short waits for the disk rather than one of seconds at the end
_NAME: Final = re.compile(r"(\d{4})-(\d{16})-(\d{16})\.run")


class Entries(NamedTuple):
    """Parallel arrays: the two words of each fingerprint and its content check."""

    first: UInt64s
    second: UInt64s
    checks: UInt32s

    @classmethod
    def empty(cls, count: int) -> Entries:
        """Return ``count`` entries whose values are not set."""
        return cls(np.empty(count, np.uint64), np.empty(count, np.uint64), np.empty(count, np.uint32))

    @classmethod
    def join(cls, parts: Sequence[Entries]) -> Entries:
        """Return all of ``parts``, in order."""
        if not parts:
            return cls.empty(0)
        return cls(
            np.concatenate([part.first for part in parts]),
            np.concatenate([part.second for part in parts]),
            np.concatenate([part.checks for part in parts]),
        )

    def take(self, which: npt.NDArray[np.intp] | slice) -> Entries:
        """Return the entries ``which``."""
        return Entries(self.first[which], self.second[which], self.checks[which])


def checksum(values: UInt64s | UInt32s, before: int = 0) -> int:
    """Return the CRC-32 of ``values`` after bytes whose CRC-32 is ``before``."""
    return zlib.crc32(_bytes(values), before)


class RunName(NamedTuple):
    """What a file's name says: offsets [start, stop) of a partition."""

    partition: int
    start: int
    stop: int

    @classmethod
    def of(cls, path: Path) -> RunName | None:
        """Return what ``path`` is called, or None where it is no run."""
        match = _NAME.fullmatch(path.name)
        return cls(*(int(part) for part in match.groups())) if match else None


class Stretch(NamedTuple):
    """The part of the log that a run covers; times are of its records' append."""

    partition: int
    start: int
    stop: int
    oldest_us: int
    newest_us: int


def run_name(partition: int, start: int, stop: int) -> str:
    """Return the name of the run that covers offsets [start, stop)."""
    return f"{partition:04d}-{start:016d}-{stop:016d}.run"


@contextmanager
def mapped(path: Path) -> Generator[None]:
    """Turn errors of the file system into :class:`Unavailable`."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}; free or repair the disk, then retry") from error


class _Sizes(NamedTuple):
    """Where sections start, for a capacity in entries."""

    blocks: int
    buckets: int
    filter: int
    directory: int
    first: int
    second: int
    checks: int
    end: int

    @classmethod
    def of(cls, capacity: int) -> _Sizes:
        blocks = max(1, -(-capacity * _FILTER_BITS // (BLOCK_WORDS * 64)))
        buckets = max(1, capacity // _BUCKET_ENTRIES)
        sizes = (_HEADER_BYTES, blocks * BLOCK_WORDS * 8, (buckets + 1) * 4, capacity * 8, capacity * 8, capacity * 4)
        ends = list(accumulate(-(-size // _ALIGN) * _ALIGN for size in sizes))
        return cls(blocks, buckets, ends[0], ends[1], ends[2], ends[3], ends[4], ends[5])


class RunWriter:
    """Writes one run, front to back. ``capacity`` bounds its entries.

    Memory: 2 B of filter and 0.5 B of directory counts an entry of capacity.
    """

    def __init__(self, folder: Path, stretch: Stretch, capacity: int, files: Files) -> None:
        self.stretch = stretch
        self.path = folder / run_name(stretch.partition, stretch.start, stretch.stop)
        self._files = files
        self._capacity = capacity
        self._sizes = _Sizes.of(capacity)
        self._entries = 0
        self._unsynced = 0
        self._checksums = [0, 0, 0]
        self.filter_words: UInt64s = np.zeros(self._sizes.blocks * BLOCK_WORDS, np.uint64)
        self.counts: npt.NDArray[np.int64] = np.zeros(self._sizes.buckets, np.int64)
        with mapped(self.path):  # a name of its own, for a worker that lost its partition may still be writing
            self._handle, fresh = tempfile.mkstemp(prefix=f"{self.path.name}.", suffix=".new", dir=folder)
        self._fresh = Path(fresh)

    def write(self, entries: Entries) -> None:
        """Append sorted ``entries``, whose filter bits and bucket counts are set already."""
        starts = (self._sizes.first, self._sizes.second, self._sizes.checks)
        with mapped(self._fresh):
            for section, values in enumerate(entries):
                at = starts[section] + self._entries * values.itemsize
                self._pwrite(_bytes(values), at)
                self._checksums[section] = checksum(values, self._checksums[section])
            self._entries += len(entries.first)
            self._unsynced += sum(values.nbytes for values in entries)
            if self._unsynced >= _SYNC_BYTES:
                os.fsync(self._handle)
                self._unsynced = 0

    def finish(self) -> Path:
        """Write what goes before the entries, sync, and give the file its name."""
        sizes = self._sizes
        directory = np.zeros(sizes.buckets + 1, np.uint32)
        directory[1:] = np.cumsum(self.counts)
        stretch = self.stretch
        header = _HEADER.pack(
            _MAGIC, FORMAT, stretch.partition, stretch.start, stretch.stop, stretch.oldest_us, stretch.newest_us,
            self._capacity, self._entries, sizes.blocks, sizes.buckets,
            checksum(self.filter_words), checksum(directory), *self._checksums,
        )  # fmt: skip
        with mapped(self._fresh):
            self._pwrite(_bytes(self.filter_words), sizes.filter)
            self._pwrite(_bytes(directory), sizes.directory)
            self._pwrite(memoryview(header + zlib.crc32(header).to_bytes(4, "little")), 0)
            os.ftruncate(self._handle, sizes.end)
            os.close(self._handle)
            self._handle = -1
            self._files.sync_file(self._fresh)
            self._fresh.replace(self.path)
            self._files.sync_folder(self.path.parent)
        return self.path

    def abandon(self) -> None:
        """Remove what was written."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        self._fresh.unlink(missing_ok=True)

    def __del__(self) -> None:
        if getattr(self, "_handle", -1) >= 0:  # a merge that nobody drives any more; its file goes at the next open
            os.close(self._handle)

    def _pwrite(self, data: memoryview, at: int) -> None:
        while data:
            done = os.pwrite(self._handle, data, at)
            data, at = data[done:], at + done


class Run:
    """A finished run, memory-mapped.

    Raises:
        Corrupt: header, filter or directory do not match their checksums, or the file is cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with mapped(path), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _HEADER_BYTES:
                raise Corrupt(f"{path} has {size} bytes, must have >= {_HEADER_BYTES}; it is rebuilt from the log")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        fields = self._header()
        self.stretch = Stretch(*fields[2:7])
        capacity, self.entries, blocks, buckets = fields[7:11]
        sizes = _Sizes.of(capacity)
        name = RunName.of(path)
        if (
            name != (self.stretch.partition, self.stretch.start, self.stretch.stop)
            or (blocks, buckets, sizes.end) != (sizes.blocks, sizes.buckets, size)
            or not 0 <= self.entries <= capacity
        ):
            raise Corrupt(f"{path} does not match its header; it is rebuilt from the log")
        self.filter_words = np.frombuffer(self._map, np.uint64, blocks * BLOCK_WORDS, sizes.filter)
        self.directory = np.frombuffer(self._map, np.uint32, buckets + 1, sizes.directory)
        self.body = Entries(
            np.frombuffer(self._map, np.uint64, self.entries, sizes.first),
            np.frombuffer(self._map, np.uint64, self.entries, sizes.second),
            np.frombuffer(self._map, np.uint32, self.entries, sizes.checks),
        )
        self.checksums: tuple[int, ...] = fields[13:16]  # of the body's sections
        for what, values, expected in (("filter", self.filter_words, 11), ("directory", self.directory, 12)):
            if checksum(values) != fields[expected]:
                raise Corrupt(f"{path}: its {what} does not match its checksum; it is rebuilt from the log")
        if int(self.directory[-1]) != self.entries or (np.diff(self.directory.astype(np.int64)) < 0).any():
            raise Corrupt(f"{path}: its directory does not rise to {self.entries}; it is rebuilt from the log")
        self._body_at = sizes.first if sizes.first < size else None
        if self._body_at is not None:
            self._map.madvise(mmap.MADV_RANDOM, self._body_at)  # searches jump; reading ahead would only fill memory

    def release(self) -> None:
        """Give back the memory of body pages that were looked at; the system may keep them cached."""
        if self._body_at is not None:
            self._map.madvise(mmap.MADV_DONTNEED, self._body_at)

    def verify(self) -> bool:
        """Read the whole body and say whether it matches its checksums."""
        return all(checksum(values) == expected for values, expected in zip(self.body, self.checksums, strict=True))

    def _header(self) -> tuple[int, ...]:
        header = self._map[: _HEADER.size]
        fields = _HEADER.unpack(header)
        if fields[0] != _MAGIC:
            raise Corrupt(f"{self.path} is no run of fingerprints; it is rebuilt from the log")
        if fields[1] != FORMAT:
            raise Corrupt(f"{self.path} has format {fields[1]}, must be {FORMAT}; it is rebuilt from the log")
        if self._map[_HEADER.size : _HEADER.size + 4] != zlib.crc32(header).to_bytes(4, "little"):
            raise Corrupt(f"{self.path}: its header does not match its checksum; it is rebuilt from the log")
        return (0, *fields[1:])


def _bytes(values: UInt64s | UInt32s) -> memoryview:
    return values.view(np.uint8).data
