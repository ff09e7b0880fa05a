"""Which snapshots go and when their files may follow: rules that every lake shares."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from groundswell import limits
from groundswell.errors import InvalidInput

__all__ = ["Life", "check_tag", "expiring", "files_due_us"]

_US_PER_S: Final = 1_000_000
_KEPT_MAX: Final = limits.live_snapshots_max * 4 // 5  # so that a fifth may be committed before the next expiry


class Life(NamedTuple):
    """A snapshot and when another took its place; None for the current one."""

    snapshot_id: int
    replaced_us: int | None


def expiring(lives: Sequence[Life], tagged: AbstractSet[int], now_us: int) -> list[Life]:
    """Return the snapshots to expire: replaced longer ago than readers may use them, or more than may live.

    Args:
        lives: live snapshots, oldest first.
        tagged: snapshots that stay.
        now_us: the time.
    """
    oldest_us = now_us - limits.snapshot_age_s_min * _US_PER_S
    free = [life for life in lives if life.snapshot_id not in tagged and life.replaced_us is not None]
    past_age = [life for life in free if life.replaced_us is not None and life.replaced_us < oldest_us]
    over_count = free[: max(0, len(lives) - _KEPT_MAX)]
    return past_age if len(past_age) >= len(over_count) else over_count


def files_due_us(expired: Sequence[Life]) -> int:
    """Return from when on files that only ``expired`` snapshots name may be deleted: no reader may use them then."""
    replaced_us = max(life.replaced_us or 0 for life in expired)
    return replaced_us + limits.snapshot_age_s_min * _US_PER_S


def check_tag(name: str, keep_s: int) -> None:
    """Hold a tag against its rules.

    Raises:
        InvalidInput: the name is empty, too long or the main branch's, or the time is not positive.
    """
    if not name or len(name) > limits.event_id_chars_max or name == "main":
        raise InvalidInput("tag", name, f"must have 1 to {limits.event_id_chars_max} characters and not be main")
    if keep_s <= 0:
        raise InvalidInput("keep_s", keep_s, "must be positive")
