from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

Run = Callable[..., Any]
CARD = (
    "experiment", "snapshot_id", "definitions_version", "as_of", "computed_at", "units", "excluded", "srm", "results",
)  # fmt: skip
RESULT = (
    "metric", "variant", "baseline", "n", "mean", "baseline_n", "baseline_mean", "absolute", "relative", "always_valid",
    "p_value", "warnings",
)  # fmt: skip


def test_a_scorecard_is_the_documented_json(run: Run, shop: Path) -> None:
    card = json.loads(run("scorecard", "new_checkout", "-o", "json", data=shop).stdout)

    assert [key for key in CARD if key not in card] == []
    assert set(card["srm"]) >= {"p_value", "ok"}
    assert [key for key in RESULT if key not in card["results"][0]] == []
    assert set(card["results"][0]["absolute"]) == {"estimate", "low", "high"}
    assert card["units"] == {"control": 201, "treatment": 200}


def test_recomputing_by_the_line_that_the_scorecard_prints_gives_the_same_json(run: Run, shop: Path) -> None:
    first = json.loads(run("scorecard", "new_checkout", "-o", "json", data=shop).stdout)
    program, *arguments = first["recompute"].split()

    again = json.loads(run(*arguments, "-o", "json", data=shop).stdout)

    assert program == "groundswell"
    assert {**again, "computed_at": ""} == {**first, "computed_at": ""}


def test_html_stands_alone(run: Run, shop: Path) -> None:
    page = run("scorecard", "new_checkout", "-o", "html", data=shop).stdout

    assert page.lstrip().startswith("<!doctype html>")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "buyers" in page


def test_importing_again_changes_nothing(run: Run, shop: Path) -> None:
    before = json.loads(run("sql", "select count(*) as n from events", "-o", "json", data=shop).stdout)

    done = run("import", "-m", shop.parent / "mapping.yaml", shop.parent / "history.csv", data=shop)

    after = json.loads(run("sql", "select count(*) as n from events", "-o", "json", data=shop).stdout)
    assert "imported before, nothing to do" in done.stdout
    assert before == after


def test_a_unit_can_be_followed_to_the_experiment_that_counted_it(run: Run, shop: Path) -> None:
    told = run("trace", "u1", data=shop).stdout

    assert "unit u1: 2 events" in told
    assert "experiment new_checkout: counted in treatment" in told


def test_a_dead_letter_is_listed_shown_and_replayed_after_a_fix(run: Run, tmp_path: Path, shop: Path) -> None:
    data = tmp_path / "data"
    definitions = tmp_path / "definitions.yaml"
    definitions.write_text((shop.parent / "definitions.yaml").read_text())
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text((shop.parent / "mapping.yaml").read_text().replace("type: purchase", "type: {column: kind}"))
    (tmp_path / "rows.csv").write_text("user,variant,day,spent,kind\nu1,control,2026-01-06,5,gift\n")
    run("apply", "-f", definitions, data=data)
    assert run("import", "-m", mapping, tmp_path / "rows.csv", data=data).returncode == 0
    waiting = json.loads(run("dead-letters", "list", "-o", "json", data=data).stdout)
    definitions.write_text(
        definitions.read_text().replace("events:\n", "events:\n  gift: {properties: [revenue], required: [revenue]}\n")
    )
    run("apply", "-f", definitions, data=data)

    replayed = run("dead-letters", "replay", data=data)

    assert waiting["reasons"] == {"unknown_type": 1}
    assert "1 replayed; 0 of those chosen still wait" in replayed.stdout
    counted = json.loads(run("sql", "select type from events order by 1", "-o", "json", data=data).stdout)
    assert counted == [{"type": "exposure"}, {"type": "gift"}]
    assert run("audit", data=data).returncode == 0


def test_moments_and_units_are_exported(run: Run, shop: Path, tmp_path: Path) -> None:
    files = run("export", "new_checkout", "--to", tmp_path / "out", data=shop).stdout.split()

    units = pq.read_table(files[1])
    moments = pq.read_table(files[0]).to_pylist()
    assert units.num_rows == 401
    assert {(row["metric"], row["variant"], row["count"]) for row in moments} >= {("buyers", "control", 201)}


def test_a_published_scorecard_is_listed(run: Run, shop: Path) -> None:
    done = run("scorecard", "new_checkout", "--publish", data=shop)

    assert "published as number" in done.stdout
    assert "kept until" in run("scorecards", "new_checkout", data=shop).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["scorecard", "nothing"], 2, "experiment == 'nothing', is not defined in version 1; defined: new_checkout"),
        (["scorecard", "new_checkout", "--snapshot", "12345"], 2, "snapshot 12345"),
        (["scorecard", "new_checkout", "--definitions", "99"], 2, "99"),
        (["scorecard", "new_checkout", "-o", "xml"], 2, "--output == 'xml', must be text, json or html"),
        (["sql", "drop table events"], 2, "error:"),
        (["sql", "select * from read_csv('/etc/passwd')"], 2, "error:"),
        (["sql", "select nothing from events"], 2, "nothing"),
        (["trace", "nobody-at-all"], 2, "neither an event id nor a unit"),
        (["dead-letters", "show", "what"], 2, "error:"),
        (["import", "missing.csv", "-m", "missing.yaml"], 2, "missing.yaml"),
        (["import", "missing.csv", "-m", "MAPPING", "--set", "policy"], 2, "must be NAME=VALUE"),
        (["import", "missing.csv", "-m", "MAPPING"], 2, "missing.csv"),
    ],
)
def test_bad_input_is_one_clear_line(run: Run, shop: Path, arguments: list[str], code: int, told: str) -> None:
    placed = [str(shop.parent / "mapping.yaml") if part == "MAPPING" else part for part in arguments]

    done = run(*placed, data=shop)

    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: ")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_data_says_what_to_do(run: Run, tmp_path: Path) -> None:
    done = run("scorecard", "x", data=tmp_path / "nowhere")

    assert done.returncode == 2
    assert "no data in" in done.stderr


def test_a_corrupted_control_store_is_named(run: Run, shop: Path, tmp_path: Path) -> None:
    import shutil

    data = tmp_path / "data"
    shutil.copytree(shop, data)
    (data / "control.sqlite").write_bytes(b"not a database" * 1000)

    done = run("scorecard", "new_checkout", data=data)

    assert done.returncode == 2
    assert "control.sqlite" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_audit_of_a_lake_with_a_missing_file_says_so(run: Run, shop: Path, tmp_path: Path) -> None:
    import shutil

    data = tmp_path / "data"
    shutil.copytree(shop, data)
    victim = next(iter(sorted((data / "lake").rglob("*.parquet"))))
    victim.unlink()

    done = run("audit", data=data)

    assert done.returncode in {12, 13, 14}
    assert victim.name in done.stdout
    assert "Traceback" not in done.stderr
