"""From definitions and an evaluation context to OFREP's answers, as bytes: no HTTP here.

An experiment is a string flag: its name is the key, its variant's name the value. While it runs the reason is SPLIT; as
a draft, before its start and after its end it is DISABLED and the value is the baseline's.

Invariants
    the bytes of an answer depend on definitions, experiment, state and variant alone, so they are made once for each
    two experiments on the same unit read the same id from the same context
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from groundswell import limits
from groundswell.allocation.assign import Allocator, State
from groundswell.errors import InvalidInput
from groundswell.model.definitions import UNIT_KINDS, Definitions, ExperimentDef, UnitKind
from groundswell.model.spelling import spelled

__all__ = ["Context", "FlagSet", "Refusal", "read_context"]


class Context(msgspec.Struct, frozen=True):
    """What is read of an evaluation context; other attributes are let pass."""

    targetingKey: object = None  # noqa: N815 -- OFREP's own spelling
    user_id: object = None
    anonymous_id: object = None
    device_id: object = None


class _Request(msgspec.Struct, frozen=True):
    context: Context


class Refusal(NamedTuple):
    """Why something was not answered: an HTTP status, OpenFeature's error code and a sentence."""

    status: int
    code: str
    details: str

    def body(self, key: str | None = None) -> bytes:
        """Return OFREP's failure object; with a ``key`` that of one flag."""
        failure = {"key": key} if key is not None else {}
        return msgspec.json.encode(failure | {"errorCode": self.code, "errorDetails": self.details})


_DECODER: Final = msgspec.json.Decoder(_Request)
_SEND: Final = 'send {"context": {"targetingKey": "<id of the unit>"}}'
_AS_TEXT: Final = "send the id as the unit's events carry it, as text"
_SHOWN_BYTES_MAX: Final = 80
_NO_KEY: Final = (
    "context.targetingKey is missing; send the id of the unit as targetingKey, or as an attribute named {unit}"
)


def read_context(body: bytes) -> Context | Refusal:
    """Return the context of a request's ``body``, or why there is none."""
    try:
        return _DECODER.decode(body).context
    except msgspec.ValidationError:
        rule = f"must be an object whose key context is an object too; {_SEND}"
        return Refusal(400, "INVALID_CONTEXT", f"body == {spelled(body[:_SHOWN_BYTES_MAX])}, {rule}")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        rule = f"must be whole RFC 8259 JSON in UTF-8; {_SEND}"
        return Refusal(400, "PARSE_ERROR", f"body == {spelled(body[:_SHOWN_BYTES_MAX])}, {rule}")


class _Flag:
    """One experiment, prepared."""

    def __init__(self, name: str, experiment: ExperimentDef, version: int) -> None:
        self.name = name
        self.allocator = Allocator(name, experiment)
        self.unit: UnitKind = experiment.unit
        self._version = version
        self._bodies: dict[tuple[str, State], bytes] = {}  # at most variants times states

    def evaluate(self, context: Context, now_us: int) -> bytes | Refusal:
        unit_id = _unit_id(context, self.unit)
        if isinstance(unit_id, Refusal):
            return unit_id
        try:
            answer = self.allocator.answer(unit_id, now_us)
        except InvalidInput as error:
            return Refusal(400, "INVALID_CONTEXT", str(error))
        body = self._bodies.get(answer)
        if body is None:
            body = self._bodies[answer] = self._body(answer.variant, answer.state)
        return body

    def _body(self, variant: str, state: State) -> bytes:
        return msgspec.json.encode(
            {
                "key": self.name,
                "value": variant,
                "reason": "SPLIT" if state == "running" else "DISABLED",
                "variant": variant,
                "metadata": {"definitions_version": self._version, "unit": self.unit, "state": state},
            }
        )


class FlagSet:
    """All experiments of one version of the definitions."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self._flags: dict[str, _Flag | Refusal] = {}
        for name, experiment in definitions.experiments.items():
            try:
                self._flags[name] = _Flag(name, experiment, definitions.version)
            except InvalidInput as error:
                self._flags[name] = Refusal(500, "GENERAL", str(error))
        self._tail = b'],"metadata":' + msgspec.json.encode({"definitions_version": definitions.version}) + b"}"

    def evaluate(self, key: str, context: Context, now_us: int) -> bytes | Refusal:
        """Return the answer for one flag, or why there is none."""
        flag = self._flags.get(key)
        if flag is None:
            return Refusal(404, "FLAG_NOT_FOUND", f"no experiment is named {key!r}")
        return flag if isinstance(flag, Refusal) else flag.evaluate(context, now_us)

    def evaluate_all(self, context: Context, now_us: int) -> bytes | Refusal:
        """Return the answers for all flags. One that fails carries its own failure; a context without any id fails."""
        if context.targetingKey is None and all(getattr(context, unit) in (None, "") for unit in UNIT_KINDS):
            return Refusal(400, "TARGETING_KEY_MISSING", _NO_KEY.format(unit="its unit, such as user_id"))
        answers: list[bytes] = []
        for name in self._flags:
            answer = self.evaluate(name, context, now_us)
            answers.append(answer.body(name) if isinstance(answer, Refusal) else answer)
        return b'{"flags":[' + b",".join(answers) + self._tail


def _unit_id(context: Context, unit: UnitKind) -> str | Refusal:
    """Return the id of ``unit``: the attribute of that name, else the targeting key."""
    field = unit
    value: object = getattr(context, unit)
    if value is None or value == "":  # as in an event, "" names nobody
        field, value = "targetingKey", context.targetingKey
    if value is None:
        return Refusal(400, "TARGETING_KEY_MISSING", _NO_KEY.format(unit=unit))
    if not isinstance(value, str) or not 0 < len(value) <= limits.envelope_chars_max:
        rule = f"must be a string of 1 to {limits.envelope_chars_max} characters"
        return Refusal(
            400, "INVALID_CONTEXT", str(InvalidInput(f"context.{field}", spelled(value), rule, next_step=_AS_TEXT))
        )
    return value
