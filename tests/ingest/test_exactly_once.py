"""What goes into the log comes out of the lake, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from groundswell.model.ledger import LakeCounts

Make = Callable[..., dict[str, Any]]


def test_every_event_reaches_the_lake(bench: Any, make_event: Make) -> None:
    bench.send([make_event(number) for number in range(100)])

    bench.service(workers=2).run_once()

    assert bench.ids() == {f"e{number}": 1 for number in range(100)}
    assert bench.state().ledger == {"app": LakeCounts(committed=100)}
    ends = {partition: end for partition, end in bench.log.ends("events").items() if end}
    assert bench.state().offsets == ends


def test_a_retried_event_is_counted_once(bench: Any, make_event: Make) -> None:
    bench.send([make_event(1), make_event(2)])
    service = bench.service()
    service.run_once()

    bench.send([make_event(2), make_event(3)])
    service.run_once()

    assert bench.ids() == {"e1": 1, "e2": 1, "e3": 1}
    assert bench.state().ledger == {"app": LakeCounts(committed=3, deduplicated=1)}
