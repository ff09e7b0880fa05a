"""Counts of several processes as one scrape."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from groundswell.collector.metrics import Meter


def samples(meter: Meter) -> dict[tuple[str, str], float]:
    return {
        (sample.name.removeprefix("groundswell_collector_"), ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(meter.render().decode())
        for sample in family.samples
    }


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_counts_of_all_processes_are_summed_and_gauges_of_living_ones(tmp_path: Path) -> None:
    mine, other = Meter(tmp_path), Meter(tmp_path, process=os.getppid())
    gone = Meter(tmp_path, process=ended_process())
    for meter in (mine, other, gone):
        meter.count("events", "accepted", 5)
        meter.set("queued_bytes", 7)

    found = samples(mine)

    assert found["events_total", "accepted"] == 15
    assert found["queued_bytes", ""] == 14
    assert found == samples(other)


def test_a_histogram_is_cumulative() -> None:
    meter = Meter()
    for seconds in (0.0005, 0.001, 0.02, 99.0):
        meter.observe("append_seconds", seconds)

    found = samples(meter)

    assert [found["append_seconds_bucket", bound] for bound in ("0.001", "0.01", "0.025", "10.0", "+Inf")] == [
        2,
        2,
        3,
        3,
        4,
    ]
    assert found["append_seconds_count", ""] == 4
    assert abs(found["append_seconds_sum", ""] - 99.0215) < 1e-9


def test_reasons_without_a_slot_count_as_other() -> None:
    meter = Meter()

    meter.count("refused", "brand_new_reason")

    assert samples(meter)["refused_total", "other"] == 1


def test_files_of_another_layout_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "123.metrics").write_bytes(b"older")
    meter = Meter(tmp_path)
    meter.count("appends", "durable")

    assert samples(meter)["appends_total", "durable"] == 1
    meter.close()
