"""Definitions as people write them: YAML files and folders, merged, each value with its file and line.

Invariants
    an object stands in one place; the same one twice is a problem that names both
    every problem of every file is reported at once
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Final

from groundswell.errors import InvalidDefinition, InvalidDefinitions, InvalidInput, NotFound
from groundswell.model.check import Path, Problem, did_you_mean
from groundswell.model.definitions import KINDS, SECTIONS, Definition, Definitions, Kind, PropertyDef
from groundswell.store.document import MappingNode, Node, ScalarNode, read_documents
from groundswell.store.fields import FieldReader, Place

__all__ = ["Manifest", "read_manifest"]

_SUFFIXES: Final = (".yaml", ".yml")
_IGNORED: Final = "x-"  # sections whose name begins so hold anchors to share
_KIND_OF: Final[dict[str, Kind]] = {section: kind for kind, section in SECTIONS.items()}


@dataclass(frozen=True, slots=True)
class Manifest:
    """Declared objects and where each value stands."""

    declared: dict[tuple[Kind, str], Definition] = field(default_factory=dict)
    places: dict[Path, Place] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | bytes, file: str = "<text>") -> Manifest:
        """Read one text. Raises ``InvalidDefinitions``."""
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        return _of_texts([(file, data)])

    @classmethod
    def of(cls, definitions: Definitions) -> Manifest:
        """Declare what a program made; built-ins are left out."""
        people = definitions.without_builtins()
        return cls({(kind, name): one for kind in SECTIONS for name, one in people.of(kind).items()})

    def objects(self) -> Iterator[tuple[Kind, str, Definition]]:
        """Yield kind, name and definition of every object, in the order of the files."""
        for (kind, name), definition in self.declared.items():
            yield kind, name, definition

    def located(self, problem: Problem) -> InvalidDefinition:
        """Return the problem as an error that names its file and line, where it stands in one."""
        file, line = next(filter(None, map(self.places.get, _candidates(problem))), (None, None))
        return InvalidDefinition(
            ".".join(problem.path), problem.value, problem.rule, next_step=problem.next_step, file=file, line=line
        )


def read_manifest(paths: Iterable[str | os.PathLike[str]]) -> Manifest:
    """Read files and folders; a folder means every .yaml and .yml file below it, hidden ones left out.

    Raises:
        NotFound: a path does not exist, or a folder holds no such file.
        InvalidDefinitions: every problem of every file.
    """
    files = dict.fromkeys(file for path in paths for file in _files_of(FilePath(path)))
    return _of_texts([(str(file), _bytes_of(file)) for file in files])


def _of_texts(texts: Sequence[tuple[str, bytes]]) -> Manifest:
    manifest = Manifest()
    problems: list[InvalidDefinition] = []
    for file, data in texts:
        reader = FieldReader(file, problems, manifest.places, {PropertyDef: "type"})
        for document in read_documents(data, file, problems):
            _read_document(manifest, reader, document)
    if problems:
        raise InvalidDefinitions(problems)
    if not manifest.declared:
        files = ", ".join(file for file, _ in texts)
        next_step = f"begin with one of {', '.join(_KIND_OF)}"
        raise InvalidInput("definitions", files, "must define something", next_step=next_step)
    return manifest


def _read_document(manifest: Manifest, reader: FieldReader, document: Node) -> None:
    if isinstance(document, ScalarNode) and document.is_null:
        return
    if not isinstance(document, MappingNode):
        reader.note(
            (),
            "a list or text",
            "must be a mapping of sections",
            document.line,
            f"known sections: {', '.join(_KIND_OF)}",
        )
        return
    for section, (line, node) in document.entries.items():
        kind = _KIND_OF.get(section)
        if kind is not None:
            _read_section(manifest, reader, kind, node)
        elif not section.startswith(_IGNORED):
            next_step = did_you_mean(section, _KIND_OF, f"known sections: {', '.join(_KIND_OF)}")
            reader.note((), section, "is not a known section", line, next_step)


def _read_section(manifest: Manifest, reader: FieldReader, kind: Kind, node: Node) -> None:
    section = SECTIONS[kind]
    if isinstance(node, ScalarNode) and node.is_null:
        return
    if not isinstance(node, MappingNode):
        reader.note((section,), "a list or text", f"must be a mapping of {kind} names to definitions", node.line)
        return
    for name, (line, value) in node.entries.items():
        path = (section, name)
        first = manifest.places.get(path)
        if first is not None:
            rule = f"must stand in one place, and stands at {first[0]}:{first[1]} too"
            reader.note(path, name, rule, line, "keep one of the two")
            continue
        reader.place(path, line)
        definition = reader.read(value, KINDS[kind], path)
        if definition is not None:
            manifest.declared[kind, name] = definition


def _candidates(problem: Problem) -> Iterator[Path]:
    """Yield the paths at which a problem may stand, the narrowest first."""
    for path in (problem.path, *problem.causes):
        if isinstance(problem.value, str):
            yield (*path, problem.value)
        yield path
        for length in range(len(path) - 1, 1, -1):
            yield path[:length]


def _files_of(path: FilePath) -> list[FilePath]:
    if path.is_dir():
        found = sorted(
            file
            for file in path.rglob("*")
            if file.suffix in _SUFFIXES
            and file.is_file()
            and not any(p.startswith(".") for p in file.relative_to(path).parts)
        )
        if not found:
            raise NotFound(f"folder {path} holds no .yaml file; name a file, or another folder")
        return found
    if not path.exists():
        raise NotFound(f"there is no file or folder {path}")
    return [path]


def _bytes_of(file: FilePath) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput("file", str(file), f"cannot be read ({error.strerror})") from error
