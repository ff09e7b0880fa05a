"""The JSON Schema for editors: it knows every field, takes what the program takes, and refuses what it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from groundswell.errors import InvalidDefinitions
from groundswell.model.definitions import KINDS, Definition, Operand
from groundswell.store import Manifest
from groundswell.store.document import MappingNode, Node, ScalarNode, read_documents
from groundswell.store.schema import definitions_schema, field_descriptions, schema_text

ROOT = Path(__file__).resolve().parents[2]
TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def errors(schema: Any, value: Any, root: dict[str, Any]) -> Iterator[str]:
    """Yield what draft 7 finds wrong; knows the keywords that the schema uses, and fails on any other."""
    if isinstance(schema, bool):
        if not schema:
            yield "false"
        return
    for keyword, wanted in schema.items():
        yield from KEYWORDS[keyword](schema, wanted, value, root)


def is_type(value: Any, names: str | list[str]) -> bool:
    known = [names] if isinstance(names, str) else names
    return any(isinstance(value, TYPES[name]) and not isinstance(value, bool) for name in known)


def valid(schema: Any, value: Any, root: dict[str, Any]) -> bool:
    return next(errors(schema, value, root), None) is None


def check_additional(schema: Any, wanted: Any, value: Any, root: dict[str, Any]) -> Iterator[str]:
    if isinstance(value, dict):
        patterns = schema.get("patternProperties", {})
        for name, item in value.items():
            if name not in schema.get("properties", {}) and not any(re.search(one, name) for one in patterns):
                yield from errors(wanted, item, root)


def check_properties(schema: Any, wanted: Any, value: Any, root: dict[str, Any]) -> Iterator[str]:
    del schema
    for name, inner in wanted.items():
        if isinstance(value, dict) and name in value:
            yield from errors(inner, value[name], root)


def check_if(schema: Any, wanted: Any, value: Any, root: dict[str, Any]) -> Iterator[str]:
    if valid(wanted, value, root):
        yield from errors(schema["then"], value, root)


def simple(test: Any) -> Any:
    """Return a check of a keyword that looks at the value alone."""

    def run(schema: Any, wanted: Any, value: Any, root: dict[str, Any]) -> Iterator[str]:
        del schema, root
        if not test(wanted, value):
            yield f"{value!r} against {wanted!r}"

    return run


def quiet(schema: Any, wanted: Any, value: Any, root: dict[str, Any]) -> Iterator[str]:
    del schema, wanted, value, root
    yield from ()


KEYWORDS: Final[dict[str, Any]] = {
    **dict.fromkeys(("$schema", "title", "description", "default", "definitions", "then"), quiet),
    "type": simple(lambda wanted, value: is_type(value, wanted)),
    "enum": simple(lambda wanted, value: value in wanted),
    "const": simple(lambda wanted, value: value == wanted),
    "pattern": simple(lambda wanted, value: not isinstance(value, str) or re.search(wanted, value) is not None),
    "minLength": simple(lambda wanted, value: not isinstance(value, str) or len(value) >= wanted),
    "maxLength": simple(lambda wanted, value: not isinstance(value, str) or len(value) <= wanted),
    "minimum": simple(lambda wanted, value: not is_type(value, "number") or value >= wanted),
    "exclusiveMinimum": simple(lambda wanted, value: not is_type(value, "number") or value > wanted),
    "exclusiveMaximum": simple(lambda wanted, value: not is_type(value, "number") or value < wanted),
    "minProperties": simple(lambda wanted, value: not isinstance(value, dict) or len(value) >= wanted),
    "maxProperties": simple(lambda wanted, value: not isinstance(value, dict) or len(value) <= wanted),
    "uniqueItems": simple(
        lambda wanted, value: not (wanted and isinstance(value, list)) or len(set(value)) == len(value)
    ),
    "required": simple(lambda wanted, value: not isinstance(value, dict) or set(wanted) <= set(value)),
    "properties": check_properties,
    "patternProperties": quiet,
    "additionalProperties": check_additional,
    "if": check_if,
    "propertyNames": lambda schema, wanted, value, root: (
        error for name in (value if isinstance(value, dict) else ()) for error in errors(wanted, name, root)
    ),
    "items": lambda schema, wanted, value, root: (
        error for item in (value if isinstance(value, list) else ()) for error in errors(wanted, item, root)
    ),
    "allOf": lambda schema, wanted, value, root: (error for one in wanted for error in errors(one, value, root)),
    "anyOf": lambda schema, wanted, value, root: iter(
        () if any(valid(one, value, root) for one in wanted) else ("anyOf",)
    ),
    "oneOf": lambda schema, wanted, value, root: iter(
        () if sum(valid(one, value, root) for one in wanted) == 1 else ("oneOf",)
    ),
    "$ref": lambda schema, wanted, value, root: errors(root["definitions"][wanted.rsplit("/", 1)[1]], value, root),
}


def as_an_editor_reads(node: Node) -> Any:
    """Return what YAML 1.2's core schema makes of a file, which is what editors use."""
    if isinstance(node, MappingNode):
        return {name: as_an_editor_reads(value) for name, (_, value) in node.entries.items()}
    if not isinstance(node, ScalarNode):
        return [as_an_editor_reads(item) for item in node.items]
    if node.is_null:
        return None
    if not node.quoted and re.fullmatch(r"[-+]?[0-9]+", node.text):
        return int(node.text)
    if not node.quoted and re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", node.text):
        return float(node.text)
    if not node.quoted and node.text in ("true", "false"):
        return node.text == "true"
    return node.text


