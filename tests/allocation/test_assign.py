"""One definition for one unit and for a column of them; bad input; the run's beginning and end."""

from __future__ import annotations

import mmh3
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundswell.allocation.assign import Allocator, assign, assign_many
from groundswell.errors import InvalidInput
from groundswell.model.clock import parse_us
from groundswell.model.definitions import ExperimentDef

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
_WEIGHTS = st.lists(st.integers(0, 1000), min_size=1, max_size=12).filter(any)


def _experiment(weights: list[int], salt: str | None = None) -> ExperimentDef:
    return ExperimentDef(variants={f"v{place}": weight for place, weight in enumerate(weights)}, salt=salt)


@settings(max_examples=150, deadline=None)
@given(ids=st.lists(st.none() | _TEXT, max_size=20), weights=_WEIGHTS, salt=st.none() | _TEXT | st.just(""))
def test_a_column_gets_what_each_of_its_ids_gets(ids: list[str | None], weights: list[int], salt: str | None):
    experiment = _experiment(weights, salt)

    column = assign_many("exp", experiment, pa.array(ids, pa.string()))

    assert column.to_pylist() == [None if one is None else assign("exp", experiment, one) for one in ids]


@settings(max_examples=150, deadline=None)
@given(unit_id=_TEXT, weights=_WEIGHTS, salt=_TEXT)
def test_the_bucket_is_flagds_high_precision_one(unit_id: str, weights: list[int], salt: str):
    bucket = (mmh3.hash((salt + unit_id).encode(), signed=False) * sum(weights)) >> 32
    expected = next(place for place in range(len(weights)) if bucket < sum(weights[: place + 1]))

    assert assign("exp", _experiment(weights, salt), unit_id) == f"v{expected}"


def test_a_slice_a_large_column_and_an_empty_one_are_assigned_too(even: ExperimentDef):
    ids = [f"user-{number}" for number in range(100)]
    expected = [assign("exp", even, one) for one in ids]

    assert assign_many("exp", even, pa.array(ids)[7:93]).to_pylist() == expected[7:93]
    assert assign_many("exp", even, pa.array(ids, pa.large_string())[50:]).to_pylist() == expected[50:]
    assert assign_many("exp", even, pa.array([], pa.string())).to_pylist() == []
    assert assign_many("exp", even, pa.array([None, None], pa.string())).to_pylist() == [None, None]


def test_the_salt_is_the_name_unless_one_is_given(even: ExperimentDef):
    ids = [f"user-{number}" for number in range(64)]
    salted = ExperimentDef(variants=even.variants, salt="exp")

    assert [assign("other", salted, one) for one in ids] == [assign("exp", even, one) for one in ids]
    assert [assign("other", even, one) for one in ids] != [assign("exp", even, one) for one in ids]


def test_a_weight_of_zero_is_given_to_nobody():
    column = assign_many("exp", _experiment([0, 1, 0, 3, 0]), pa.array([str(number) for number in range(5_000)]))

    assert set(column.to_pylist()) == {"v1", "v3"}


def test_growing_the_last_variant_moves_only_units_into_it():
    ids = pa.array([str(number) for number in range(20_000)])
    before = assign_many("exp", ExperimentDef(variants={"on": 5, "off": 95}), ids).to_pylist()
    after = assign_many("exp", ExperimentDef(variants={"on": 25, "off": 75}), ids).to_pylist()

    assert all(later == "on" for earlier, later in zip(before, after, strict=True) if earlier == "on")


def test_an_experiment_is_asked_for_by_its_state():
    start, end = "2026-01-05", "2026-02-05T12:00:00Z"
    allocator = Allocator("exp", ExperimentDef(variants={"a": 0, "control": 0, "b": 1}, start=start, end=end))
    start_us, end_us = parse_us("start", start), parse_us("end", end)

    assert allocator.answer("u", start_us - 1) == ("control", "scheduled")
    assert allocator.answer("u", start_us) == ("b", "running")
    assert allocator.answer("u", end_us - 1) == ("b", "running")
    assert allocator.answer("u", end_us) == ("control", "ended")


def test_a_draft_answers_with_its_baseline():
    assert Allocator("exp", ExperimentDef(variants={"first": 0, "b": 1})).answer("u", 0) == ("first", "draft")


def test_an_experiment_without_an_end_runs_on():
    allocator = Allocator("exp", ExperimentDef(variants={"a": 1}, start="2026-01-05"))

    assert allocator.state(2**62) == "running"


@pytest.mark.parametrize(
    ("variants", "rule"),
    [
        ({}, "must be 1 to 64 variants"),
        ({f"v{place}": 1 for place in range(65)}, "must be 1 to 64 variants"),
        ({"a": 0, "b": 0}, "must have weights that sum to"),
        ({"a": -1, "b": 2}, "must be >= 0"),
        ({"a": 2**31, "b": 1}, "must have weights that sum to"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(variants: dict[str, int], rule: str):
    with pytest.raises(InvalidInput, match=r"experiments\.exp\.variants") as caught:
        Allocator("exp", ExperimentDef(variants=variants))

    assert rule in str(caught.value)


@pytest.mark.parametrize("unit_id", ["", "\ud800", "user-\udfff"])
def test_an_id_that_names_nobody_is_refused(even: ExperimentDef, unit_id: str):
    with pytest.raises(InvalidInput, match="unit_id"):
        assign("exp", even, unit_id)


def test_a_column_with_an_empty_id_or_of_another_type_is_refused(even: ExperimentDef):
    with pytest.raises(InvalidInput, match="must not be empty"):
        assign_many("exp", even, pa.array(["a", ""]))
    with pytest.raises(InvalidInput, match="must be string"):
        assign_many("exp", even, pa.array([1, 2]))  # pyright: ignore[reportArgumentType]


def test_ids_of_any_length_and_script_are_assigned(even: ExperimentDef):
    ids = ["a", "é", "用户", "👩‍👩‍👧‍👦", "x" * 100_000, "nul\x00inside", " "]

    assert assign_many("exp", even, pa.array(ids)).to_pylist() == [assign("exp", even, one) for one in ids]
