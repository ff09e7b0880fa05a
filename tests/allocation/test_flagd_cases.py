"""flagd's own published cases for its ``fractional`` operator, where they say the same thing as an experiment.

Cases with computed weights or variants have no counterpart; a missing key and weights that are negative or all zero are
refused here instead of answered with a default.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from groundswell.allocation.assign import assign
from groundswell.model.definitions import ExperimentDef

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "peers" / "flagd-evaluator"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="flagd's cases are not on this machine")

# how each flag's rule builds the hashed text: a salt before the key
SALTS = {
    "fractional-flag": "fractional-flag",
    "fractional-flag-shorthand": "fractional-flag-shorthand",
    "fractional-flag-A-shared-seed": "shared-seed",
    "fractional-flag-B-shared-seed": "shared-seed",
    "fractional-hash-edge-flag": "",
}


def _flag(key: str) -> tuple[ExperimentDef, dict[str, str]]:
    flags: dict[str, Any] = json.loads((FOLDER / "flags" / "testkit-flags.json").read_text())["flags"]
    buckets = [entry for entry in flags[key]["targeting"]["fractional"] if isinstance(entry, list)]
    weights = {bucket[0]: bucket[1] if len(bucket) > 1 else 1 for bucket in buckets}
    return ExperimentDef(variants=weights, salt=SALTS[key]), flags[key]["variants"]


def _examples(key: str) -> list[tuple[str, str]]:
    text = (FOLDER / "gherkin" / "fractional.feature").read_text()
    scenario = next(part for part in text.split("Scenario") if f'with key "{key}"' in part)
    table = scenario.rsplit("Examples:", 1)[1]  # the last one is v2 where there are two
    lines = re.findall(r"^ *\|.*$", table, re.MULTILINE)
    rows = [tuple(cell.strip() for cell in line.strip("| ").split("|")) for line in lines]
    return [(row[0], row[1]) for row in rows[1:]]


@pytest.mark.parametrize("key", SALTS)
def test_units_get_what_flagd_gives_them(key: str):
    experiment, values = _flag(key)
    examples = _examples(key)

    given = [(unit, values[assign("any", experiment, unit)]) for unit, _ in examples]

    assert len(examples) >= 2
    assert given == examples
