"""Definition files: what people may write, and what they are told where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from groundswell.errors import GroundswellError, InvalidDefinitions, InvalidInput, NotFound
from groundswell.model.definitions import EventDef, ExperimentDef, MetricDef, Operand, PropertyDef, SourceDef
from groundswell.store import Manifest, document, read_manifest


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(InvalidDefinitions) as caught:
        Manifest.parse(text, file="f.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_the_short_forms_mean_the_long_ones(example: str) -> None:
    declared = Manifest.parse(example).declared

    assert declared["property", "watch_ms"] == PropertyDef(type="int")
    assert declared["property", "revenue"] == PropertyDef(type="float", unit="USD")
    assert declared["event", "purchase"] == EventDef(properties=("revenue",), required=("revenue",))
    assert declared["metric", "order_value"] == MetricDef(
        type="ratio", numerator=Operand(event="purchase", value="revenue"), denominator=Operand(event="purchase")
    )
    assert declared["experiment", "new_checkout"] == ExperimentDef(
        variants={"control": 50, "treatment": 50},
        start="2026-01-05",
        metrics=("buyers", "revenue_per_user", "order_value"),
    )
    assert declared["source", "web"] == SourceDef()


def test_words_stay_words_whatever_yaml_makes_of_them() -> None:
    declared = Manifest.parse(
        "properties: {y: int, no: string, null: bool}\n"
        "events: {on: {properties: [y, no]}, off: {description: yes}}\n"
        "experiments:\n"
        "  x: {variants: {on: 1, off: 1, 1: 1, 2.0: 1, 0x10: 1, ~: 1}, start: 2026-01-05 09:30:00Z, salt: 0123}\n"
    ).declared

    assert list(declared) == [
        ("property", "y"),
        ("property", "no"),
        ("property", "null"),
        ("event", "on"),
        ("event", "off"),
        ("experiment", "x"),
    ]
    assert declared["event", "on"] == EventDef(properties=("y", "no"))
    assert declared["event", "off"] == EventDef(description="yes")
    assert declared["experiment", "x"] == ExperimentDef(
        variants={"on": 1, "off": 1, "1": 1, "2.0": 1, "0x10": 1, "~": 1}, start="2026-01-05 09:30:00Z", salt="0123"
    )


@pytest.mark.parametrize(
    "text", ["1_000", "0x10", "010", "1.0", "1e3", "yes", "~", "", "+", "[1]", "'50'", "2026-01-05"]
)
def test_a_number_is_written_as_one(text: str) -> None:
    (said,) = problems(f"experiments: {{x: {{variants: {{a: {text}, b: 1}}}}}}")

    assert said.startswith("f.yaml:1: experiments.x.variants.a == ")
    assert "must be a whole number" in said


def test_a_number_in_quotes_is_told_so() -> None:
    assert problems("experiments: {x: {variants: {a: '50', b: 50}}}") == [
        "f.yaml:1: experiments.x.variants.a == '50', must be a whole number; leave the quotes out"
    ]


def test_a_number_beyond_64_bits_is_refused() -> None:
    (said,) = problems("experiments: {x: {variants: {a: " + "9" * 5_000 + ", b: 50}}}")

    assert "must fit 64 bits" in said
    assert len(said) < 300


@pytest.mark.parametrize("text", [".nan", ".inf", "nan", "1e999", "'0.1'", "0,1", "five"])
def test_alpha_is_a_finite_number(text: str) -> None:
    (said,) = problems(f"experiments:\n x:\n  variants: {{a: 1, b: 1}}\n  alpha: {text}")

    assert said.startswith("f.yaml:4: experiments.x.alpha == ")
    assert "must be a finite number" in said


def test_every_problem_is_told_with_its_line() -> None:
    said = problems(
        "property: {}\n"
        "properties:\n"
        "  price: flaot\n"
        "  label: {typ: string}\n"
        "events:\n"
        "  view: {properties: price}\n"
        "  like: [price]\n"
        "metrics:\n"
        "  m:\n"
        "    type: avg\n"
        "    event: view\n"
        "    windw: 7d\n"
    )

    known = "known fields: properties, required, description"
    types = "bool, float, int, string, timestamp"
    assert said == [
        "f.yaml:1: file == 'property', is not a known section; did you mean properties?",
        f"f.yaml:3: properties.price.type == 'flaot', must be one of {types}; did you mean float?",
        "f.yaml:4: properties.label.typ == 'string', is not a known field; did you mean type?",
        "f.yaml:4: properties.label.type == None, must be given",
        "f.yaml:6: events.view.properties == 'price', must be a list; write [price]",
        f"f.yaml:7: events.like == 'a list of 1', must be a mapping of fields; {known}",
        "f.yaml:10: metrics.m.type == 'avg', must be one of conversion, mean, ratio",
        "f.yaml:12: metrics.m.windw == '7d', is not a known field; did you mean window?",
    ]


def test_many_problems_are_told_in_one_error() -> None:
    with pytest.raises(InvalidDefinitions) as caught:
        Manifest.parse("properties: {a: x, b: y}", file="f.yaml")

    lines = str(caught.value).splitlines()
    assert lines[0] == "2 problems; nothing was applied"
    assert [line.split(" ==")[0] for line in lines[1:]] == [
        "  f.yaml:1: properties.a.type",
        "  f.yaml:1: properties.b.type",
    ]


def test_a_key_stands_once() -> None:
    assert problems("events:\n  view: {}\n  like: {}\n  view: {properties: [x]}\n") == [
        "f.yaml:4: key == 'view', must stand once in a mapping, and stands at line 2 too; keep one of the two"
    ]


def test_several_files_and_folders_make_one_manifest(tmp_path: Path) -> None:
    (tmp_path / "more" / ".hidden").mkdir(parents=True)
    (tmp_path / "a.yaml").write_text("events: {view: {properties: [watch_ms]}}\n---\nevents: {like: }")
    (tmp_path / "more" / "b.yml").write_text("properties: {watch_ms: int}\nx-note: [anything, {at: all}]")
    (tmp_path / "more" / "notes.txt").write_text("not: [yaml")
    (tmp_path / "more" / ".hidden" / "c.yaml").write_text("not: [yaml")

    manifest = read_manifest([tmp_path, tmp_path / "a.yaml"])

    assert list(manifest.declared) == [("event", "view"), ("event", "like"), ("property", "watch_ms")]


def test_the_same_object_in_two_files_is_told_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("events:\n  view: {}\n")
    (tmp_path / "b.yaml").write_text("\n\nevents:\n  view: {}\n")

    with pytest.raises(InvalidDefinitions) as caught:
        read_manifest([tmp_path])

    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == (str(tmp_path / "b.yaml"), 4)
    assert f"stands at {tmp_path / 'a.yaml'}:2 too" in str(problem)


def test_problems_of_every_file_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("events: [")
    (tmp_path / "b.yaml").write_text("properties: {a: x}")

    with pytest.raises(InvalidDefinitions) as caught:
        read_manifest([tmp_path])

    assert [Path(problem.file or "").name for problem in caught.value.problems] == ["a.yaml", "b.yaml"]


def test_a_path_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no file or folder .*nowhere"):
        read_manifest([tmp_path / "nowhere"])
    with pytest.raises(NotFound, match=r"holds no \.yaml file"):
        read_manifest([tmp_path])


@pytest.mark.parametrize("text", ["", "\n# only a comment\n", "---\n---\n", "events:\n", "events: {}\nmetrics: ~\n"])
def test_a_file_that_defines_nothing_is_told(text: str) -> None:
    with pytest.raises(InvalidInput, match="must define something"):
        Manifest.parse(text)


def test_anchors_aliases_and_merges_work() -> None:
    declared = Manifest.parse(
        "x-common: &run {variants: {control: 1, treatment: 1}, start: 2026-01-05, unit: device_id}\n"
        "experiments:\n"
        "  first: *run\n"
        "  second: {<<: *run, unit: user_id, start: 2026-02-05}\n"
        "  third: {<<: [{unit: anonymous_id}, *run]}\n"
    ).declared

    both = {"control": 1, "treatment": 1}
    assert declared["experiment", "first"] == ExperimentDef(variants=both, start="2026-01-05", unit="device_id")
    assert declared["experiment", "second"] == ExperimentDef(variants=both, start="2026-02-05", unit="user_id")
    assert declared["experiment", "third"] == ExperimentDef(variants=both, start="2026-01-05", unit="anonymous_id")


def test_a_byte_order_mark_and_windows_lines_are_no_problem() -> None:
    manifest = Manifest.parse(
        b"\xef\xbb\xbfevents:\r\n  view: {}\r\n  like:\r\n    badly: 1\r\n".replace(b"badly: 1", b"{}")
    )

    assert list(manifest.declared) == [("event", "view"), ("event", "like")]


# --- hostile files ---------------------------------------------------------------------------------------------


LAUGHS = "x-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"x-{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
MERGES = (
    "x-0: &a {" + ", ".join(f"k{i}: 1" for i in range(2_000)) + "}\nx-1: {<<: [" + ", ".join(["*a"] * 2_000) + "]}\n"
)
HOSTILE: dict[str, tuple[str | bytes, str]] = {
    "a billion laughs": (LAUGHS, "must unfold to at most"),
    "a bomb in each document": ("---\n".join([LAUGHS.split("x-5")[0]] * 50), "must unfold to at most"),
    "a bomb of merges": (MERGES, "must unfold to at most"),
    "an alias of itself": ("events: &e {view: *e}", "must name an anchor that ends above it"),
    "an alias of nothing": ("events: *nothing", "must name an anchor that ends above it"),
    "deep flow": ("events: " + "[" * 100_000, "depth == 17, must be at most 16"),
    "deep mappings": ("{a: " * 100_000, "depth == 17, must be at most 16"),
    "deep blocks": ("\n".join(" " * i + f"k{i}:" for i in range(500)), "depth == 17, must be at most 16"),
    "a python object": ("events: !!python/object/apply:os.system [echo]", "tag == "),
    "a tag of its own": ("events: {view: !secret x}", "tag == '!secret', must not be used"),
    "binary": ("events: {view: !!binary aGk=}", "must not be used"),
    "a zero byte": (b"events: {view\x00: {}}", "must not hold the character"),
    "bytes that are no text": (b"events:\n  caf\xe9: {}", "f.yaml:2: text == b'\\xe9: {', must be UTF-8"),
    "half a surrogate": (b"events: {view: {description: \xed\xa0\x80}}", "must be UTF-8"),
    "an escaped surrogate": ('events: {view: {description: "\\ud800"}}', "Unicode character"),
    "a tab": ("events:\n\tview: {}", "cannot be read"),
    "an open quote": ('events: {view: {description: "no end', "cannot be read"),
    "a list for a key": ("events: {[a, b]: {}}", "key == 'a list or mapping', must be text"),
    "a merge of a word": ("events: {view: {<<: nothing}}", "must merge a mapping or a list of mappings"),
    "an alias into another document": ("x-a: &a {}\n---\nevents: {view: *a}", "must name an anchor that ends above it"),
    "a lone list": ("- events", "must be a mapping of sections"),
    "a lone word": ("events", "must be a mapping of sections"),
    "a list of events": ("events: [view]", "must be a mapping of event names"),
    "too large": ("#" * (4 * 1024 * 1024 + 1), "must have at most"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_a_sentence(name: str, loader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if loader == "CSafeLoader" and not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml here")
    monkeypatch.setattr(document, "_LOADER", getattr(yaml, loader))
    text, words = HOSTILE[name]

    said = problems(text)

    assert any(words in one for one in said), said
    assert max(map(len, said)) < 500


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "unit",
    [
        "{",
        "[",
        "? ",
        "- ",
        "a: ",
        "&a ",
        "*a ",
        "!a ",
        "'",
        '"\\',
        "|\n",
        "%a\n",
        "{a,",
        "a\n",
        "a: b\n",
        "\t",
        "#",
        "---\n",
        "<<: ",
    ],
)
def test_a_full_file_of_anything_is_read_or_refused_in_seconds(unit: str) -> None:
    text = unit * (2_000_000 // len(unit))

    with pytest.raises(GroundswellError) as caught:
        Manifest.parse(text)

    assert len(str(caught.value)) < 100_000


def test_thousands_of_problems_are_cut_short() -> None:
    said = problems("properties:\n" + "".join(f"  p{i}: nothing\n" for i in range(10_000)))

    assert len(said) == 200
