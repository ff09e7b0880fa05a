"""Where a monotone function meets a target: Chandrupatla's method, bracketed, so that it cannot run away.

Formula: Chandrupatla (1997), "A new hybrid quadratic/bisection algorithm", Adv. Eng. Software 28.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["solve"]

_STEPS_MAX = 200


def solve(f: Callable[[float], float], low: float, high: float, *, tolerance: float = 1e-12) -> float:
    """Return a root of ``f`` between ``low`` and ``high``, to ``tolerance`` relative to its size (or absolute below 1).

    Where ``f`` has one sign throughout, the end nearer to zero is returned.
    """
    a, b = low, high
    fa, fb = f(a), f(b)
    if fa == 0.0 or fb == 0.0 or (fa > 0.0) is (fb > 0.0):
        return a if abs(fa) <= abs(fb) else b
    t = 0.5
    for _ in range(_STEPS_MAX):
        x = a + t * (b - a)
        fx = f(x)
        if (fx > 0.0) is (fa > 0.0):
            c, fc = a, fa
        else:
            c, fc = b, fb
            b, fb = a, fa
        a, fa = x, fx
        best, f_best = (a, fa) if abs(fa) < abs(fb) else (b, fb)
        reach = tolerance * max(1.0, abs(best))
        width = abs(b - a)
        if f_best == 0.0 or width <= 2.0 * reach:
            return best
        xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
        if phi * phi < xi and (1.0 - phi) ** 2 < 1.0 - xi:
            t = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        else:
            t = 0.5
        edge = reach / width
        t = min(1.0 - edge, max(edge, t))
    return a
