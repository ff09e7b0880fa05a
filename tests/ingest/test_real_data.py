"""The published files through the very path that live events take: counts are exact, twice is once."""

# pyarrow.compute makes its functions when it is imported, so their names are not in its source
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from groundswell.ingest.importer import FileImporter, ImportReport
from groundswell.ingest.mapping import load_mapping
from groundswell.store import Store
from groundswell.store.manifest import read_manifest

DATA = Path("../shared/data")
EXAMPLES = Path("examples")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not on this machine")


def run(bench: Any, tmp_path: Path, example: str, file: Path, **parameters: str) -> ImportReport:
    store = Store.open(tmp_path / "control.db", bench.clock)
    store.apply(read_manifest([EXAMPLES / example / "definitions.yaml"]), by="test")
    definitions = store.definitions()
    bench.definitions[definitions.version] = definitions
    mapping = load_mapping(EXAMPLES / example / "mapping.yaml", parameters)
    report = FileImporter(bench.log, store, definitions, clock=bench.clock).run(file, mapping)
    bench.service().run_once()
    store.close()
    return report


def rows(bench: Any, *columns: str) -> Any:
    return bench.lake.read(bench.lake.files(), list(columns))


def test_hillstrom_has_its_published_counts(bench: Any, tmp_path: Path) -> None:
    report = run(bench, tmp_path, "hillstrom", DATA / "experiments/hillstrom.csv.gz")

    table = rows(bench, "type", "variant", "user_id", "spend")
    by_type = Counter(table.column("type").to_pylist())
    exposures = table.filter(pc.equal(table.column("type"), "exposure"))
    assert (report.progress.rows, report.progress.refused, report.progress.dead_lettered) == (64_000, 0, 0)
    assert by_type == {"exposure": 64_000, "visit": 9_394, "purchase": 578}
    assert Counter(exposures.column("variant").to_pylist()) == {
        "mens_email": 21_307,
        "womens_email": 21_387,
        "no_email": 21_306,
    }
    assert len(set(table.column("user_id").to_pylist())) == 64_000
    assert bench.state().as_of_us is not None
    assert len(bench.state().watermarks_us) == 4


def test_importing_the_same_file_again_changes_nothing(bench: Any, tmp_path: Path) -> None:
    file = DATA / "experiments/hillstrom.csv.gz"
    first = run(bench, tmp_path, "hillstrom", file)
    state, ends = bench.state(), bench.log.ends("events")

    again = run(bench, tmp_path, "hillstrom", file)

    assert again.already
    assert again.progress.accepted == first.progress.accepted
    assert (bench.state(), bench.log.ends("events")) == (state, ends)


def test_open_bandit_has_its_published_clicks(bench: Any, tmp_path: Path) -> None:
    for policy in ("random", "bts"):
        for campaign in ("all", "women"):
            file = DATA / f"bandit/{policy}/{campaign}/{campaign}.csv.gz"
            run(bench, tmp_path, "open_bandit", file, policy=policy, campaign=campaign)

    table = rows(bench, "type", "anonymous_id", "variant", "experiment")
    kinds = Counter(table.column("type").to_pylist())
    clicks = table.filter(pc.equal(table.column("type"), "click"))
    by_arm = Counter(unit.rsplit("-", 1)[0] for unit in clicks.column("anonymous_id").to_pylist())
    assert kinds == {"exposure": 40_000, "impression": 40_000, "click": 172}
    assert by_arm == {"all-random": 38, "all-bts": 42, "women-random": 46, "women-bts": 46}
