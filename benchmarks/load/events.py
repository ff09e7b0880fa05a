"""Events as an app sends them: five types, eight envelope fields, three to five properties, about 295 B of JSON."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from groundswell.model.definitions import Definitions, EventDef, PropertyDef

_START = datetime(2026, 1, 5, tzinfo=UTC)
_TYPES = ("view", "like", "share", "click", "purchase")
_WEIGHTS = (60, 15, 5, 15, 5)


def definitions() -> Definitions:
    kinds = {
        "revenue": "float", "currency": "string", "items": "int", "gift": "bool", "watch_ms": "int",
        "video_id": "string", "position": "int", "query": "string", "score": "float", "creative_id": "string",
    }  # fmt: skip
    return Definitions(
        version=1,
        properties={name: PropertyDef(type=kind) for name, kind in kinds.items()},  # pyright: ignore[reportArgumentType]
        events={
            "purchase": EventDef(properties=("revenue", "currency", "items", "gift"), required=("revenue",)),
            "view": EventDef(properties=("watch_ms", "video_id", "position", "score")),
            "like": EventDef(properties=("video_id", "position", "score")),
            "share": EventDef(properties=("video_id", "position", "query")),
            "click": EventDef(properties=("creative_id", "position", "score", "query")),
        },
    )


def events(count: int, *, seed: int = 1, duplicates: float = 0.01, bad: float = 0.001) -> Iterator[bytes]:
    """Yield events as JSON; some are sent twice, some have a number of the wrong type."""
    r = random.Random(seed)
    before = b"{}"
    for number in range(count):
        if number and r.random() < duplicates:
            yield before
            continue
        kind = r.choices(_TYPES, _WEIGHTS)[0]
        event: dict[str, Any] = {
            "event_id": str(uuid.UUID(int=r.getrandbits(128))),
            "type": kind,
            "ts": (_START + timedelta(milliseconds=number)).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "user_id": f"user_{r.randrange(10**6):09d}",
            "session_id": f"s-{r.getrandbits(48):012x}",
            "country": r.choice(["DE", "FR", "US", "BR", "IN"]),
            "platform": r.choice(["ios", "android", "web"]),
            "app_version": f"7.{r.randrange(20)}.{r.randrange(5)}",
            "properties": _properties(kind, r),
        }
        if r.random() < bad:
            event["properties"]["position"] = "first"
            event["properties"]["revenue"] = "none"
        before = json.dumps(event, separators=(",", ":")).encode()
        yield before


def _properties(kind: str, r: random.Random) -> dict[str, Any]:
    video, position, score = f"vid_{r.getrandbits(20):08x}", r.randrange(50), round(r.random(), 6)
    query = r.choice(["cats", "dance challenge", "recipes", "news"])
    if kind == "view":
        return {"watch_ms": r.randrange(60_000), "video_id": video, "position": position, "score": score}
    if kind == "like":
        return {"video_id": video, "position": position, "score": score}
    if kind == "share":
        return {"video_id": video, "position": position, "query": query}
    if kind == "click":
        creative = f"cr_{r.randrange(2000):06d}"
        return {"creative_id": creative, "position": position, "score": score, "query": query}
    revenue = round(r.lognormvariate(3, 1), 2)
    return {"revenue": revenue, "currency": "EUR", "items": r.randrange(1, 9), "gift": r.random() < 0.2}
