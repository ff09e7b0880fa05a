"""A scorecard as plain text, for terminals and for docs.

The sample ratio comes first and loud; the interval to act on now stands beside the estimate.
"""

from __future__ import annotations

from collections.abc import Sequence

from groundswell.experiments.scorecard import MetricResult, Scorecard

__all__ = ["number", "scorecard_text"]


def scorecard_text(card: Scorecard) -> str:
    """Return the scorecard in lines of at most 120 characters or so."""
    return "\n".join([*_head(card), "", *_table(card), *_foot(card)])


def number(value: float | None, digits: int = 4) -> str:
    """Return a number in few characters, a dash where there is none.

    >>> number(0.0765901), number(12345.678), number(None)
    ('0.07659', '12,346', '–')
    """
    if value is None:
        return "–"
    if value != 0 and abs(value) < 1e-4:
        return f"{value:.{digits - 1}g}"
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def _head(card: Scorecard) -> list[str]:
    units = ", ".join(f"{variant} {count:,}" for variant, count in card.units.items())
    lines = [f"{card.experiment}  ({card.status.replace('_', ' ')}, as of {card.as_of})", f"units: {units}"]
    excluded = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in card.excluded.items() if count)
    if excluded:
        lines.append(f"excluded: {excluded}")
    lines.append(_sample_ratio(card))
    behind = card.completeness.partitions_behind
    lines.append(f"data to {card.completeness.data_to}" + (f", {behind} partitions behind" if behind else ""))
    return lines


def _sample_ratio(card: Scorecard) -> str:
    srm = card.srm
    if srm.ok is None:
        return f"sample ratio: not tested: {srm.reason}"
    if srm.ok:
        return f"sample ratio: ok (p = {number(srm.p_value, 3)})"
    if srm.reason is not None:
        return (
            f"SAMPLE RATIO MISMATCH before exclusion (p = {number(srm.before_exclusion_p_value, 3)}): {srm.reason}. "
            "Do not decide on these numbers; find out why first."
        )
    expected = ", ".join(f"{variant} {count:,.0f}" for variant, count in srm.expected.items())
    return (
        f"SAMPLE RATIO MISMATCH (p = {number(srm.p_value, 3)}; expected {expected}): the groups are not comparable. "
        "Do not decide on these numbers; find out who is missing first."
    )


def _table(card: Scorecard) -> list[str]:
    level = f"{100 * (1 - card.alpha):g}%"
    header = ("metric", "variant", "units", "baseline", "variant mean", "difference", f"always-valid {level}",
              f"fixed {level}", "relative", "t", "p")  # fmt: skip
    rows = [_row(result) for result in card.results]
    return _aligned([header, *rows])


def _row(result: MetricResult) -> tuple[str, ...]:
    relative = result.relative.estimate
    return (
        result.metric,
        result.variant,
        f"{result.n:,}",
        number(result.baseline_mean, 6),
        number(result.mean, 6),
        number(result.absolute.estimate, 6),
        _interval(result.always_valid.low, result.always_valid.high),
        _interval(result.absolute.low, result.absolute.high),
        "–" if relative is None else f"{100 * relative:+.1f}%",
        number(result.statistic, 4),
        number(result.p_value, 3),
    )


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None and high is None else f"[{number(low, 3)}, {number(high, 3)}]"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines: list[str] = []
    for index, row in enumerate(rows):
        cells = [cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in
                 enumerate(zip(row, widths, strict=True))]  # fmt: skip
        lines.append("  ".join(cells).rstrip())
        if index == 0:
            lines.append("  ".join("─" * width for width in widths))
    return lines


def _foot(card: Scorecard) -> list[str]:
    intervals = [result.always_valid.low for result in card.results]
    if card.shown == "always_valid" and intervals and all(low is None for low in intervals):
        return ["", "no interval to act on yet", *_reasons(card), *_warnings(card), _again(card)]
    act = (
        "act on the always-valid interval: it holds however often one looks"
        if card.shown == "always_valid"
        else "ended as planned, every window has closed: the fixed interval holds for this one look"
    )
    lines = ["", act]
    lines.extend(_reasons(card))
    lines.extend(_warnings(card))
    lines.append(_again(card))
    return lines


def _again(card: Scorecard) -> str:
    return f"again, to the same numbers: {card.recompute}"


def _reasons(card: Scorecard) -> list[str]:
    """Return each reason once, with the results that lack something for it."""
    where: dict[str, list[str]] = {}
    for result in card.results:
        for field, reason in result.reasons.items():
            where.setdefault(reason, []).append(f"{result.metric}/{result.variant} {field.replace('_', ' ')}")
    return [f"not computed, {reason}: {', '.join(places)}" for reason, places in where.items()]


def _warnings(card: Scorecard) -> list[str]:
    """Return one line a kind of warning with its metrics; the JSON has each warning beside its result."""
    first: dict[str, str] = {}
    metrics: dict[str, list[str]] = {}
    for result in card.results:
        for warning in result.warnings:
            code, _, text = warning.partition(": ")
            first.setdefault(code, text)
            if result.metric not in metrics.setdefault(code, []):
                metrics[code].append(result.metric)
    return [f"warning, {code.replace('_', ' ')}, {', '.join(metrics[code])}: {text}" for code, text in first.items()]
