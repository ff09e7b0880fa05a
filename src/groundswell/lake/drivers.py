"""Exceptions of SQLite, SQLAlchemy, Iceberg, Parquet and the file system, told as ours."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import pyarrow as pa
import pydantic
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from sqlalchemy import exc

from groundswell.errors import CommitConflict, Corrupt, Unavailable

__all__ = ["driver_errors"]

_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def driver_errors(what: str) -> Generator[None]:
    """Tell what goes wrong while doing ``what`` in our own exceptions."""
    try:
        yield
    except CommitFailedException as error:
        raise CommitConflict(f"{what}: someone else committed first ({error})") from error
    except NoSuchTableError as error:
        raise Corrupt(f"{what}: the catalog no longer knows the table ({error}); restore the lake") from error
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        raise Unavailable(f"{what}: the catalog is locked, full or away ({_first_line(error)})") from error
    except exc.DatabaseError as error:
        raise Corrupt(f"{what}: the catalog cannot be read ({_first_line(error)}); restore it from a backup") from error
    except (pydantic.ValidationError, UnicodeDecodeError) as error:
        raise Corrupt(f"{what}: a metadata file is damaged ({_first_line(error)})") from error
    except pa.ArrowInvalid as error:
        raise Corrupt(f"{what}: a file does not hold what it should ({_first_line(error)})") from error
    except OSError as error:
        if error.errno is None:  # Arrow, on bytes that cannot be decoded
            raise Corrupt(f"{what}: a file is damaged ({_first_line(error)})") from error
        if error.errno in _DISK_FULL:
            raise Unavailable(f"{what}: the disk is full; free space and try again") from error
        raise Unavailable(f"{what}: {error.strerror or error}") from error


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
