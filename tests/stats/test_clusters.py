"""Clustered arms against CR2 and Bell & McCaffrey written out with matrices, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import linalg

from groundswell.errors import InvalidInput
from groundswell.stats import Clusters, Moments, clustered, compare, contrast, wild_bootstrap


def world(seed: int, k: int = 9, effect: float = 0.0, sd: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values, cluster labels and arms of 2 k clusters of unequal size."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 12, 2 * k)
    label = np.repeat(np.arange(2 * k), sizes)
    shared = rng.normal(0, sd, 2 * k)
    treated = label < k
    return shared[label] + rng.normal(size=len(label)) + effect * treated, label, treated


def arms(y: np.ndarray, label: np.ndarray, treated: np.ndarray) -> tuple[Clusters, Clusters]:
    return Clusters.of_values(y[treated], label[treated]), Clusters.of_values(y[~treated], label[~treated])


def by_matrices(y: np.ndarray, label: np.ndarray, treated: np.ndarray) -> tuple[float, float, float]:
    """Return difference, CR2 standard error and degrees of freedom, from their definitions."""
    x = np.column_stack([np.ones(len(y)), treated]).astype(float)
    bread = np.linalg.inv(x.T @ x)
    hat = x @ bread @ x.T
    residual = y - hat @ y
    c = np.array([0.0, 1.0])
    scores, columns = [], []
    for g in np.unique(label):
        rows = label == g
        root = np.linalg.pinv(np.real(linalg.sqrtm(np.eye(rows.sum()) - hat[np.ix_(rows, rows)])))
        weights = c @ bread @ x[rows].T @ root
        scores.append(float(weights @ residual[rows]))
        columns.append((np.eye(len(y)) - hat)[:, rows] @ weights)
    m = np.array(columns) @ np.array(columns).T
    return float(bread[1] @ x.T @ y), math.sqrt(sum(s * s for s in scores)), np.trace(m) ** 2 / np.trace(m @ m)


@pytest.mark.parametrize("seed", range(4))
def test_variance_and_degrees_of_freedom_follow_their_definitions(seed):
    data = world(seed, k=4 + seed)

    result = contrast(clustered(*arms(*data)))

    difference, error, df = by_matrices(*data)
    assert result.absolute.estimate == pytest.approx(difference, rel=1e-9)
    assert result.standard_error == pytest.approx(error, rel=1e-7)
    assert result.degrees_of_freedom == pytest.approx(df, rel=1e-7)


def test_clusters_of_one_are_welchs_test():
    rng = np.random.default_rng(1)
    t, c = rng.normal(size=40), rng.normal(size=30)

    result = contrast(clustered(Clusters.of(t, np.ones(40)), Clusters.of(c, np.ones(30))))

    assert result.standard_error == pytest.approx(compare(Moments.of(t), Moments.of(c)).standard_error, rel=1e-9)


def test_few_clusters_are_pointed_out():
    result = contrast(clustered(*arms(*world(0, k=5))))

    assert [note.code for note in result.warnings] == ["few-clusters"]


def test_the_wild_interval_agrees_with_its_p_value():
    for seed, effect in ((0, 0.0), (1, 1.2), (2, 3.0)):
        result = wild_bootstrap(*arms(*world(seed, effect=effect)), draws=999)

        assert result.p_value is not None
        assert result.absolute.low is not None
        assert result.absolute.high is not None
        assert (result.absolute.low > 0 or result.absolute.high < 0) is (result.p_value < 0.05)


def test_few_signs_are_all_used_and_very_few_clusters_take_webbs_weights():
    many, few = wild_bootstrap(*arms(*world(0, k=6)), draws=9_999), wild_bootstrap(*arms(*world(0, k=4)))

    assert (many.exhaustive, many.draws, many.seed) == (True, 2**12, None)
    assert "Webb" in few.method
    assert few == wild_bootstrap(*arms(*world(0, k=4)))


def test_size_is_kept_where_a_plain_test_errs_by_simulation():
    runs, wrong = 600, {"clustered": 0, "plain": 0}
    for seed in range(runs):
        y, label, treated = world(seed + 100, k=10)
        for name, result in (
            ("clustered", contrast(clustered(*arms(y, label, treated)))),
            ("plain", compare(Moments.of(y[treated]), Moments.of(y[~treated]))),
        ):
            assert result.p_value is not None
            wrong[name] += result.p_value <= 0.05

    assert wrong["clustered"] / runs <= 0.05 + 4 * math.sqrt(0.0475 / runs)
    assert wrong["plain"] / runs > 0.2


def test_the_wild_bootstrap_keeps_its_size_with_six_clusters_by_simulation():
    runs, wrong = 250, 0
    for seed in range(runs):
        data = arms(*world(seed + 5_000, k=3))
        t, c = data
        n = np.concatenate([t.sizes, c.sizes])
        assert len(n) == 6
        result = wild_bootstrap(*data, draws=399, seed=seed)
        wrong += result.p_value is not None and result.p_value <= 0.05

    assert wrong / runs <= 0.05 + 4 * math.sqrt(0.0475 / runs)


def test_one_cluster_has_no_variance():
    one = Clusters.of([3.0], [2.0])
    two = Clusters.of([3.0, 4.0], [2.0, 2.0])

    assert "one cluster" in (contrast(clustered(one, two)).reason or "")
    assert "fewer than 2 clusters" in (wild_bootstrap(one, two).reason or "")


@pytest.mark.parametrize(
    "call",
    [
        lambda: Clusters.of([1.0, 2.0], [1.0]),
        lambda: Clusters.of([1.0], [-1.0]),
        lambda: Clusters.of([math.nan], [1.0]),
        lambda: Clusters.of([1.0], [0.0]),
        lambda: Clusters.of_values([1.0, 2.0], ["a"]),
    ],
)
def test_wrong_clusters_are_refused(call):
    with pytest.raises(InvalidInput):
        call()
