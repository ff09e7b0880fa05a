"""A scorecard as a notebook and a terminal show it."""

from __future__ import annotations

from typing import Any

import msgspec

from groundswell.experiments.scorecard import Scorecard

__all__ = ["ShownScorecard"]


class ShownScorecard:
    """A scorecard that renders itself; ``card`` is the plain struct."""

    def __init__(self, card: Scorecard) -> None:
        self.card = card

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, dicts and numbers, as the JSON has them."""
        return msgspec.to_builtins(self.card)

    def to_json(self) -> bytes:
        """Return the scorecard's JSON bytes."""
        return self.card.to_json()

    def to_html(self) -> str:
        """Return a page that stands alone."""
        from groundswell.web.render import scorecard_html

        return scorecard_html(self.to_dict())

    def _repr_html_(self) -> str:
        return self.to_html()

    def __repr__(self) -> str:
        from groundswell.experiments.text import scorecard_text

        return scorecard_text(self.card)
