"""Statistics: comparisons a second, one at a time and in columns; sequences, quantiles, the bootstrap; beside peers.

    python benchmarks/stats.py [--quick] [--gbstats PYTHON] [--tea-tasting PYTHON]

PYTHON is an interpreter of an environment that has that library (gbstats wants an older numpy than we do): the same
10,000 comparisons are then made by both in this run, and the answers compared. Times are CPU seconds unless said.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from groundswell.stats import (
    Batch,
    Looks,
    Moments,
    always_valid_many,
    bootstrap_means,
    compare,
    compare_many,
    contrast,
    cuped,
    cuped_many,
    quantile_samples,
)

HERE = Path(__file__).parent
PEER_COMPARISONS = 10_000


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def best(work: Callable[[], Any], times: int = 5) -> float:
    """Return the least CPU seconds of a few runs."""
    spent: list[float] = []
    for _ in range(times):
        begin = time.process_time()
        work()
        spent.append(time.process_time() - begin)
    return min(spent)


def means(rng: np.random.Generator, m: int) -> tuple[Batch, Batch]:
    n = rng.integers(100, 100_000, (2, m))
    arms = [Batch.of(c, rng.normal(10, 0.1, m), c * rng.gamma(3, 1, m)) for c in n]
    return arms[0], arms[1]


def with_covariate(rng: np.random.Generator, m: int) -> tuple[Batch, Batch]:
    arms: list[Batch] = []
    for n in rng.integers(100, 100_000, (2, m)):
        m2 = np.empty((m, 2, 2))
        m2[:, 0, 0], m2[:, 1, 1], m2[:, 0, 1] = 4.0 * n, 2.0 * n, 1.5 * n
        m2[:, 1, 0] = m2[:, 0, 1]
        arms.append(Batch.of(n, rng.normal(10, 0.1, (m, 2)), m2))
    return arms[0], arms[1]


def core(rng: np.random.Generator, m: int) -> dict[str, float]:
    plain, ratios, adjusted = means(rng, m), with_covariate(rng, m), with_covariate(rng, m)
    a, b = (Moments.of(rng.gamma(2, 1, 1_000)) for _ in range(2))
    u, v = (Moments.of(rng.normal(5, 1, (1_000, 2))) for _ in range(2))
    objects = [(a, b)[i % 2] for i in range(m // 10)]
    return {
        "welch_relative_always_valid_per_s": m / best(lambda: compare_many(*plain)),
        "ratio_per_s": m / best(lambda: compare_many(*ratios)),
        "cuped_per_s": m / best(lambda: cuped_many(*adjusted)),
        "from_moments_objects_per_s": len(objects)
        / best(lambda: compare_many(Batch.of_moments(objects), Batch.of_moments(objects))),
        "single_us": 1e6 / 2_000 * best(lambda: [compare(a, b) for _ in range(2_000)]),
        "single_ratio_us": 1e6 / 2_000 * best(lambda: [compare(u, v) for _ in range(2_000)]),
        "single_cuped_us": 1e6 / 200 * best(lambda: [contrast(cuped(u, v)) for _ in range(200)]),
    }


def sequences(rng: np.random.Generator) -> dict[str, float]:
    d, error, units = rng.normal(size=10_000), rng.random(10_000) + 0.1, rng.integers(500, 10**6, 10_000)
    looks = Looks()
    return {"update_10k_ms": 1e3 * best(lambda: always_valid_many(d, error, units, looks), 20)}


def quantiles(rng: np.random.Generator, events: int) -> dict[str, float]:
    units = events // 10
    arms = [(rng.lognormal(0, 1, events // 2), rng.integers(0, units // 2, events // 2)) for _ in range(2)]

    def run(which: list[float]) -> None:
        a, b = (quantile_samples(values, which, unit=unit) for values, unit in arms)
        for x, y in zip(a, b, strict=True):
            compare(x, y)

    return {
        "p99_s": best(lambda: run([0.99]), 3),
        "p50_p90_p99_p999_s": best(lambda: run([0.5, 0.9, 0.99, 0.999]), 3),
        "events": events,
        "units": units,
    }


def bootstrap(rng: np.random.Generator, units: int) -> dict[str, float]:
    t, c = rng.lognormal(0, 1, units // 2), rng.lognormal(0, 1, units // 2)
    bootstrap_means(t[:100], c[:100], draws=100)  # compiles
    walls: list[float] = []
    begin_cpu = time.process_time()
    for _ in range(2):
        begin = time.perf_counter()
        bootstrap_means(t, c, draws=1_000)
        walls.append(time.perf_counter() - begin)
    return {"wall_s": min(walls), "cpu_s": (time.process_time() - begin_cpu) / 2, "units": units, "draws": 1_000}


def importing() -> dict[str, float]:
    lines = {
        "package_s": "from groundswell import stats",
        "compare_s": "from groundswell.stats import compare, Moments as M; compare(M.of([1.,2.]), M.of([2.,4.]))",
    }
    found: dict[str, float] = {}
    for name, line in lines.items():
        program = f"import time; b = time.process_time(); {line}; print(time.process_time() - b)"
        runs = [
            subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            for _ in range(3)
        ]
        found[name] = min(float(run.stdout) for run in runs)
    return found


def beside(library: str, python: str) -> dict[str, float]:
    rng = np.random.default_rng(5)
    t, c = means(rng, PEER_COMPARISONS)
    columns: Any = {
        f"{field}_{arm}": values
        for arm, batch in (("t", t), ("c", c))
        for field, values in (("count", batch.count), ("mean", batch.mean[:, 0]), ("m2", batch.m2[:, 0, 0]))
    }
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, **columns)
        subprocess.run([python, str(HERE / "stats_peers.py"), library, str(source), str(target)], check=True)
        theirs = np.load(target)
        answer, spent = theirs["answer"], float(theirs["spent"])
    ours = compare_many(t, c)
    own = best(lambda: compare_many(t, c))
    gap = [
        float(np.max(np.abs(found - expected) / scale))
        for found, expected, scale in (
            (ours.p_value, answer[:, 0], np.maximum(answer[:, 0], 1e-6)),
            (ours.low, answer[:, 1], np.abs(answer[:, 1])),
            (ours.high, answer[:, 2], np.abs(answer[:, 2])),
        )
    ]
    return {"theirs_s": spent, "ours_s": own, "times_faster": spent / own, "largest_relative_gap": max(gap)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--gbstats", metavar="PYTHON")
    parser.add_argument("--tea-tasting", metavar="PYTHON")
    asked = parser.parse_args()
    rng = np.random.default_rng(1)
    scale = 10 if asked.quick else 1
    result: dict[str, dict[str, float]] = {
        "core": core(rng, 100_000 // scale),
        "sequences": sequences(rng),
        "quantiles": quantiles(rng, 10_000_000 // scale),
        "bootstrap": bootstrap(rng, 1_000_000 // scale),
        "import": importing(),
    }
    for library, python in (("gbstats", asked.gbstats), ("tea-tasting", asked.tea_tasting)):
        if python:
            result[library] = beside(library, python)
    for name, numbers in result.items():
        say(f"{name}: " + ", ".join(f"{key} {value:,.4g}" for key, value in numbers.items()))
    if not asked.quick:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
        rounded = {name: {k: float(f"{v:.4g}") for k, v in numbers.items()} for name, numbers in result.items()}
        note = {"benchmark": "stats", "machine": {"cores": os.cpu_count(), "memory_gb": memory}, "result": rounded}
        (HERE / "results" / "stats.json").write_text(json.dumps(note, indent=2) + "\n")


if __name__ == "__main__":
    main()
