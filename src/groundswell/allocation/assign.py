"""Which variant a unit gets: deterministic, weighted, independent between experiments.

A unit's bucket is ``(murmur3_32(salt + unit_id) * total_weight) >> 32``, and its variant the first whose cumulative
weight is above the bucket: flagd's ``fractional`` operator, high-precision form. The salt is the experiment's own, else
its name.

Invariants
    ``assign`` and ``assign_many`` agree on every id
    the answer depends on salt, weights, order of variants and unit id, and on nothing else
    a variant of weight 0 is given to nobody
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Literal, NamedTuple

from groundswell import limits
from groundswell.allocation.hash import absorb_blocks, finish, whole_blocks
from groundswell.errors import InvalidInput
from groundswell.model.clock import parse_us
from groundswell.model.definitions import ExperimentDef

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Allocator", "Answer", "State", "assign", "assign_many"]

State = Literal["draft", "scheduled", "running", "ended"]


class Answer(NamedTuple):
    """A unit's variant, and whether the experiment was running when it was asked for."""

    variant: str
    state: State


class Allocator:
    """One experiment, checked and prepared: asking it again costs a hash."""

    def __init__(self, name: str, experiment: ExperimentDef) -> None:
        """Raises ``InvalidInput`` where weights are negative, all zero or too large, or a time cannot be read."""
        where = f"experiments.{name}"
        self.name = name
        self.unit = experiment.unit
        self.variants = tuple(experiment.variants)
        self.baseline = _baseline(where, experiment)
        self.start_us = None if experiment.start is None else parse_us(f"{where}.start", experiment.start)
        self.end_us = None if experiment.end is None else parse_us(f"{where}.end", experiment.end)
        self.salt = (name if experiment.salt is None else experiment.salt).encode()
        self._cumulative = _cumulative_weights(where, experiment.variants)
        shared = whole_blocks(len(self.salt))
        self._state = absorb_blocks(self.salt, shared, 0)
        self._rest = self.salt[shared:]

    def state(self, now_us: int) -> State:
        """Return where the experiment's run stands at ``now_us``: start is inclusive, end exclusive."""
        if self.start_us is None:
            return "draft"
        if now_us < self.start_us:
            return "scheduled"
        return "running" if self.end_us is None or now_us < self.end_us else "ended"

    def answer(self, unit_id: str, now_us: int) -> Answer:
        """Return what ``unit_id`` gets at ``now_us``: its variant while the experiment runs, else the baseline."""
        state = self.state(now_us)
        return Answer(self.variant(unit_id) if state == "running" else self.baseline, state)

    def variant(self, unit_id: str) -> str:
        """Return the variant that ``unit_id`` is given while the experiment runs.

        Raises:
            InvalidInput: ``unit_id`` is empty or not encodable as UTF-8.
        """
        try:
            key = self._rest + unit_id.encode()
        except UnicodeEncodeError:
            raise InvalidInput("unit_id", unit_id, "must be valid Unicode without lone surrogates") from None
        if not unit_id:
            raise InvalidInput("unit_id", unit_id, "must not be empty", next_step=f"send the {self.unit}")
        whole = whole_blocks(len(key))
        length = len(self.salt) - len(self._rest) + len(key)
        hashed = finish(key, whole, len(key), length, absorb_blocks(key, whole, self._state))
        bucket = (hashed * self._cumulative[-1]) >> 32
        return next(name for name, top in zip(self.variants, self._cumulative, strict=True) if bucket < top)

    def variant_column(self, unit_ids: pa.StringArray | pa.LargeStringArray) -> pa.DictionaryArray:
        """Return the variant of each id, null where the id is null.

        Raises:
            InvalidInput: ``unit_ids`` is not a string array, or an id is empty.
        """
        import numpy as np
        import pyarrow as pa

        from groundswell.allocation.kernel import bucket_indices

        if not (pa.types.is_string(unit_ids.type) or pa.types.is_large_string(unit_ids.type)):
            raise InvalidInput("unit_ids.type", str(unit_ids.type), "must be string or large_string")
        rows = len(unit_ids)
        width = np.int32 if pa.types.is_string(unit_ids.type) else np.int64
        _, offset_buffer, data_buffer = unit_ids.buffers()
        offsets = np.zeros(1, dtype=np.int64)
        if rows:
            stored = np.frombuffer(offset_buffer, dtype=width)
            offsets = stored[unit_ids.offset : unit_ids.offset + rows + 1].astype(np.int64)
        data = np.frombuffer(data_buffer or b"", dtype=np.uint8)
        valid = unit_ids.is_valid().to_numpy(zero_copy_only=False)
        sizes = np.diff(offsets)
        if (valid & (sizes == 0)).any():
            raise InvalidInput("unit_id", "", "must not be empty", next_step="make missing ids null")
        longest = int(sizes.max(initial=0))
        indices = np.empty(rows, dtype=np.int8)
        salt = np.frombuffer(self.salt, dtype=np.uint8).copy()
        bucket_indices(salt, data, offsets, np.array(self._cumulative, dtype=np.int64), valid, longest, indices)
        return pa.DictionaryArray.from_arrays(pa.array(indices, mask=~valid), pa.array(self.variants, pa.string()))


def assign(experiment_name: str, experiment: ExperimentDef, unit_id: str) -> str:
    """Return the variant that ``unit_id`` is given while the experiment runs.

    >>> new_checkout = ExperimentDef(variants={"control": 50, "treatment": 50})
    >>> assign("new_checkout", new_checkout, "user-1")
    'control'
    """
    return Allocator(experiment_name, experiment).variant(unit_id)


def assign_many(
    experiment_name: str, experiment: ExperimentDef, unit_ids: pa.StringArray | pa.LargeStringArray
) -> pa.DictionaryArray:
    """Return the variants of a column of ids, null where the id is null; the same as ``assign`` of each."""
    return Allocator(experiment_name, experiment).variant_column(unit_ids)


def _baseline(where: str, experiment: ExperimentDef) -> str:
    if not 1 <= len(experiment.variants) <= limits.variants_max:
        raise InvalidInput(
            f"{where}.variants", len(experiment.variants), f"must be 1 to {limits.variants_max} variants"
        )
    return experiment.baseline


def _cumulative_weights(where: str, weights: dict[str, int]) -> tuple[int, ...]:
    for name, weight in weights.items():
        if weight < 0:
            raise InvalidInput(f"{where}.variants.{name}", weight, "must be >= 0")
    sums = tuple(accumulate(weights.values()))
    if not 1 <= sums[-1] <= limits.weight_sum_max:
        raise InvalidInput(
            f"{where}.variants",
            weights,
            f"must have weights that sum to 1..{limits.weight_sum_max}",
            next_step="give at least one variant a weight above 0",
        )
    return sums


assert limits.variants_max <= 127, "bucket indices are int8"
assert limits.weight_sum_max < 2**32, "the product of a hash and a sum of weights must fit 64 bits"
