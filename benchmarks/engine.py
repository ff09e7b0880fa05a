"""Counting from the compacted lake: a portfolio of experiments, and one experiment over many events.

    python benchmarks/engine.py portfolio     100 experiments x 20 metrics, 20M events + 60M exposures, beside DuckDB
    python benchmarks/engine.py single        one experiment x 20 metrics, 100M events
    options: --scale 0.05 (of the rows), --data FOLDER (kept and used again), --threads 2, --out FILE

The data: users in order of unit_hash, written as sorted runs as compaction writes them. A user of the portfolio is in
60 of 100 experiments and has 20 events of 4 types, all at random times. DuckDB answers one query an experiment (10 of
them are timed) from the same files. Its queries leave repeats out of account, the engine does not.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from groundswell.engine.local import LocalEngine
from groundswell.lake.contract import Change, IngestState
from groundswell.lake.iceberg import IcebergLake
from groundswell.model.clock import SystemClock
from groundswell.model.definitions import Definitions, PropertyDef
from groundswell.model.plan import Aggregates, ExperimentPlan, MetricPlan, Plan, Term
from groundswell.wire.hashing import hash64

DAY_US = 86_400_000_000
START_US = 1_767_225_600_000_000  # 2026-01-01
DAYS = 28
AS_OF_US = START_US + DAYS * DAY_US
TYPES = ("view", "like", "share", "purchase", "exposure")
PROPERTIES = {
    "revenue": PropertyDef(type="float"),
    "watch_ms": PropertyDef(type="int"),
    "items": PropertyDef(type="int"),
    "depth": PropertyDef(type="float"),
}
FILE_ROWS = 1_000_000


def term(event: str, kind: Any, value: str | None = None) -> Term:
    return Term(event, kind, value)


def metrics() -> tuple[MetricPlan, ...]:
    week = 7 * DAY_US
    plain = [
        *[MetricPlan(f"{event}_users", (term(event, "any"),)) for event in TYPES[:4]],
        *[MetricPlan(f"{event}_users_7d", (term(event, "any"),), week) for event in TYPES[:4]],
        *[MetricPlan(f"{event}s", (term(event, "count"),)) for event in TYPES[:4]],
        MetricPlan("revenue", (term("purchase", "sum", "revenue"),)),
        MetricPlan("watch_ms", (term("view", "sum", "watch_ms"),)),
        MetricPlan("items", (term("purchase", "sum", "items"),)),
        MetricPlan("depth", (term("view", "sum", "depth"),)),
        MetricPlan("revenue_7d", (term("purchase", "sum", "revenue"),), week),
        MetricPlan("watch_ms_7d", (term("view", "sum", "watch_ms"),), week),
        MetricPlan("order_value", (term("purchase", "sum", "revenue"), term("purchase", "count"))),
        MetricPlan("watch_a_view", (term("view", "sum", "watch_ms"), term("view", "count"))),
    ]
    return tuple(plain)


def plan_of(experiments: int) -> Plan:
    return Plan(
        tuple(
            ExperimentPlan(f"exp_{e:03d}", "user_id", ("control", "treatment"), START_US, None, metrics())
            for e in range(experiments)
        ),
        as_of_us=AS_OF_US,
    )


# --- data --------------------------------------------------------------------------------------------------------


def users_in_order(count: int) -> tuple[pa.Array, np.ndarray]:
    ids = pa.array([f"user-{number:08d}" for number in range(count)])
    hashes = hash64(ids)
    order = np.argsort(hashes)
    return ids.take(pa.array(order)), hashes[order]


def text(codes: np.ndarray, names: list[str]) -> pa.Array:
    mask = codes < 0
    return pa.DictionaryArray.from_arrays(pa.array(np.where(mask, 0, codes).astype(np.int32), mask=mask), names)


def block(
    rng: np.random.Generator, ids: pa.Array, hashes: np.ndarray, experiments: int, exposures: int, events: int
) -> pa.Table:
    """Return the rows of some users, in order of (unit_hash, ts)."""
    users, each = len(ids), exposures + events
    rows = users * each
    user = np.repeat(np.arange(users), each)
    ts = START_US + rng.integers(0, DAYS * DAY_US, size=(users, each))
    kind = rng.choice(4, size=(users, each), p=[0.7, 0.15, 0.05, 0.1])
    experiment = np.full((users, each), -1)
    variant = np.full((users, each), -1)
    kind[:, :exposures] = 4
    ts[:, :exposures] -= (ts[:, :exposures] - START_US) // 2  # people enter experiments earlier than they leave them
    experiment[:, :exposures] = np.argsort(rng.random((users, experiments)), axis=1)[:, :exposures]
    variant[:, :exposures] = (hashes[:, np.newaxis] >> (experiment[:, :exposures] % 60)) & 1
    order = np.argsort(ts, axis=1)
    kind, experiment, variant, ts = (
        np.take_along_axis(part, order, axis=1).ravel() for part in (kind, experiment, variant, ts)
    )
    bought, viewed = kind == 3, kind == 0
    moment = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "type": text(kind, list(TYPES)),
            "ts": pa.array(ts).cast(moment),
            "received_at": pa.array(ts + rng.integers(0, 5_000_000, rows)).cast(moment),
            "source": text(np.zeros(rows, np.int64), ["app"]),
            "user_id": pa.DictionaryArray.from_arrays(pa.array(user.astype(np.int32)), ids),
            "unit_hash": pa.array(hashes[user]),
            "unit_kind": pa.array(np.zeros(rows, np.int32)),
            "event_hash": pa.array(rng.integers(-(2**63), 2**63 - 1, rows)),
            "content_hash": pa.array(rng.integers(-(2**63), 2**63 - 1, rows)),
            "country": text(rng.integers(0, 30, rows), [f"C{number}" for number in range(30)]),
            "platform": text(rng.integers(0, 3, rows), ["ios", "android", "web"]),
            "experiment": text(experiment, [f"exp_{e:03d}" for e in range(experiments)]),
            "variant": text(variant, ["control", "treatment"]),
            "revenue": pa.array(np.round(rng.gamma(2.0, 20.0, rows), 2), mask=~bought),
            "items": pa.array(rng.integers(1, 6, rows), mask=~bought),
            "watch_ms": pa.array(rng.integers(100, 60_000, rows), mask=~viewed),
            "depth": pa.array(rng.random(rows), mask=~viewed),
        }
    )


def make_lake(folder: Path, *, users: int, experiments: int, exposures: int, events: int) -> IcebergLake:
    done = folder / "done.json"
    shape = {"users": users, "experiments": experiments, "exposures": exposures, "events": events}
    lake = IcebergLake(folder / "lake", clock=SystemClock())
    if done.exists() and json.loads(done.read_text()) == shape:
        return lake
    lake.ensure_columns(Definitions(properties=PROPERTIES).with_builtins())
    ids, hashes = users_in_order(users)
    rng = np.random.default_rng(7)
    step = max(1, FILE_ROWS // (exposures + events))
    files = []
    for start in range(0, users, step):
        part = slice(start, start + step)
        table = block(rng, ids[part], hashes[part], experiments, exposures, events)
        files.append(lake.write(table, sorted_run=1))
        say(f"\r  writing {min(start + step, users) / users:.0%}", end="")
    lake.commit(lambda _: Change(add=files, state=IngestState(watermarks_us={0: AS_OF_US})))
    rows, size = sum(file.rows for file in files), sum(file.bytes for file in files) / 1e9
    say(f"\r  wrote {rows:,} rows, {size:.2f} GB, {len(files)} files")
    done.write_text(json.dumps(shape))
    return lake


# --- DuckDB ------------------------------------------------------------------------------------------------------


def duckdb_query(files: list[str], experiment: ExperimentPlan) -> str:
    """One pass over the events for one experiment: exposures, totals a unit, then moments a variant."""
    totals: list[str] = []
    moments: list[str] = []
    for metric in experiment.metrics:
        window = "" if metric.window_us is None else f" AND e.ts < x.first + to_microseconds({metric.window_us})"
        closed = "" if metric.window_us is None else f" FILTER (first + to_microseconds({metric.window_us}) <= as_of)"
        for number, one in enumerate(metric.terms):
            name = f"{metric.name}_{number}"
            when = f"FILTER (e.type = '{one.event}'{window})"
            sums = {
                "sum": f"coalesce(sum(e.{one.value}) {when}, 0)",
                "count": f"count(e.ts) {when}",
                "any": f"least(count(e.ts) {when}, 1)",
            }
            totals.append(f"{sums[one.kind]}::DOUBLE AS {name}")
            moments += [f"avg({name}){closed}", f"var_samp({name}){closed}"]
        if len(metric.terms) == 2:
            moments.append(f"covar_samp({metric.name}_0, {metric.name}_1)")
    listed = ", ".join(f"'{file}'" for file in files)
    as_of = f"make_timestamptz({AS_OF_US})"
    return f"""
        WITH x AS (
            SELECT unit_hash, min(ts) AS first, min(variant) AS variant
            FROM read_parquet([{listed}])
            WHERE type = 'exposure' AND experiment = '{experiment.name}' AND unit_kind = 0 AND ts <= {as_of}
            GROUP BY unit_hash HAVING min(variant) = max(variant)
        ), e AS (
            SELECT unit_hash, ts, type, revenue, items, watch_ms, depth
            FROM read_parquet([{listed}]) WHERE type <> 'exposure' AND unit_kind = 0 AND ts <= {as_of}
        ), totals AS (
            SELECT x.unit_hash, x.first, x.variant, {as_of} AS as_of, {", ".join(totals)}
            FROM x LEFT JOIN e ON e.unit_hash = x.unit_hash AND e.ts >= x.first
            GROUP BY x.unit_hash, x.first, x.variant
        )
        SELECT variant, count(*), {", ".join(moments)} FROM totals GROUP BY variant ORDER BY variant
    """


def agree(answer: Aggregates, experiment: ExperimentPlan, found: list[tuple[Any, ...]]) -> float:
    """Return the largest relative difference between the engine's means, variances and counts and DuckDB's."""
    worst = 0.0
    result = answer.experiments[experiment.name]
    for variant, units, *numbers in found:
        if result.units[variant] != units:
            raise SystemExit(f"units of {variant}: {result.units[variant]} and {units}")
        given = iter(numbers)
        for metric in experiment.metrics:
            m = result.moments[metric.name][variant]
            expected = [value for k in range(m.k) for value in (m.mean[k], m.covariance()[k, k])]
            expected += [m.covariance()[0, 1]] if m.k == 2 else []
            for mine in expected:
                theirs = next(given)
                worst = max(worst, abs(mine - theirs) / max(abs(theirs), 1e-300))
    return worst


# --- runs --------------------------------------------------------------------------------------------------------


def say(line: str, end: str = "\n") -> None:
    sys.stdout.write(line + end)
    sys.stdout.flush()


def timed(lake: IcebergLake, plan: Plan, threads: int) -> tuple[Aggregates, float, float]:
    LocalEngine(lake, threads=threads).execute(plan_of(0))  # compiled code is loaded
    wall, cpu = time.perf_counter(), time.process_time()
    answer = LocalEngine(lake, threads=threads).execute(plan)
    return answer, time.perf_counter() - wall, time.process_time() - cpu


def portfolio(folder: Path, scale: float, threads: int) -> dict[str, Any]:
    lake = make_lake(folder, users=int(1_000_000 * scale), experiments=100, exposures=60, events=20)
    plan = plan_of(100)
    answer, wall, cpu = timed(lake, plan, threads)
    say(f"  engine: 100 experiments x 20 metrics in {wall:.2f} s, CPU {cpu:.2f} s, peak {peak_gb():.2f} GB")
    files = [file.path for file in lake.files()]
    connection = duckdb.connect(config={"threads": threads})
    connection.execute("SET TimeZone = 'UTC'")
    took: list[float] = []
    worst = 0.0
    for experiment in plan.experiments[:10]:
        began = time.perf_counter()
        found = connection.execute(duckdb_query(files, experiment)).fetchall()
        took.append(time.perf_counter() - began)
        worst = max(worst, agree(answer, experiment, found))
    duck = sum(took) / len(took) * len(plan.experiments)
    say(f"  DuckDB: {sum(took):.1f} s for 10 experiments, so {duck:.0f} s for 100: {duck / wall:.0f} times as long")
    say(f"  largest relative difference of counts, means, variances: {worst:.1e}")
    return {"engine_s": wall, "engine_cpu_s": cpu, "duckdb_s": duck, "difference": worst, "peak_gb": peak_gb()}


def single(folder: Path, scale: float, threads: int) -> dict[str, Any]:
    lake = make_lake(folder, users=int(4_000_000 * scale), experiments=1, exposures=1, events=25)
    answer, wall, cpu = timed(lake, plan_of(1), threads)
    units = sum(answer.experiments["exp_000"].units.values())
    say(f"  engine: one experiment x 20 metrics, {units:,} units in {wall:.2f} s, CPU {cpu:.2f} s")
    return {"engine_s": wall, "engine_cpu_s": cpu, "units": units, "peak_gb": peak_gb()}


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["portfolio", "single"])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=None, help="default: results/engine-WHAT.json beside this file")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    run = {"portfolio": portfolio, "single": single}[asked.what]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked.data or Path(temporary)) / f"{asked.what}-{asked.scale}"
        folder.mkdir(parents=True, exist_ok=True)
        say(f"{asked.what}: scale {asked.scale}, {asked.threads} threads")
        result = run(folder, asked.scale, asked.threads)
    report = {
        "benchmark": f"engine-{asked.what}",
        "machine": {
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        },
        "scale": asked.scale,
        "threads": asked.threads,
        "load_before": round(load, 2),
        "result": {
            name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in result.items()
        },
    }
    out = asked.out or Path(__file__).parent / "results" / f"engine-{asked.what}.json"
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    say(f"  written to {out}")


if __name__ == "__main__":
    main()
