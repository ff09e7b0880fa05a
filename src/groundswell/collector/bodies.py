"""A request's body, received and decompressed within bounds.

Invariants
    no more than ``body_bytes_max`` is received, no more than ``body_decoded_bytes_max`` comes out of a decompressor
    what was received counts against ``receiving_bytes_max`` of its process; what was only announced does not
    a body has ``body_s_max`` seconds to arrive whole, from the moment that it is asked for
    no text of a decompressor reaches a sender
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Final, Self

import structlog
import zstandard

from groundswell import limits
from groundswell.errors import GroundswellError
from groundswell.model.spelling import spelled

__all__ = ["BodyFault", "ClientGone", "Receiver", "inflate"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

_log = structlog.get_logger(__name__)

_INFLATE_INLINE_BYTES_MAX: Final = 8 * 1024  # more is decompressed in a thread, so that it holds up nobody
_INFLATIONS_MAX: Final = 2  # at once: each may take limits.body_decoded_bytes_max
_CHUNK_BYTES: Final = 256 * 1024
_GZIP: Final = 31  # zlib's window bits for gzip with its header and checksum
_MEMBERS_MAX: Final = 64
_RETRY_AFTER_S: Final = 1

# RFC 8878
_ZSTD_WINDOW_BYTES_MAX: Final = 8 * 1024 * 1024  # what every decoder must support, and no sender may exceed
_ZSTD_BLOCKS_MAX: Final = 10_000  # of up to 128 KiB
_FRAME_HEADER_BYTES_MAX: Final = 18
_SKIPPABLE: Final = b"\x2a\x4d\x18"
_RLE: Final = 1


class BodyFault(GroundswellError):
    """A body cannot be taken; ``status`` is the HTTP status that says so."""

    def __init__(self, status: int, reason: str, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


class ClientGone(GroundswellError):
    """The client hung up before its body was complete, or sent chunks that are none."""


class Receiver:
    """Receives bodies for one process."""

    def __init__(
        self,
        *,
        body_bytes_max: int = limits.body_bytes_max,
        decoded_bytes_max: int = limits.body_decoded_bytes_max,
        receiving_bytes_max: int = limits.receiving_bytes_max,
        body_s_max: float = limits.body_receive_s_max,
    ) -> None:
        self.body_bytes_max = body_bytes_max
        self.receiving_bytes_max = receiving_bytes_max
        self.receiving_bytes = 0
        self._decoded_bytes_max = decoded_bytes_max
        self._body_s_max = body_s_max
        self._inflations = asyncio.Semaphore(_INFLATIONS_MAX)

    async def receive(self, receive: Receive, *, length: int | None, encoding: str) -> bytes:
        """Return a whole body, decompressed.

        Raises:
            BodyFault: it is too large, comes too slowly, or is not what its encoding says.
            ClientGone: the client hung up.
        """
        with _Held(self) as held:
            self._check_size(length or 0)
            try:
                async with asyncio.timeout(self._body_s_max):
                    body = await _whole(receive, held)
            except TimeoutError:
                rule = f"body seconds > {self._body_s_max:g}, must be at most that; send smaller batches"
                raise BodyFault(408, "too_slow", rule) from None
        return body if encoding in {"", "identity"} else await self._inflated(body, encoding)

    def _check_size(self, size: int) -> None:
        if size > self.body_bytes_max:
            rule = f"body bytes == {size}, must be <= {self.body_bytes_max}; send smaller batches"
            raise BodyFault(413, "too_large", rule)

    def hold(self, size: int, more: int) -> None:
        """Count ``more`` bytes of a body that now has ``size``.

        Raises:
            BodyFault: the body, or all bodies together, are too large.
        """
        self._check_size(size)
        if self.receiving_bytes + more > self.receiving_bytes_max:
            rule = f"bytes being received > {self.receiving_bytes_max}, must be at most that; send it again later"
            raise BodyFault(503, "overloaded", rule, retry_after_s=_RETRY_AFTER_S)
        self.receiving_bytes += more

    async def _inflated(self, body: bytes, encoding: str) -> bytes:
        if len(body) <= _INFLATE_INLINE_BYTES_MAX:
            return inflate(body, encoding, self._decoded_bytes_max)
        async with self._inflations:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(None, inflate, body, encoding, self._decoded_bytes_max)


class _Held:
    """Bytes of one body, counted while it is received."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._receiver.receiving_bytes -= self._size

    def grow_by(self, more: int) -> None:
        self._receiver.hold(self._size + more, more)
        self._size += more


