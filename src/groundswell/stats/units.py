"""What needs one row a unit: robust regression, covariates with gaps, a covariate made by a model.

Formulas
    Lin's interacted regression with HC2 or HC3 errors (Lin 2013; MacKinnon & White 1985), and the term of the
    covariates' mean, which is estimated as well
    missing covariates: filled with the mean of what is known, with an indicator of the gap beside them; both are fixed
    before exposure, so that this biases nothing (Zhao & Ding 2022)
    CUPAC (Tang, Huang, Kastelman & Bauman 2020) and MLRATE (Guo et al. 2021, NeurIPS): predictions made out of fold, so
    that no unit's outcome predicts itself
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from groundswell.errors import InvalidInput, NotComputable
from groundswell.stats.regression import independent_columns
from groundswell.stats.results import Note
from groundswell.stats.samples import Pair, Reference, Sample

__all__ = ["cupac", "fill_missing", "interacted_regression", "ridge"]

Floats = NDArray[np.float64]
Model = Callable[[Floats, Floats, Floats], Floats]


def interacted_regression(
    outcome: ArrayLike, treated: ArrayLike, covariates: ArrayLike, *, errors: Literal["HC2", "HC3"] = "HC2"
) -> Pair:
    """Return both arms' means adjusted by Lin's regression, for ``contrast``, with heteroskedasticity-robust errors.

    ``outcome`` has shape (n,), ``treated`` (n,) of booleans, ``covariates`` (n,) or (n, p) without gaps.
    """
    if errors not in ("HC2", "HC3"):
        raise InvalidInput("errors", errors, "must be HC2 or HC3")
    y, x = _rows(outcome, covariates)
    arm = np.asarray(treated)
    if arm.shape != y.shape or arm.dtype != np.bool_:
        raise InvalidInput("treated", (arm.shape, str(arm.dtype)), f"must be booleans of shape {y.shape}")
    centred = x - x.mean(axis=0)
    scatter = centred.T @ centred
    kept = independent_columns(scatter)
    centred = centred[:, kept]
    notes = tuple(
        Note("covariate-left-out", f"covariate {j + 1} is constant or a combination of the others: it changes nothing")
        for j in range(x.shape[1])
        if j not in kept
    )
    fits = []
    for member in (arm, ~arm):
        n = int(member.sum())
        if n < len(kept) + 2:
            reason = f"{n} units cannot carry {len(kept)} covariates; wait for more units"
            nothing = Sample(n, None, None, reason=reason)
            return Pair(nothing, nothing, notes=notes)
        fits.append(_fit(y[member], centred[member], errors))
    (a_t, slope_t, v_t), (a_c, slope_c, v_c) = fits
    spread = centred.T @ centred / (len(y) - 1.0) / len(y)
    gap = slope_t - slope_c
    shared = float(gap @ spread @ gap)
    p = len(kept)
    n_t, n_c = int(arm.sum()), int((~arm).sum())
    v_mean = float(slope_c @ spread @ slope_c)
    return Pair(
        Sample(n_t, a_t, (v_t + float(slope_t @ spread @ slope_t)) * n_t, n_t - 1.0 - p),
        Sample(n_c, a_c, (v_c + v_mean) * n_c, n_c - 1.0 - p),
        parts=((v_t, n_t - 1.0 - p), (v_c, n_c - 1.0 - p), (shared, len(y) - 1.0)),
        reference=Reference(a_c, v_c + v_mean, float(slope_t @ spread @ slope_c) - v_mean - v_c),
        adjustment=f"Lin's interacted regression on {p} covariates, {errors} errors",
        variance_reduction=_reduction(y, arm, v_t + v_c + shared),
        notes=notes,
    )


def fill_missing(covariates: ArrayLike) -> Floats:
    """Return covariates, shape (n, p), with gaps (NaN) filled and one indicator column for each that had any.

    Give the result to ``cuped`` or ``interacted_regression``; a unit never seen before is then a unit with gaps.
    """
    x = np.asarray(covariates, dtype=np.float64)
    x = x[:, np.newaxis] if x.ndim == 1 else x
    if x.ndim != 2:
        raise InvalidInput("covariates", x.shape, "must have shape (n,) or (n, p)")
    if np.isinf(x).any():
        raise InvalidInput("covariates", float("inf"), "must be finite, or NaN where missing")
    missing = np.isnan(x)
    filled = x.copy()
    for j in np.flatnonzero(missing.any(axis=0)):
        known = x[~missing[:, j], j]
        filled[missing[:, j], j] = known.mean() if len(known) else 0.0
    return np.column_stack([filled, missing[:, missing.any(axis=0)].astype(np.float64)])


def ridge(features: Floats, target: Floats, asked: Floats) -> Floats:
    """Predict ``target`` at ``asked`` by ridge regression on standardised features: the default model of ``cupac``."""
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 0.0, scale, 1.0)
    x = (features - centre) / scale
    penalty = _RIDGE * len(x)
    coefficients = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (target - target.mean()))
    return target.mean() + (asked - centre) / scale @ coefficients


def cupac(features: ArrayLike, target: ArrayLike, *, model: Model = ridge, folds: int = 5, seed: int = 0) -> Floats:
    """Return predictions of ``target``, shape (n,), each by a model that has not seen its unit: a covariate.

    ``model`` takes (features, target, features asked for) and returns predictions. ``features`` must be known before
    exposure and must not tell the arm.

    Raises:
        NotComputable: the model returned something that is not one finite number a unit.
    """
    y, x = _rows(target, features)
    if not 2 <= folds <= len(y):
        raise InvalidInput("folds", folds, f"must be between 2 and the number of units ({len(y)})")
    fold = np.random.default_rng(seed).permutation(len(y)) % folds
    out = np.empty(len(y))
    for k in range(folds):
        here = fold == k
        predicted = np.asarray(model(x[~here], y[~here], x[here]), dtype=np.float64)
        if predicted.shape != (int(here.sum()),) or not np.isfinite(predicted).all():
            raise NotComputable("the model did not return one finite prediction a unit")
        out[here] = predicted
    return out


def _fit(y: Floats, x: Floats, errors: str) -> tuple[float, Floats, float]:
    """Return an arm's intercept, slopes, and the robust variance of the intercept."""
    design = np.column_stack([np.ones(len(y)), x])
    q, r = np.linalg.qr(design)
    coefficients = np.linalg.solve(r, q.T @ y)
    residual = y - design @ coefficients
    leverage = (q * q).sum(axis=1)
    loss = np.maximum(1.0 - leverage, _LEVERAGE_LEFT)
    residual = residual / (np.sqrt(loss) if errors == "HC2" else loss)
    # the intercept's own row of the inverse: how much each unit moves it
    weight = q @ np.linalg.solve(r.T, np.eye(design.shape[1])[0])
    slopes = np.asarray(coefficients[1:], dtype=np.float64)
    return float(coefficients[0]), slopes, float(((weight * residual) ** 2).sum())


def _reduction(y: Floats, arm: NDArray[np.bool_], adjusted: float) -> float | None:
    raw = sum(float(y[m].var(ddof=1)) / int(m.sum()) for m in (arm, ~arm))
    return 1.0 - adjusted / raw if raw > 0.0 else None


def _rows(outcome: ArrayLike, covariates: ArrayLike) -> tuple[Floats, Floats]:
    y, x = np.asarray(outcome, dtype=np.float64), np.asarray(covariates, dtype=np.float64)
    x = x[:, np.newaxis] if x.ndim == 1 else x
    if y.ndim != 1 or x.ndim != 2 or len(x) != len(y):
        raise InvalidInput("covariates", x.shape, f"must have one row for each of the outcomes {y.shape}")
    if not (np.isfinite(y).all() and np.isfinite(x).all()):
        raise InvalidInput("covariates", "NaN or infinite", "must be finite", next_step="use fill_missing for gaps")
    return y, x


_RIDGE = 1e-3  # of the number of units: enough to tame collinear features, little enough to bend nothing else
_LEVERAGE_LEFT = 1e-9  # a unit that alone decides a coefficient has no residual of its own
