"""Least squares from moments: the first variable on all others, with an intercept.

Formula: slopes solve Sxx b = Sxy, by Cholesky on the correlation scale (so that units of measurement do not matter);
a covariate that is a combination of those before it is left out and named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundswell.errors import InvalidInput, NotComputable
from groundswell.model.moments import Moments

__all__ = ["Regression", "independent_columns", "inverse_of", "regress", "slopes"]

Floats = NDArray[np.float64]

_COLLINEAR_R2 = 1.0 - 1e-10  # what of a covariate is not explained by the others is then rounding


@dataclass(frozen=True, slots=True)
class Regression:
    """Ordinary least squares. Index 0 of ``coefficients`` and ``standard_errors`` is the intercept."""

    coefficients: tuple[float, ...]
    standard_errors: tuple[float, ...]
    residual_sd: float
    degrees_of_freedom: int
    r_squared: float
    f_statistic: float | None
    left_out: tuple[int, ...]


def independent_columns(sxx: Floats) -> list[int]:
    """Return the indices of covariates that are neither constant nor a combination of those before them."""
    scale = np.sqrt(np.diag(sxx))
    kept: list[int] = []
    for j in range(len(scale)):
        if not scale[j] > 0.0:
            continue
        if kept:
            inner = sxx[np.ix_(kept, kept)] / np.outer(scale[kept], scale[kept])
            cross = sxx[kept, j] / (scale[kept] * scale[j])
            if float(cross @ np.linalg.solve(inner, cross)) > _COLLINEAR_R2:
                continue
        kept.append(j)
    return kept


def slopes(sxx: Floats, sxy: Floats) -> tuple[Floats, tuple[int, ...]]:
    """Return slopes, 0 where a covariate is left out, and the indices left out.

    ``sxx`` has shape (p, p); ``sxy`` (p,) or (p, outcomes).
    """
    kept = independent_columns(sxx)
    b = np.zeros_like(sxy)
    if kept:
        scale = np.sqrt(np.diag(sxx))[kept]
        inner = sxx[np.ix_(kept, kept)] / np.outer(scale, scale)
        shaped = scale if sxy.ndim == 1 else scale[:, np.newaxis]
        b[kept] = np.linalg.solve(inner, sxy[kept] / shaped) / shaped
    return b, tuple(j for j in range(len(sxx)) if j not in kept)


def inverse_of(sxx: Floats) -> Floats:
    """Return the inverse of ``sxx`` on its independent columns, 0 elsewhere; scaled, so that units do not matter."""
    kept = independent_columns(sxx)
    inverse = np.zeros_like(sxx)
    if kept:
        scale = np.sqrt(np.diag(sxx))[kept]
        outer = np.outer(scale, scale)
        inverse[np.ix_(kept, kept)] = np.linalg.inv(sxx[np.ix_(kept, kept)] / outer) / outer
    return inverse


def regress(moments: Moments) -> Regression:
    """Regress variable 0 on variables 1, 2, ... of ``moments``.

    Raises:
        NotComputable: there are no more units than coefficients, or the moments are not finite.
    """
    if moments.k < 2:
        raise InvalidInput("moments.k", moments.k, "must be >= 2: an outcome and at least one covariate")
    if not (np.isfinite(moments.m2).all() and np.isfinite(moments.mean).all()):
        raise NotComputable("the moments are not finite: a value was NaN or infinite, or a sum overflowed")
    sxx, sxy, syy = moments.m2[1:, 1:], moments.m2[1:, 0], float(moments.m2[0, 0])
    b, left_out = slopes(sxx, sxy)
    kept = [j for j in range(len(b)) if j not in left_out]
    df = moments.count - len(kept) - 1
    if df < 1:
        raise NotComputable(f"{moments.count} units cannot carry {len(kept) + 1} coefficients; wait for more units")
    residual = syy - 2.0 * float(b @ sxy) + float(b @ sxx @ b)
    variance = max(0.0, residual) / df
    inverse = inverse_of(sxx)
    means = moments.mean + moments.mean_low
    at_zero = variance * (1.0 / moments.count + float(means[1:] @ inverse @ means[1:]))
    explained = float(b @ sxy)
    return Regression(
        coefficients=(float(means[0] - b @ means[1:]), *b.tolist()),
        standard_errors=(math.sqrt(at_zero), *np.sqrt(variance * np.diag(inverse)).tolist()),
        residual_sd=math.sqrt(variance),
        degrees_of_freedom=df,
        r_squared=explained / syy if syy > 0.0 else 0.0,
        f_statistic=explained / len(kept) / variance if variance > 0.0 and kept else None,
        left_out=left_out,
    )
