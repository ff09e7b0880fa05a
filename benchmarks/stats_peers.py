"""The same comparisons by another library, in an environment of its own; called by stats.py.

    python benchmarks/stats_peers.py gbstats|tea-tasting INPUT.npz OUTPUT.npz

Timed is the loop over comparisons with the library's own statistics objects made beforehand.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np


def by_gbstats(data: Any) -> tuple[list[tuple[float, float, float]], float]:
    from gbstats.frequentist.tests import FrequentistConfig, TwoSidedTTest
    from gbstats.models.statistics import SampleMeanStatistic

    config = FrequentistConfig(difference_type="absolute")
    arms = [
        [
            SampleMeanStatistic(n=int(n), sum=float(n * m), sum_squares=float(s + n * m * m))
            for n, m, s in zip(data[f"count_{arm}"], data[f"mean_{arm}"], data[f"m2_{arm}"], strict=True)
        ]
        for arm in "ct"
    ]
    begin = time.process_time()
    results = [TwoSidedTTest(c, t, config).compute_result() for c, t in zip(*arms, strict=True)]
    spent = time.process_time() - begin
    return [(r.p_value, *r.ci) for r in results], spent


def by_tea_tasting(data: Any) -> tuple[list[tuple[float, float, float]], float]:
    import tea_tasting as tt
    from tea_tasting.aggr import Aggregates

    metric = tt.Mean("y")
    arms = [
        [
            Aggregates(count_=int(n), mean_={"y": float(m)}, var_={"y": float(s / (n - 1))})
            for n, m, s in zip(data[f"count_{arm}"], data[f"mean_{arm}"], data[f"m2_{arm}"], strict=True)
        ]
        for arm in "ct"
    ]
    begin = time.process_time()
    results = [metric.analyze({0: c, 1: t}, 0, 1) for c, t in zip(*arms, strict=True)]
    spent = time.process_time() - begin
    return [(r.pvalue, r.effect_size_ci_lower, r.effect_size_ci_upper) for r in results], spent


def main() -> None:
    library, source, target = sys.argv[1:]
    answer, spent = {"gbstats": by_gbstats, "tea-tasting": by_tea_tasting}[library](np.load(source))
    np.savez(target, answer=np.array(answer), spent=spent)


if __name__ == "__main__":
    main()
