"""One row a unit: robust regression against statsmodels, gaps, models, and frames of every make."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import statsmodels.api as sm

from groundswell.errors import InvalidInput, NotComputable
from groundswell.stats import (
    Clusters,
    Moments,
    Settings,
    analyse,
    clustered,
    compare,
    contrast,
    cupac,
    cuped,
    fill_missing,
    interacted_regression,
    post_stratify,
)


def world(seed: int = 0, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(5, 2, (n, 2))
    treated = rng.random(n) < 0.4
    y = x @ [1.0, -0.5] + treated * (0.3 + 0.2 * x[:, 0]) + rng.normal(0, 1 + treated, n)
    return y, treated, x


@pytest.mark.parametrize("errors", ["HC2", "HC3"])
def test_robust_errors_agree_with_statsmodels(errors):
    y, treated, x = world()

    pair = interacted_regression(y, treated, x, errors=errors)

    centred = x - x.mean(axis=0)
    design = sm.add_constant(np.column_stack([treated, centred, centred * treated[:, np.newaxis]]))
    theirs = sm.OLS(y, design).fit(cov_type=errors)
    assert pair.parts is not None
    assert pair.treatment.estimate is not None
    assert pair.baseline.estimate is not None
    assert pair.treatment.estimate - pair.baseline.estimate == pytest.approx(theirs.params[1], rel=1e-9)
    assert pair.parts[0][0] + pair.parts[1][0] == pytest.approx(theirs.bse[1] ** 2, rel=1e-9)
    # beside it stands what the covariates' estimated mean adds
    slope = theirs.params[4:6]
    assert pair.parts[2][0] == pytest.approx(float(slope @ np.cov(x.T) @ slope) / len(y), rel=1e-9)


def test_moments_and_units_tell_the_same_story():
    y, treated, x = world(n=5_000)

    units = contrast(interacted_regression(y, treated, x))

    from groundswell.stats import Adjustment

    table = np.column_stack([y, x])
    moments = contrast(
        cuped(Moments.of(table[treated]), Moments.of(table[~treated]), adjustment=Adjustment(theta="each"))
    )
    assert units.absolute.estimate == pytest.approx(moments.absolute.estimate, rel=1e-9)
    assert units.standard_error == pytest.approx(moments.standard_error, rel=0.01)
    assert units.relative.low == pytest.approx(moments.relative.low, rel=0.02)


def test_gaps_are_filled_and_marked():
    filled = fill_missing([[1.0, 5.0], [math.nan, 6.0], [3.0, 7.0]])

    assert filled.tolist() == [[1.0, 5.0, 0.0], [2.0, 6.0, 1.0], [3.0, 7.0, 0.0]]
    assert fill_missing([math.nan, math.nan]).tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_gaps_still_let_covariates_help():
    y, treated, x = world(n=4_000)
    gappy = x.copy()
    gappy[np.random.default_rng(1).random(len(y)) < 0.3, 0] = math.nan
    table = np.column_stack([y, fill_missing(gappy)])

    result = contrast(cuped(Moments.of(table[treated]), Moments.of(table[~treated])))

    assert 0.3 < (result.variance_reduction or 0) < 0.9


def test_a_models_prediction_beats_its_features_one_by_one():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(3_000, 6))
    y = features.sum(axis=1) + features[:, 0] ** 2 + rng.normal(size=3_000)
    treated = np.arange(3_000) % 2 == 0

    def forest(train: np.ndarray, target: np.ndarray, asked: np.ndarray) -> np.ndarray:
        design = np.column_stack([np.ones(len(train)), train, train**2])
        return np.column_stack([np.ones(len(asked)), asked, asked**2]) @ np.linalg.lstsq(design, target, rcond=None)[0]

    reductions: list[float] = []
    for covariate in (features[:, 0], cupac(features, y), cupac(features, y, model=forest)):
        table = np.column_stack([y, covariate])
        result = contrast(cuped(Moments.of(table[treated]), Moments.of(table[~treated])))
        reductions.append(result.variance_reduction or 0)
    assert reductions == sorted(reductions)
    assert reductions[-1] > 0.8


def test_predictions_are_out_of_fold():
    rng = np.random.default_rng(3)
    noise = rng.normal(size=200)

    def memory(train: np.ndarray, target: np.ndarray, asked: np.ndarray) -> np.ndarray:
        known = dict(zip(train[:, 0].tolist(), target.tolist(), strict=True))
        return np.array([known.get(a, 0.0) for a in asked[:, 0].tolist()])

    assert (cupac(np.arange(200.0), noise, model=memory) == 0).all()


FRAME = {
    "variant": ["control", "b", "c"] * 60,
    "spend": (np.arange(180) % 17 + (np.arange(180) % 3) * 0.5).tolist(),
    "orders": (np.arange(180) % 5 + 1.0).tolist(),
    "before": (np.arange(180) % 17 + np.arange(180) % 7).astype(float).tolist(),
    "country": (["se"] * 3 + ["no"] * 3) * 30,
    "home": [f"h{i // 6}" for i in range(180)],
}
ROWS = {k: np.array(v) for k, v in FRAME.items()}


@pytest.mark.parametrize("make", [lambda f: f, pd.DataFrame, pl.DataFrame, pa.table])
def test_frames_of_every_make_give_one_answer(make):
    frame: Any = make(FRAME)

    result = analyse(frame, "spend", covariates=["before"])

    assert set(result) == {"b", "c"}
    expected = analyse(FRAME, "spend", covariates=["before"])
    assert {k: v.p_value for k, v in result.items()} == {k: v.p_value for k, v in expected.items()}


def test_a_frame_is_only_a_way_in():
    b, c = ROWS["variant"] == "b", ROWS["variant"] == "control"
    y, x, d = ROWS["spend"], ROWS["before"], ROWS["orders"]

    def arms(*columns: np.ndarray, where: np.ndarray | None = None) -> tuple[Moments, Moments]:
        table = np.column_stack(columns)
        rows = np.ones(len(y), dtype=bool) if where is None else where
        return Moments.of(table[b & rows]), Moments.of(table[c & rows])

    pairs = [
        (analyse(FRAME, "spend"), compare(*arms(y))),
        (analyse(FRAME, "spend", denominator="orders"), compare(*arms(y, d))),
        (analyse(FRAME, "spend", covariates=["before"]), contrast(cuped(*arms(y, x)))),
        (
            analyse(FRAME, "spend", strata="country"),
            contrast(post_stratify([arms(y, where=ROWS["country"] == k) for k in ("no", "se")])),
        ),
        (
            analyse(FRAME, "spend", cluster="home"),
            contrast(clustered(*(Clusters.of_values(y[m], ROWS["home"][m]) for m in (b, c)))),
        ),
        (analyse(FRAME, "spend", settings=Settings(alpha=0.1)), compare(*arms(y), Settings(alpha=0.1))),
    ]
    for found, expected in pairs:
        assert found["b"].p_value == expected.p_value
        assert found["b"].absolute == expected.absolute


@pytest.mark.parametrize("make", [lambda f: f, pd.DataFrame, pl.DataFrame, pa.table])
@pytest.mark.parametrize("column", ["absent", "country"])
def test_a_column_that_is_not_there_or_no_number_is_named(make, column):
    with pytest.raises(InvalidInput, match=column):
        analyse(make(FRAME), column)


@pytest.mark.parametrize(
    "call",
    [
        lambda: analyse(FRAME, "spend", baseline="z"),
        lambda: analyse(FRAME | {"spend": [math.nan] * 180}, "spend"),
        lambda: analyse(FRAME, "spend", cluster="home", covariates=["before"]),
        lambda: interacted_regression([1.0, 2.0], [1, 0], [1.0, 2.0]),
        lambda: interacted_regression([1.0, math.nan], [True, False], [1.0, 2.0]),
        lambda: interacted_regression([1.0, 2.0], [True, False], [1.0, 2.0], errors="HC9"),  # type: ignore[arg-type]
        lambda: fill_missing([math.inf]),
        lambda: cupac([1.0, 2.0], [1.0, 2.0], folds=5),
    ],
)
def test_a_wrong_call_is_refused(call):
    with pytest.raises(InvalidInput):
        call()


def test_a_model_that_returns_nonsense_is_told():
    with pytest.raises(NotComputable, match="finite prediction"):
        cupac(np.arange(20.0), np.arange(20.0), model=lambda x, y, z: np.full(len(z), math.nan))


def test_too_few_units_say_so():
    result = contrast(interacted_regression([1.0, 2.0, 3.0, 4.0], [True, False, False, False], [1.0, 2.0, 4.0, 3.0]))

    assert "cannot carry" in (result.reason or "")
