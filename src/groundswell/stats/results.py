"""What statistics answer with: frozen, complete, and never NaN.

Invariants
    a number that cannot be computed is None, and ``reason`` says why in words a person can act on
    an interval is low <= estimate <= high; a bound that does not exist is None with its reason
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from groundswell.stats.contrasts import Settings
    from groundswell.stats.samples import Pair

__all__ = ["Alternative", "Comparison", "Effect", "Note"]

Alternative = Literal["two-sided", "greater", "less"]


class Note(NamedTuple):
    """A warning: ``code`` for programs, ``text`` for people (what is wrong and what to do)."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Effect:
    """An estimate and its interval. Whatever is None is explained by ``reason``."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two arms compared: the treatment against the baseline.

    Attributes:
        method: the test that gave ``p_value`` and the fixed-look intervals.
        treatment, baseline: each arm's own estimate with its interval.
        absolute: treatment minus baseline.
        relative: (treatment minus baseline) over baseline.
        p_value: of no difference (or of ``Settings.null``), valid at one planned look.
        relative_p_value: of no lift; the same as ``p_value`` for Fieller's interval.
        always_valid: interval of ``absolute`` that holds at every look at once.
        always_valid_relative: the same of ``relative``.
        always_valid_p: p-value that holds at every look.
        standard_error: of ``absolute``.
        variance_reduction: share of the difference's variance that an adjustment removed; None without one.
        degrees_of_freedom: of the reference t distribution; None where it is the normal.
        reason: why ``p_value`` is None.
        pair, settings: what was compared and how, so that it can be compared again at another level.
    """

    method: str
    alpha: float
    alternative: Alternative
    treatment_n: int
    baseline_n: int
    treatment: Effect
    baseline: Effect
    absolute: Effect
    relative: Effect
    p_value: float | None
    relative_p_value: float | None
    statistic: float | None
    degrees_of_freedom: float | None
    always_valid: Effect
    always_valid_relative: Effect
    always_valid_p: float | None
    standard_error: float | None
    variance_reduction: float | None
    assumptions: tuple[str, ...]
    warnings: tuple[Note, ...]
    reason: str | None = None
    pair: Pair | None = field(default=None, repr=False, compare=False)
    settings: Settings | None = field(default=None, repr=False, compare=False)
