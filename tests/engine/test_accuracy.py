"""Moments keep their digits: NIST's certified values through the engine, which merges units in no order of theirs."""

from __future__ import annotations

import csv
import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundswell.engine.local import LocalEngine
from groundswell.model.moments import Moments
from groundswell.model.plan import Plan
from groundswell.testing.lake import MemoryLake

NIST = Path(__file__).parents[2] / "../shared/data/nist"
pytestmark = pytest.mark.skipif(not NIST.exists(), reason="../shared/data/nist is absent")

DIGITS_MIN = 8.5
ANALYSES = ["AtmWtAg.dat", "SiRstv.dat", *(f"SmLs0{n}.dat{'.gz' if n in {3, 6} else ''}" for n in range(1, 7))]


def digits(found: float, certified: float) -> float:
    error = abs(found - certified) / abs(certified)
    return 15.0 if error == 0 else -math.log10(error)


def moments_of(world: Any, values: list[tuple[str, float]]) -> dict[str, Moments]:
    """Return the engine's moments of each group of values: a unit a value, one purchase each."""
    groups = tuple(dict.fromkeys(group for group, _ in values))
    rows: list[Any] = []
    for number, (group, value) in enumerate(values):
        rows += [world.exposure(f"u{number}", group, 1), world.purchase(f"u{number}", 2, value)]
    lake = world.fill(MemoryLake(), [(world.table(rows), 0)])
    plan = world.plan(world.REVENUE, variants=groups)
    return LocalEngine(lake, range_rows=2_000).execute(Plan((plan,))).experiments["exp"].moments["revenue"]


def analysis_of(name: str) -> tuple[list[tuple[str, float]], float]:
    """Return the values of an analysis of variance by treatment, and its certified residual standard deviation."""
    opened = gzip.open if name.endswith(".gz") else open
    with opened(NIST / name, "rt", encoding="ascii") as file:
        lines = file.read().splitlines()
    place = next(number for number, line in enumerate(lines) if line.split()[:2] == ["Standard", "Deviation"])
    first = next(number for number, line in enumerate(lines) if line.startswith("Data:") and number > place)
    pairs = [line.split() for line in lines[first + 1 :] if line.strip()]
    return [(treatment, float(value)) for treatment, value in pairs], float(lines[place].split()[-1])


@pytest.mark.parametrize("name", ["NumAcc1", "NumAcc2", "NumAcc3"])
def test_mean_and_deviation_have_their_certified_digits(world: Any, name: str) -> None:
    values = [float(line) for line in (NIST / f"{name}.txt").read_text(encoding="ascii").split()]
    with (NIST / "CERTIFIED.csv").open(encoding="ascii", newline="") as file:
        certified = {row["name"]: row for row in csv.DictReader(file)}[name]

    moments = moments_of(world, [("control", value) for value in values])["control"]

    assert moments.count == len(values)
    assert digits(moments.mean[0], float(certified["mean"])) >= DIGITS_MIN
    assert digits(math.sqrt(moments.covariance()[0, 0]), float(certified["sd"])) >= DIGITS_MIN


@pytest.mark.parametrize("name", ANALYSES)
def test_residuals_of_an_analysis_of_variance_have_their_certified_digits(world: Any, name: str) -> None:
    values, certified = analysis_of(name)

    by_treatment = moments_of(world, values)

    within = sum(moments.m2[0, 0] for moments in by_treatment.values())
    assert sum(moments.count for moments in by_treatment.values()) == len(values)
    assert digits(math.sqrt(within / (len(values) - len(by_treatment))), certified) >= DIGITS_MIN


@pytest.mark.parametrize("name", ["SmLs06.dat.gz", "SmLs03.dat.gz"])
def test_merged_moments_are_those_of_one_pass(world: Any, name: str) -> None:
    values, _ = analysis_of(name)

    by_treatment = moments_of(world, values)

    for treatment, merged in by_treatment.items():
        alone = Moments.of([value for group, value in values if group == treatment])
        scale = abs(alone.mean[0]) + math.sqrt(alone.covariance()[0, 0])
        assert abs(merged.mean[0] - alone.mean[0]) <= 1e-12 * scale
        assert abs(math.sqrt(merged.m2[0, 0]) - math.sqrt(alone.m2[0, 0])) <= 1e-12 * scale
        np.testing.assert_allclose(merged.m4, alone.m4, rtol=1e-6)
