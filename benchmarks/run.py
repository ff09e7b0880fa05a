"""Every measurement, one after the other, on a machine that does nothing else: `make bench`.

    python benchmarks/run.py                all of it, about an hour and a half
    python benchmarks/run.py --quick        the same at a tenth of the size, to see that everything runs
    python benchmarks/run.py engine lake    only these

Each is a process of its own; results go to benchmarks/results/ with the machine's size. One that fails is named at the
end and the others go on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Measurement(NamedTuple):
    """A script with its arguments at full size and at a tenth."""

    name: str
    full: str
    quick: str


MEASUREMENTS = (
    Measurement("stats", "stats.py", "stats.py --quick"),
    Measurement("flags", "flags.py", "flags.py --requests 4000"),
    Measurement("log", "log.py --note", "log.py --seconds 1"),
    Measurement("fingerprints", "fingerprints.py --note", "fingerprints.py --millions 10"),
    Measurement("decode", "intake.py decode", "intake.py decode --seconds 5"),
    Measurement("intake", "intake.py batches --seconds 60", "intake.py batches --seconds 6"),
    Measurement("single", "intake.py single --seconds 60", "intake.py single --seconds 6"),
    Measurement("paced", "intake.py paced --seconds 600", "intake.py paced --seconds 20"),
    Measurement("ingest", "ingest.py throughput --note", "ingest.py throughput --events 5000000"),
    Measurement("latency", "ingest.py latency --seconds 60 --note", "ingest.py latency --seconds 15"),
    Measurement("restart", "ingest.py restart --note", "ingest.py restart --fingerprints 10000000"),
    Measurement("import", "import_.py --note", "import_.py --events 400000"),
    Measurement("lake", "lake.py --note", "lake.py --quick"),
    Measurement("portfolio", "engine.py portfolio", "engine.py portfolio --scale 0.05"),
    Measurement("single-experiment", "engine.py single", "engine.py single --scale 0.05"),
    Measurement("together", "together.py --seconds 600 --note", "together.py --seconds 30"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(one.name for one in MEASUREMENTS))
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    chosen = [one for one in MEASUREMENTS if not asked.names or one.name in asked.names]
    failed: list[str] = []
    for one in chosen:
        script, *arguments = (one.quick if asked.quick else one.full).split()
        print(f"== {one.name}: {script} {' '.join(arguments)}", flush=True)
        if subprocess.run([sys.executable, str(HERE / script), *arguments], check=False).returncode:
            failed.append(one.name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
