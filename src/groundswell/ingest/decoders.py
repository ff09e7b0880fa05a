"""Chunks decoded in order, here or in processes of their own: decoding is Python work, which threads cannot share.

Invariants
    results come in the order of the chunks
    at most ``_AHEAD`` chunks a process are under way, so memory is bounded
    the processes end with their pool, and when their parent dies
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Final, Literal

from groundswell.errors import Unavailable
from groundswell.ingest.chunks import Chunk, ChunkDecoder, DecodedChunk
from groundswell.model.clock import Clock

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

__all__ = ["decode_all"]

_AHEAD: Final = 2
Make = Callable[[], ChunkDecoder]
_Answer = tuple[Literal["ok"], DecodedChunk] | tuple[Literal["error"], Exception]


def decode_all(make: Make, chunks: Iterable[Chunk], clock: Clock, *, processes: int) -> Iterator[DecodedChunk]:
    """Yield the decoded chunks in order. ``make`` must be picklable where ``processes`` > 0.

    Raises:
        Unavailable: a process died.
    """
    if processes == 0:
        decoder = make()
        for chunk in chunks:
            yield decoder.decode(chunk, clock.now_us())
        return
    pool = _Pool(make, processes)
    try:
        yield from pool.run(chunks, clock)
    finally:
        pool.close()


class _Pool:
    """Chunks go round over the processes; each answers in order, so the whole is in order."""

    def __init__(self, make: Make, processes: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads that it does not copy
        self._ends: list[Connection] = []
        self._processes: list[SpawnProcess] = []
        for number in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, make), name=f"import-{number}", daemon=True)
            process.start()
            theirs.close()
            self._ends.append(ours)
            self._processes.append(process)

    def run(self, chunks: Iterable[Chunk], clock: Clock) -> Iterator[DecodedChunk]:
        busy: deque[Connection] = deque()
        for number, chunk in enumerate(chunks):
            if len(busy) == _AHEAD * len(self._ends):
                yield self._receive(busy.popleft())
            end = self._ends[number % len(self._ends)]
            try:
                end.send((chunk, clock.now_us()))
            except OSError as error:
                raise _died(error) from error
            busy.append(end)
        while busy:
            yield self._receive(busy.popleft())

    def _receive(self, end: Connection) -> DecodedChunk:
        try:
            answer: _Answer = end.recv()
        except (EOFError, OSError) as error:
            raise _died(error) from error
        if answer[0] == "error":
            raise answer[1]
        return answer[1]

    def close(self) -> None:
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(timeout=5.0)
            if process.is_alive():
                process.kill()
                process.join()


def _serve(end: Connection, make: Make) -> None:
    """Answer chunks until the other end closes."""
    asked: Queue[tuple[Chunk, int] | None] = Queue(maxsize=_AHEAD + 1)
    Thread(target=_listen, args=(end, asked), daemon=True).start()
    with suppress(OSError, KeyboardInterrupt):
        decoder = make()
        while (question := asked.get()) is not None:
            end.send(_answer(decoder, *question))


def _listen(end: Connection, asked: Queue[tuple[Chunk, int] | None]) -> None:
    """Take chunks in while answers go out: two pipes that are full at once would stand still for ever."""
    with suppress(EOFError, OSError):
        while True:
            asked.put(end.recv())
    asked.put(None)


def _answer(decoder: ChunkDecoder, chunk: Chunk, received_at_us: int) -> _Answer:
    try:
        return "ok", decoder.decode(chunk, received_at_us)
    except Exception as error:  # noqa: BLE001 - told to the parent, which raises it
        return "error", error


def _died(error: Exception) -> Unavailable:
    return Unavailable(f"a decoding process died ({error!r}); run the import again, it goes on where it stopped")
