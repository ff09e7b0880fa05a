"""Ids and experiments that the tests of allocation share."""

from __future__ import annotations

import pyarrow as pa
import pytest

from groundswell.model.definitions import ExperimentDef


@pytest.fixture(scope="session")
def million_ids() -> pa.StringArray:
    """A product's own sequential ids: the least random that real ids get."""
    return pa.array([f"user-{number}" for number in range(1_000_000)], pa.string())


@pytest.fixture
def even() -> ExperimentDef:
    return ExperimentDef(variants={"control": 50, "treatment": 50})
