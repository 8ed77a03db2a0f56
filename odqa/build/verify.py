"""Checking a finished index: every file against its checksum, every count against the others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odqa.build.components import open_retriever
from odqa.build.indexing import Progress
from odqa.config import Config
from odqa.errors import ConfigError, IndexNotUsableError, MissingDependencyError
from odqa.store import (
    MANIFEST_NAME,
    Manifest,
    PassageStore,
    checksum,
    legible_files,
    parse_manifest,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the files of an index are found to be.

    ``damaged`` and ``unexpected`` name files, with what is wrong with each. ``recorded`` is
    ``Manifest.files``, or what is legible of it where the manifest is damaged (and None).
    """

    manifest: Manifest | None
    recorded: Mapping[str, Mapping[str, Any]]
    damaged: Mapping[str, str]
    unexpected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What ``verify_index`` found. ``notes`` say what could not be looked at; they are no fault."""

    files: int
    bytes: int
    documents: int
    passages: int
    damaged: Mapping[str, str]  # file, and what is wrong with it
    unexpected: tuple[str, ...]  # files that the index does not know
    disagreements: tuple[str, ...]  # between manifest, passages, sparse and dense
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Is everything as it was written?"""
        return not (self.damaged or self.unexpected or self.disagreements)


def verify_index(
    directory: Path, config: Config, *, progress: Progress | None = None
) -> IndexReport:
    """Check a finished index: its files, and if these are as they were written, its counts.

    ``config`` says how the encoder is run; what the index was built with is in its manifest.
    """
    inspection = inspect_files(directory, progress=progress)
    manifest = inspection.manifest
    disagreements, notes = [], []
    if manifest is not None and not inspection.damaged:
        disagreements = _wrong_counts(directory, manifest)
        for leg in manifest.legs:
            try:
                open_retriever(directory, config, leg)
            except IndexNotUsableError as error:
                disagreements.append(str(error))
            except (ConfigError, MissingDependencyError) as error:
                notes.append(f"{leg} was not opened: {error}")
    return IndexReport(
        files=len(inspection.recorded) + 1,
        bytes=sum(int(entry["bytes"]) for entry in inspection.recorded.values()),
        documents=manifest.documents if manifest else 0,
        passages=manifest.passages if manifest else 0,
        damaged=inspection.damaged,
        unexpected=inspection.unexpected,
        disagreements=tuple(disagreements),
        notes=tuple(notes),
    )


def inspect_files(directory: Path, *, progress: Progress | None = None) -> Inspection:
    """Compare every file of an index with the size and the checksum that were recorded of it."""
    damaged: dict[str, str] = {}
    manifest: Manifest | None = None
    try:
        manifest = parse_manifest(directory)
    except IndexNotUsableError as error:
        logger.debug("%s", error)
        there = (directory / MANIFEST_NAME).is_file()
        damaged[MANIFEST_NAME] = "damaged, or of another format" if there else "missing"
    recorded = manifest.files if manifest is not None else legible_files(directory)
    for number, (name, expected) in enumerate(sorted(recorded.items()), start=1):
        what = _damage(directory / name, expected)
        if what:
            damaged[name] = what
        if progress is not None:
            progress("check files", number, len(recorded))
    unknown = sorted(_file_names(directory) - recorded.keys() - {MANIFEST_NAME})
    if manifest is not None:
        return Inspection(manifest, recorded, damaged, tuple(unknown))
    for name in unknown:
        damaged[name] = "perhaps undamaged: its checksum is not legible in the manifest"
    return Inspection(None, recorded, damaged, ())


def _damage(path: Path, expected: Mapping[str, Any]) -> str:
    """What is wrong with a file; "" where it is as it was written."""
    if not path.is_file():
        return "missing"
    try:
        if checksum(path) == expected["blake2b"]:
            return ""
        size = path.stat().st_size
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if size != expected["bytes"]:
        return f"{size:,} bytes long, {expected['bytes']:,} were written"
    return "changed since it was written"


def _wrong_counts(directory: Path, manifest: Manifest) -> list[str]:
    """Where manifest and passages disagree; the legs are compared with these when opened."""
    store = PassageStore.open(directory / "passages")
    counts = {
        "documents": (manifest.documents, store.n_documents),
        "passages": (manifest.passages, len(store)),
    }
    if "sparse" in manifest.legs:
        from odqa.retrieval.vocabulary import MappedVocabulary

        counts["terms"] = (manifest.terms, len(MappedVocabulary(directory / "sparse")))
    return [
        f"the manifest says {recorded:,} {what}, there are {found:,}"
        for what, (recorded, found) in counts.items()
        if recorded != found
    ]


def _file_names(directory: Path) -> set[str]:
    return {
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()
    }
