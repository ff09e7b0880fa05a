"""Exceptions of SQLite, SQLAlchemy, Iceberg, Parquet and the file system, told as ours."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, ValidationError
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError

from groundswell.errors import CommitConflict, Corrupt, GroundswellError, Unavailable

__all__ = ["driver_errors", "reading_metadata"]

_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_UNDECODABLE: Final = (
    *(ValidationError, ValueError, EOFError, LookupError, TypeError, AssertionError, OverflowError),
    *(SystemError, MemoryError),  # of a length that was damaged
)


@contextmanager
def driver_errors(what: str) -> Generator[None]:
    """Tell what goes wrong while doing ``what`` in our own exceptions."""
    try:
        yield
    except CommitFailedException as error:
        raise CommitConflict(f"{what}: someone else committed first ({error})") from error
    except (SQLAlchemyError, NoSuchTableError) as error:
        raise _of_catalog(what, error) from error
    except pa.ArrowMemoryError as error:
        raise Unavailable(f"{what}: there is not enough memory ({_first_line(error)})") from error
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowSerializationError) as error:
        raise Corrupt(f"{what}: a file does not hold what it should ({_first_line(error)})") from error
    except OSError as error:
        raise _of_files(what, error) from error


@contextmanager
def reading_metadata(location: str) -> Generator[None]:
    """Tell damaged metadata by the name of its file: decoders of JSON and Avro fail on it in their own many ways."""
    try:
        yield
    except _UNDECODABLE as error:
        raise Corrupt(f"metadata file {location} is damaged ({_first_line(error)}); restore the lake") from error


def _of_catalog(what: str, error: Exception) -> GroundswellError:
    if isinstance(error, NoSuchTableError):
        return Corrupt(f"{what}: the catalog no longer knows the table ({error}); restore the lake")
    if isinstance(error, DatabaseError) and not isinstance(error, OperationalError):
        return Corrupt(f"{what}: the catalog cannot be read ({_first_line(error)}); restore it from a backup")
    return Unavailable(f"{what}: the catalog is locked, full or away ({_first_line(error)})")


def _of_files(what: str, error: OSError) -> GroundswellError:
    if isinstance(error, FileNotFoundError):
        return Corrupt(f"{what}: {error.filename or _first_line(error)} is missing; restore the lake")
    if error.errno is None:  # Arrow, on bytes that cannot be decoded
        return Corrupt(f"{what}: a file is damaged ({_first_line(error)})")
    if error.errno in _DISK_FULL:
        return Unavailable(f"{what}: the disk is full; free space and try again")
    return Unavailable(f"{what}: {error.strerror or error}")


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0] or type(error).__name__
