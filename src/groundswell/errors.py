"""Every exception that Groundswell raises on purpose.

    GroundswellError
    ├── Transient                 a retry of the same call may succeed
    │   ├── Overloaded            a bounded queue is full; carries ``retry_after_s``
    │   ├── Unavailable           a store, log or lake is locked, full or away
    │   └── CommitConflict        someone else committed first; reload and decide
    └── Terminal                  the same call fails again until something changes
        ├── InvalidInput          a value breaks a rule (carries name, value, rule, next step)
        │   └── InvalidDefinition a definition breaks a rule (carries file and line)
        │       └── InvalidDefinitions  every problem of one manifest at once
        ├── NotFound              no such object
        ├── Conflict              an object exists in another version or with other content
        ├── Unauthorized          a key is missing, unknown or revoked
        ├── RetentionGap          the log no longer holds records that were asked for
        ├── SnapshotGone          the lake no longer holds the snapshot that was asked for
        ├── Corrupt               stored bytes do not match their digest or format
        ├── PromiseBroken         an audit found a promise that does not hold
        ├── NotComputable         a number cannot be computed; carries the reason
        └── NotInstalled          an optional engine is missing; carries the install command

Driver exceptions (sqlite3, pyarrow, pyiceberg, sqlalchemy, OSError) are mapped to these at the seam that owns them.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "CommitConflict",
    "Conflict",
    "Corrupt",
    "GroundswellError",
    "InvalidDefinition",
    "InvalidDefinitions",
    "InvalidInput",
    "NotComputable",
    "NotFound",
    "NotInstalled",
    "Overloaded",
    "PromiseBroken",
    "RetentionGap",
    "SnapshotGone",
    "Terminal",
    "Transient",
    "Unauthorized",
    "Unavailable",
]


class GroundswellError(Exception):
    """Root of the tree."""


class Transient(GroundswellError):
    """A retry of the same call may succeed."""


class Terminal(GroundswellError):
    """The same call fails again until something changes."""


class Overloaded(Transient):
    """A bounded queue is full; the sender should come back after ``retry_after_s`` seconds."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(Transient):
    """A store, log or lake is locked, full or away."""


class CommitConflict(Transient):
    """Someone else committed first, or a range does not start where the lake stands."""


class InvalidInput(Terminal):
    """A value breaks a rule.

    The message is uniform: ``name == value, rule; next step``.
    """

    def __init__(self, name: str, value: object, rule: str, *, next_step: str | None = None) -> None:
        shown = repr(value)
        if len(shown) > _SHOWN_CHARS_MAX:
            shown = shown[: _SHOWN_CHARS_MAX - 1] + "…"
        message = f"{name} == {shown}, {rule}"
        super().__init__(f"{message}; {next_step}" if next_step else message)
        self.name = name
        self.value = value
        self.rule = rule
        self.next_step = next_step


class InvalidDefinition(InvalidInput):
    """A definition file breaks a rule; ``file`` and ``line`` (1-based) say where."""

    def __init__(
        self,
        name: str,
        value: object,
        rule: str,
        *,
        next_step: str | None = None,
        file: str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(name, value, rule, next_step=next_step)
        self.file = file
        self.line = line

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        text = super().__str__()
        return f"{where}: {text}" if where else text


class InvalidDefinitions(InvalidDefinition):
    """Every problem of one manifest, so that they can be mended in one go; ``problems`` is never empty."""

    def __init__(self, problems: Sequence[InvalidDefinition]) -> None:
        first = problems[0]
        super().__init__(
            first.name, first.value, first.rule, next_step=first.next_step, file=first.file, line=first.line
        )
        self.problems = tuple(problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        return f"{len(self.problems)} problems; nothing was applied\n{lines}"


class NotFound(Terminal):
    """No such object."""


class Conflict(Terminal):
    """An object exists in another version or with other content."""


class Unauthorized(Terminal):
    """A key is missing, unknown or revoked."""


class RetentionGap(Terminal):
    """The log no longer holds records that were asked for."""


class SnapshotGone(Terminal):
    """The lake no longer holds the snapshot that was asked for."""


class Corrupt(Terminal):
    """Stored bytes do not match their digest or format."""


class PromiseBroken(Terminal):
    """An audit found a promise that does not hold."""


class NotComputable(Terminal):
    """A number cannot be computed; ``reason`` says why in words a person can act on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotInstalled(Terminal):
    """An optional engine is missing; the message carries the exact install command."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'groundswell[{extra}]'")


_SHOWN_CHARS_MAX = 120
