"""Numbers, shares, times and names as a page shows them. Pure; what is unknown is a dash, never a zero."""

from __future__ import annotations

from typing import Final

from groundswell.model.clock import US_PER_S, format_us

__all__ = [
    "ago",
    "count",
    "day",
    "magnitude",
    "moment",
    "number",
    "p_value",
    "share",
    "signed",
    "signed_share",
    "words",
]

DASH: Final = "–"
MINUS: Final = "\N{MINUS SIGN}"
_MONTHS: Final = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_DAY_US: Final = 86_400 * US_PER_S


def count(value: int | None) -> str:
    """Return a whole number with its thousands apart.

    >>> count(8411702), count(None)
    ('8,411,702', '–')
    """
    return DASH if value is None else f"{value:,}".replace("-", MINUS)


def number(value: float | None, digits: int = 4) -> str:
    """Return a measurement to ``digits`` significant digits.

    >>> number(23.904), number(1234567.8), number(-0.0000312), number(0.0)
    ('23.90', '1,234,568', '−3.12e-05', '0')
    """
    if value is None:
        return DASH
    if value == 0:
        return "0"
    size = abs(float(f"{value:.{digits}g}"))  # 999.96 to four digits has four before the point, not three
    if size < 1e-4 or size >= 1e15:
        text = f"{value:.{digits - 2}e}"
    elif size >= 10 ** (digits - 1):
        text = f"{value:,.0f}"
    else:
        places = max(0, digits - 1 - magnitude(size))
        text = f"{value:,.{places}f}"
    return text.replace("-", MINUS, 1) if value < 0 else text


def magnitude(size: float) -> int:
    """Return the power of ten of the first digit of ``size`` > 0.

    >>> magnitude(950.0), magnitude(1.0), magnitude(0.02)
    (2, 0, -2)
    """
    return int(f"{size:e}".split("e")[1])


def signed(value: float | None, digits: int = 3) -> str:
    """Return a difference, with its sign.

    >>> signed(0.6312), signed(-2.5), signed(0.0)
    ('+0.631', '−2.50', '0')
    """
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 else text


def share(value: float | None, digits: int = 4) -> str:
    """Return a share in per cent.

    >>> share(0.1061), share(0.5, 3), share(0.0)
    ('10.61%', '50.0%', '0%')
    """
    return DASH if value is None else f"{number(100 * value, digits)}%"


def signed_share(value: float | None, digits: int = 3, unit: str = "%") -> str:
    """Return a difference in per cent, or in ``unit`` of hundredths.

    >>> signed_share(0.0416), signed_share(-0.0044, 2, " pp")
    ('+4.16%', '−0.44 pp')
    """
    return DASH if value is None else f"{signed(100 * value, digits)}{unit}"


def p_value(value: float | None) -> str:
    """Return a p-value with its relation.

    >>> p_value(0.0213), p_value(2e-23), p_value(None)
    ('= 0.0213', '< 0.0001', '–')
    """
    if value is None:
        return DASH
    return "< 0.0001" if value < 1e-4 else f"= {value:.3g}"


def moment(moment_us: int | None, now_us: int | None = None) -> str:
    """Return a time in UTC; the date is left out where it is that of ``now_us``.

    >>> moment(1768658700000000), moment(1768658700000000, 1768658851000000)
    ('17 Jan 2026, 14:05', '14:05')
    """
    if moment_us is None:
        return DASH
    clock = format_us(moment_us)[11:16]
    if now_us is not None and moment_us // _DAY_US == now_us // _DAY_US:
        return clock
    return f"{day(moment_us)}, {clock}"


def day(moment_us: int | None) -> str:
    """Return a date in UTC.

    >>> day(1768658700000000)
    '17 Jan 2026'
    """
    if moment_us is None:
        return DASH
    year, month, date = format_us(moment_us)[:10].split("-")
    return f"{int(date)} {_MONTHS[int(month) - 1]} {year}"


def ago(seconds: float | None) -> str:
    """Return a span in its two largest units.

    >>> ago(1.4), ago(151), ago(60), ago(11520), ago(180000), ago(0.012)
    ('1.4 s', '2 min 31 s', '1 min', '3 h 12 min', '2 d 2 h', '0.0 s')
    """
    if seconds is None:
        return DASH
    if seconds < 10 and seconds != int(seconds):
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    for size, name, smaller, smaller_name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name} {rest} {smaller_name}" if rest else f"{whole // size} {name}"
    return f"{whole} s"


def words(code: str) -> str:
    """Return a stable code as words.

    >>> words("two_variants")
    'two variants'
    """
    return code.replace("_", " ")