async def _whole(receive: Receive, held: _Held) -> bytes:
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        parts.append(_part(message))
        held.grow_by(len(parts[-1]))
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _part(message: Message) -> bytes:
    if message["type"] != "http.request":
        raise ClientGone
    return message.get("body", b"")


def inflate(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """Return ``body`` decompressed.

    Raises:
        BodyFault: it is not ``encoding``, is cut short, or has more than ``bytes_max`` bytes.
    """
    if encoding in {"gzip", "x-gzip"}:
        return _gunzip(body, bytes_max)
    if encoding == "zstd":
        return _unzstd(body, bytes_max)
    raise BodyFault(
        415, "bad_encoding", f"content-encoding == {spelled(encoding)}, must be gzip, zstd or identity; send it as one"
    )


def _gunzip(body: bytes, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    room = bytes_max
    rest = body
    try:
        while rest:  # a gzip file may have several members
            if len(parts) == _MEMBERS_MAX:  # each costs a copy of what follows it
                raise BodyFault(400, "bad_encoding", f"gzip members > {_MEMBERS_MAX}, must be at most that; send one")
            member = zlib.decompressobj(_GZIP)
            part = member.decompress(rest, room + 1)
            room -= len(part)
            if room < 0:
                raise _too_large(bytes_max)
            if not member.eof:
                raise _cut_short("gzip")
            parts.append(part)
            rest = member.unused_data
    except zlib.error as error:
        raise _not_as_said("gzip", error) from None
    return b"".join(parts)


def _unzstd(body: bytes, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
    try:
        with decompressor.stream_reader(body, read_across_frames=True) as reader:
            while part := reader.read(_CHUNK_BYTES):
                size += len(part)
                if size > bytes_max:
                    raise _too_large(bytes_max)
                parts.append(part)
        _check_whole_frames(body)
    except zstandard.ZstdError as error:
        raise _not_as_said("zstd", error) from None
    return b"".join(parts)


def _check_whole_frames(body: bytes) -> None:
    """Raise ``BodyFault`` where the last frame is cut short: the decompressor ends quietly at the last whole block."""
    at = blocks = 0
    while at < len(body):
        if body[at + 1 : at + 4] == _SKIPPABLE and body[at] & 0xF0 == 0x50:
            at += 8 + int.from_bytes(body[at + 4 : at + 8], "little")
            continue
        has_checksum = zstandard.get_frame_parameters(body[at : at + _FRAME_HEADER_BYTES_MAX]).has_checksum
        at += zstandard.frame_header_size(body[at : at + _FRAME_HEADER_BYTES_MAX])
        last = False
        while not last:
            blocks += 1
            if at + 3 > len(body) or blocks > _ZSTD_BLOCKS_MAX:
                raise _cut_short("zstd")
            header = int.from_bytes(body[at : at + 3], "little")
            last = bool(header & 1)
            at += 3 + (1 if (header >> 1) & 3 == _RLE else header >> 3)
        at += 4 if has_checksum else 0
    if at != len(body):
        raise _cut_short("zstd")


def _cut_short(encoding: str) -> BodyFault:
    rule = f"body is cut short or too finely cut, must be a whole {encoding} file; compress it in one piece"
    return BodyFault(400, "bad_encoding", rule)


def _not_as_said(encoding: str, error: Exception) -> BodyFault:
    _log.info("collector.not_decompressed", encoding=encoding, error=str(error))
    rule = f"body is not what content-encoding says, must be a whole {encoding} file; compress it again, or say none"
    return BodyFault(400, "bad_encoding", rule)


def _too_large(bytes_max: int) -> BodyFault:
    rule = f"body bytes after decompression > {bytes_max}, must be at most that; send smaller batches"
    return BodyFault(413, "too_large", rule)
