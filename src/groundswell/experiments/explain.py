"""Why did this number change? The way from one snapshot's scorecard to another's, in steps that each change one thing.

definitions   the old snapshot, counted under today's definitions
late events   what arrived since, with a time that the old scorecard already covered; duplicates found since, too
new time      what happened after the old scorecard's ``as_of``
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from groundswell.experiments.scorecard import MetricResult, Scorecard
from groundswell.experiments.text import number

__all__ = ["Explanation", "Step", "explanation_text"]

Cause = Literal["definitions", "late events", "new time"]


@dataclass(frozen=True, slots=True)
class Step:
    """One cause, and the scorecard after it."""

    cause: Cause
    after: Scorecard


@dataclass(frozen=True, slots=True)
class Explanation:
    """From ``before`` through ``steps``; the last step's scorecard is today's."""

    before: Scorecard
    steps: tuple[Step, ...]


def explanation_text(explained: Explanation) -> str:
    """Return what each step changed, one line a metric and variant that changed."""
    before = explained.before
    last = explained.steps[-1].after
    lines = [
        f"{before.experiment}: from snapshot {before.snapshot_id} to snapshot {last.snapshot_id}",
        f"as of {before.as_of} to {last.as_of}, definitions {before.definitions_version} to {last.definitions_version}",
    ]
    previous = before
    for step in explained.steps:
        changed = _changes(previous, step.after)
        lines.append(f"{step.cause}:" + ("" if changed else " nothing changed"))
        lines.extend(f"  {line}" for line in changed)
        previous = step.after
    return "\n".join(lines)


def _changes(before: Scorecard, after: Scorecard) -> list[str]:
    lines = [f"alpha: {before.alpha:g} -> {after.alpha:g}"] if before.alpha != after.alpha else []
    lines += [
        f"excluded, {reason.replace('_', ' ')}: {before.excluded.get(reason, 0):,} -> {count:,}"
        for reason, count in after.excluded.items()
        if before.excluded.get(reason, 0) != count
    ]
    lines += [
        f"units of {variant}: {before.units.get(variant, 0):,} -> {count:,}"
        for variant, count in after.units.items()
        if before.units.get(variant, 0) != count
    ]
    old = {(result.metric, result.variant): result for result in before.results}
    now = {(result.metric, result.variant) for result in after.results}
    lines += [f"{metric}/{variant}: no longer measured" for metric, variant in old if (metric, variant) not in now]
    for result in after.results:
        was = old.get((result.metric, result.variant))
        if was is None:
            lines.append(f"{result.metric}/{result.variant}: new")
        else:
            lines.extend(_differences(was, result))
    return lines


def _differences(was: MetricResult, now: MetricResult) -> list[str]:
    pairs = (
        ("units", was.n, now.n),
        ("mean", was.mean, now.mean),
        ("baseline units", was.baseline_n, now.baseline_n),
        ("baseline mean", was.baseline_mean, now.baseline_mean),
        ("difference", was.absolute.estimate, now.absolute.estimate),
        ("always-valid from", was.always_valid.low, now.always_valid.low),
        ("always-valid to", was.always_valid.high, now.always_valid.high),
    )
    return [
        f"{now.metric}/{now.variant}: {name} {number(before, 6)} -> {number(after, 6)}"
        for name, before, after in pairs
        if before != after
    ]
