"""The OpenAPI document of everything that one server answers: intake, flags, reading."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Final

import msgspec

from groundswell import limits
from groundswell.model.definitions import UNIT_KINDS
from groundswell.model.event import CLIENT_STRINGS, Verdict
from groundswell.web.card import Card
from groundswell.web.ofrep import OFREP_PREFIX
from groundswell.web.ports import ExperimentSummary, Overview
from groundswell.web.public import public_schema

__all__ = ["openapi_document"]

_REF: Final = "#/components/schemas/{name}"


class Receipt(msgspec.Struct, kw_only=True):
    """What became of a body: received = accepted + dead_lettered + refused. Verdicts name those not accepted."""

    received: int
    accepted: int
    dead_lettered: int
    refused: int
    verdicts: list[Verdict] = []


class Failure(msgspec.Struct, kw_only=True):
    """Why nothing was done."""

    error: FailureReason


class FailureReason(msgspec.Struct, kw_only=True):
    """A stable code, and a sentence: name, value, rule, next step."""

    reason: str
    message: str


class Experiments(msgspec.Struct, kw_only=True):
    """Every experiment, running ones first."""

    experiments: list[ExperimentSummary]


def openapi_document() -> dict[str, Any]:
    """Return the document, OpenAPI 3.1."""
    types = (Overview, Experiments, Card, Receipt, Failure)
    _, components = msgspec.json.schema_components(types, ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Groundswell",
            "version": version("groundswell"),
            "description": "Events in, flags out, and numbers to read.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {**_intake_paths(), **_flag_paths(), **_reading_paths()},
        "components": {
            "schemas": {**public_schema(components), "Event": _event(), "FlagContext": _flag_context()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A write key of a source."},
                "write_key": {"type": "apiKey", "in": "header", "name": "X-Write-Key"},
                "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _intake_paths() -> dict[str, Any]:
    body = {
        "application/json": {
            "schema": {"oneOf": [_ref("Event"), {"type": "array", "items": _ref("Event"), "minItems": 1}]},
            "example": {"event_id": "0198c7d2-7c1e-7b3a-9d8e-5f3c2ab91d00", "type": "purchase", "user_id": "u-1",
                        "ts": "2026-01-17T14:05:00Z", "properties": {"revenue": 12.5}},
        },
        "application/x-ndjson": {"schema": {"type": "string", "description": "One event a line."}},
    }  # fmt: skip
    return {
        "/v1/events": {
            "post": {
                "tags": ["events"],
                "operationId": "sendEvents",
                "summary": "Send one event, an array of them, or one a line",
                "description": (
                    "A 2xx is sent after the events are on disk. A retry with the same event_id changes nothing. "
                    f"At most {limits.batch_events_max:,} events and {limits.body_bytes_max:,} bytes a request; "
                    "gzip and zstd are understood."
                ),
                "security": [{"bearer": []}, {"write_key": []}],
                "parameters": [
                    _parameter("verdicts", "query", "all: a verdict for every event", enum=["all"]),
                    _parameter("Content-Encoding", "header", "how the body is compressed", enum=["gzip", "zstd"]),
                ],
                "requestBody": {"required": True, "content": body},
                "responses": {
                    "200": _json("Something was taken; verdicts say what was not", "Receipt"),
                    "400": _json("Every event was refused, or the body cannot be read", "Receipt"),
                    "401": _json("The key is missing, unknown or revoked", "Failure"),
                    "413": _json("Too large: send smaller bodies", "Failure"),
                    "429": _json("Too much at once: send the same again after Retry-After", "Failure"),
                    "503": _json("Not now: send the same again after Retry-After", "Failure"),
                },
            }
        },
        **_probe("/healthz", "The process runs"),
        **_probe("/readyz", "It can take events"),
        "/metrics": {
            "get": {
                "tags": ["service"],
                "operationId": "metrics",
                "summary": "Metrics of the service itself, for Prometheus",
                "responses": {"200": {"description": "Prometheus text", "content": {"text/plain": {}}}},
            }
        },
    }


def _flag_paths() -> dict[str, Any]:
    shared = {
        "tags": ["flags"],
        "security": [{"bearer": []}, {"api_key": []}, {}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("FlagContext")}}},
    }
    refusals = {
        status: {"description": description, "content": {"application/json": {}}}
        for status, description in (
            ("400", "PARSE_ERROR, INVALID_CONTEXT or TARGETING_KEY_MISSING"),
            ("401", "The key is missing, unknown or revoked"),
            ("405", "Only POST is answered"),
            ("408", f"The body took longer than {limits.body_receive_s_max:g} s to arrive"),
            ("413", f"The body is larger than {limits.flag_body_bytes_max:,} bytes"),
            ("429", "Asked too often: ask again after Retry-After"),
            ("503", "Not now: ask again after Retry-After"),
        )
    }
    answered = {
        "description": "As the OpenFeature Remote Evaluation Protocol has it",
        "content": {"application/json": {}},
    }
    one = {"summary": "Which variant a unit gets", "operationId": "evaluateFlag", "responses": {
        "200": answered, **refusals, "404": {"description": "FLAG_NOT_FOUND"}}}  # fmt: skip
    every = {"summary": "All variants of a unit", "operationId": "evaluateFlags", "responses": {
        "200": answered, "304": {"description": "Nothing changed since If-None-Match"}, **refusals}}  # fmt: skip
    key = _parameter("key", "path", "name of the experiment", required=True)
    tag = _parameter("If-None-Match", "header", "ETag of an earlier answer")
    return {
        OFREP_PREFIX + "/{key}": {"post": {**shared, **one, "parameters": [key]}},
        OFREP_PREFIX: {"post": {**shared, **every, "parameters": [tag]}},
    }


def _reading_paths() -> dict[str, Any]:
    failures = {
        "400": _json("A query parameter is not understood", "Failure"),
        "404": _json("No experiment has this name", "Failure"),
        "409": _json("It cannot be computed yet; the message says why", "Failure"),
    }
    away = {"400": failures["400"], "503": _json("Not now: ask again after Retry-After", "Failure")}
    name = _parameter("name", "path", "name of the experiment", required=True)
    return {
        "/v1/overview": _reading("overview", "Ledgers, lag, dead letters and throughput", "Overview", away),
        "/v1/experiments": _reading("experiments", "Every experiment", "Experiments", away),
        "/v1/experiments/{name}/scorecard": _reading(
            "scorecard", "One experiment's numbers", "Card", failures | away, parameters=[name]
        ),
        "/openapi.json": {
            "get": {
                "tags": ["service"],
                "operationId": "openapi",
                "summary": "This document",
                "responses": {"200": {"description": "OpenAPI 3.1", "content": {"application/json": {}}}},
            }
        },
    }


def _reading(
    operation: str, summary: str, schema: str, failures: dict[str, Any], *, parameters: list[Any] | None = None
) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "tags": ["reading"],
        "operationId": operation,
        "summary": summary,
        "responses": {"200": _json(summary, schema), **failures},
    }
    return {"get": answer | ({"parameters": parameters} if parameters else {})}


def _probe(path: str, summary: str) -> dict[str, Any]:
    get = {"tags": ["service"], "operationId": path.strip("/"), "summary": summary, "responses": {
        "200": {"description": "Yes"}, "503": {"description": "No; the body says why"}}}  # fmt: skip
    return {path: {"get": get}}


def _parameter(
    name: str, place: str, description: str, *, required: bool = False, enum: list[str] | None = None
) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"} | ({"enum": enum} if enum else {})
    return {"name": name, "in": place, "required": required, "description": description, "schema": schema}


def _json(description: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}


def _event() -> dict[str, Any]:
    strings = {name: {"type": "string", "maxLength": limits.envelope_chars_max} for name in CLIENT_STRINGS}
    return {
        "type": "object",
        "description": "The envelope; declared properties stand in properties, and what is not declared is kept too.",
        "required": ["event_id", "type"],
        "properties": {
            **strings,
            "event_id": {"type": "string", "minLength": 1, "maxLength": limits.event_id_chars_max},
            "ts": {"type": "string", "format": "date-time", "description": "When it happened; missing is on arrival."},
            "sent_at": {
                "type": "string",
                "format": "date-time",
                "description": "When it was sent; each retry has its own.",
            },
            "properties": {"type": "object", "additionalProperties": True},
        },
        "additionalProperties": True,
    }


def _flag_context() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["context"],
        "properties": {
            "context": {
                "type": "object",
                "description": "targetingKey, or an attribute named as the experiment's unit, says who asks.",
                "properties": {name: {"type": "string"} for name in ("targetingKey", *UNIT_KINDS)},
                "additionalProperties": True,
                "example": {"targetingKey": "user-1"},
            }
        },
    }
