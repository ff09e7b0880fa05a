"""The command line as a user runs it, and one small installation that several tests read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

DEFINITIONS = """
properties: {revenue: {type: float, unit: USD}}
events:
  purchase: {properties: [revenue], required: [revenue]}
metrics:
  buyers: {type: conversion, event: purchase}
  revenue_per_user: {type: mean, event: purchase, value: revenue}
experiments:
  new_checkout:
    variants: {control: 50, treatment: 50}
    start: 2026-01-05
    metrics: [buyers, revenue_per_user]
sources:
  shop: {}
"""
MAPPING = """
source: shop
format: csv
envelope:
  user_id: user
  ts: day
events:
  - type: exposure
    properties:
      experiment: {constant: new_checkout}
      variant: variant
  - type: purchase
    when: {spent: {not: ''}}
    properties:
      revenue: spent
"""


@pytest.fixture(scope="session")
def run() -> Run:
    def go(*arguments: str | Path, data: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "COLUMNS": "140"}
        environment.pop("GROUNDSWELL_DATA", None)
        if data is not None:
            environment["GROUNDSWELL_DATA"] = str(data)
        command = [sys.executable, "-m", "groundswell", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)

    return go


@pytest.fixture(scope="session")
def shop(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with 400 customers, one broken row among them."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "definitions.yaml").write_text(DEFINITIONS)
    (folder / "mapping.yaml").write_text(MAPPING)
    rows = ["user,variant,day,spent"]
    for number in range(400):
        variant = ("control", "treatment")[number % 2]
        spent = f"{number % 9 + 1}.5" if number % 5 < 2 + number % 2 else ""
        rows.append(f"u{number},{variant},2026-01-06,{spent}")
    rows.append("broken,control,2026-01-06,eight")
    (folder / "history.csv").write_text("\n".join(rows) + "\n")
    data = folder / "data"
    assert run("apply", "-f", folder / "definitions.yaml", data=data).returncode == 0
    done = run("import", "-m", folder / "mapping.yaml", folder / "history.csv", data=data)
    assert done.returncode == 0, done.stderr
    return data
