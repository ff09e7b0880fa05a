"""Templates and the files beside them: read once, escaped always.

Invariants
    every value is escaped where it is written into a page; only our own style sheet is not
    a file's address carries a digest of its bytes, so it may be kept for ever
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from typing import Final, NamedTuple

import jinja2
from markupsafe import Markup

from groundswell.errors import InvalidInput
from groundswell.model.clock import parse_us
from groundswell.web import text
from groundswell.web.scorecard_view import view_scorecard

__all__ = ["Asset", "assets", "render", "scorecard_html"]

_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "txt": "text/plain"}


class Asset(NamedTuple):
    """A static file."""

    content: bytes
    media_type: str
    digest: str


@lru_cache(maxsize=1)
def assets() -> Mapping[str, Asset]:
    """Return all static files by name."""
    found: dict[str, Asset] = {}
    for file in (files("groundswell.web") / "static").iterdir():
        content = file.read_bytes()
        media_type = _TYPES[file.name.rsplit(".", 1)[1]]
        found[file.name] = Asset(content, media_type, blake2b(content, digest_size=8).hexdigest())
    return found


def render(template: str, **values: object) -> str:
    """Return ``template`` filled with ``values``."""
    return _environment().get_template(template).render(**values)


def scorecard_html(scorecard: Mapping[str, object]) -> str:
    """Return a page that stands alone, without a server, script or other file; a notebook may embed it as it is.

    Args:
        scorecard: the JSON of a scorecard, as a dict.

    Raises:
        InvalidInput: it is not the JSON of a scorecard.
    """
    css = assets()["card.css"].content.decode()
    return render("standalone.html", view=view_scorecard(scorecard), css=css)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("groundswell.web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["static"] = _static_address
    environment.filters["clock"] = _clock
    environment.filters["name"] = _breakable
    return environment


def _static_address(name: str) -> str:
    return f"/static/{name}?v={assets()[name].digest}"


def _breakable(name: str) -> Markup:
    """Return a name that may be broken after its underscores."""
    return Markup("_<wbr>").join(name.split("_"))


def _clock(moment: str) -> str:
    """Return RFC 3339 text as a person reads it; as it is where it is not a time."""
    try:
        return text.moment(parse_us("moment", moment))
    except InvalidInput:
        return moment