def editor_errors(text: str) -> list[str]:
    problems: list[Any] = []
    (node,) = read_documents(text.encode(), "f.yaml", problems)
    assert problems == []
    schema = definitions_schema()
    return list(errors(schema, as_an_editor_reads(node), schema))


def test_the_published_schema_is_the_programs_own() -> None:
    published = ROOT / "docs" / "reference" / "definitions.schema.json"

    assert published.read_text(encoding="utf-8") == schema_text()


def test_the_schema_knows_every_field_and_says_what_it_means() -> None:
    structs: dict[str, type[Definition]] = {**KINDS, "operand": Operand}
    about = field_descriptions()

    for kind, struct in structs.items():
        assert set(about[kind]) == {field.name for field in msgspec.structs.fields(struct)}
        assert all(text.endswith(".") for text in about[kind].values())


def test_the_schema_takes_what_the_program_takes(example: str) -> None:
    assert editor_errors(example) == []
    assert editor_errors("x-shared: [any, {thing: 1}]\nevents:\n  view:\nmetrics:\n") == []
    assert (
        editor_errors("experiments: {x: {variants: {Mens E-Mail: 1, b: 0}, start: 2026-01-05T09:30:00Z, alpha: 0.01}}")
        == []
    )


def test_examples_that_ship_are_taken() -> None:
    shipped = [
        file
        for file in sorted((ROOT / "examples").rglob("*.y*ml"))
        if re.search(
            r"^(properties|events|metrics|experiments|sources):", file.read_text(encoding="utf-8"), re.MULTILINE
        )
    ]
    for file in shipped:
        try:
            Manifest.parse(file.read_bytes(), file=file.name)
        except InvalidDefinitions as error:
            if all(problem.name != "file" for problem in error.problems):
                raise
            continue  # a mapping of an import, which has sections of its own
        assert editor_errors(file.read_text(encoding="utf-8")) == [], file


REFUSED = [
    "event: {view: {}}",
    "events: [view]",
    "events: {View: {}}",
    "events: {view: [x]}",
    "events: {view: {propertys: [x]}}",
    "events: {view: {properties: x}}",
    "events: {view: {properties: [x, x]}}",
    "properties: {price: flaot}",
    "properties: {price: {unit: USD}}",
    "properties: {price: {type: float, uint: USD}}",
    "properties: {price: }",
    "metrics: {m: }",
    "metrics: {m: {event: view}}",
    "metrics: {m: {type: avg, event: view}}",
    "metrics: {m: {type: mean}}",
    "metrics: {m: {type: conversion, event: view, value: x}}",
    "metrics: {m: {type: ratio, event: view}}",
    "metrics: {m: {type: ratio, numerator: {event: view}}}",
    "metrics: {m: {type: ratio, numerator: {value: x}, denominator: {event: view}}}",
    "metrics: {m: {type: mean, event: view, numerator: {event: view}}}",
    "metrics: {m: {type: mean, event: view, window: 7}}",
    "metrics: {m: {type: mean, event: view, window: 0d}}",
    "metrics: {m: {type: mean, event: view, better: up}}",
    "experiments: {x: {}}",
    "experiments: {x: {variants: {a: 1}}}",
    "experiments: {x: {variants: {a: 1, b: -1}}}",
    "experiments: {x: {variants: {a: 1, b: 1.5}}}",
    "experiments: {x: {variants: {a: 1, b: '1'}}}",
    "experiments: {x: {variants: [a, b]}}",
    "experiments: {x: {variants: {a: 1, b: 1}, unit: cookie}}",
    "experiments: {x: {variants: {a: 1, b: 1}, start: tomorrow}}",
    "experiments: {x: {variants: {a: 1, b: 1}, alpha: 1}}",
    "experiments: {x: {variants: {a: 1, b: 1}, metrics: [m, m]}}",
    "sources: {web: {key: x}}",
]


@pytest.mark.parametrize("text", REFUSED)
def test_the_schema_and_the_program_refuse_the_same(text: str) -> None:
    from groundswell.model.check import check
    from groundswell.model.definitions import Definitions
    from groundswell.store.objects import merge

    assert editor_errors(text) != []
    try:
        manifest = Manifest.parse(text)
    except InvalidDefinitions:
        return
    assert check(merge(Definitions(), manifest.objects()), known=Definitions(), now_us=0) != []
