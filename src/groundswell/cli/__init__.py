"""The command line. Errors of the tree are shown in one line, without a traceback; the exit code says which kind.

0 done    1 a promise is broken    2 bad input or usage    3 try again later    70 a bug    130 interrupted
"""

from __future__ import annotations

import sys

from groundswell.errors import GroundswellError, PromiseBroken, Transient

__all__ = ["main"]

EXIT_PROMISE_BROKEN = 1
EXIT_INPUT = 2
EXIT_LATER = 3
EXIT_BUG = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command that the arguments name, and exit."""
    from groundswell.cli.app import build
    from groundswell.cli.output import say_error

    try:
        build()()
    except GroundswellError as error:
        say_error(str(error))
        sys.exit(_exit_code(error))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:  # noqa: BLE001  # a bug: the traceback goes into a file, the user gets a sentence
        say_error(_report_bug(error))
        sys.exit(EXIT_BUG)


def _report_bug(error: Exception) -> str:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="groundswell-bug-", suffix=".txt", delete=False) as report:
        traceback.print_exception(error, file=report)
    return f"this is a bug of Groundswell: {error!r}; please report it with {report.name}"


def _exit_code(error: GroundswellError) -> int:
    if isinstance(error, PromiseBroken):
        return EXIT_PROMISE_BROKEN
    return EXIT_LATER if isinstance(error, Transient) else EXIT_INPUT
