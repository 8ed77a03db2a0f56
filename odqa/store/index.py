"""Finished indexes: their manifest, and how one is found by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from odqa.errors import IndexNotUsableError
from odqa.store.work import sync, work_path, write_json

FORMAT = 1  # of the folder; raised when an older program could not read a newer index
MANIFEST_NAME = "manifest.json"
RECIPE_NAME = "recipe.json"  # what the index is built from; written first
_SAMPLE = "sample"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index holds. It is written last: where it is, the index is complete.

    Two builds of one corpus with one configuration differ in ``build`` alone.
    """

    odqa: str  # version of the program
    corpus: str  # name of the source
    documents: int
    passages: int
    terms: int  # of the sparse leg's vocabulary; 0 without that leg
    legs: tuple[str, ...]  # of "sparse", "dense"
    config: Mapping[str, Mapping[str, Any]]  # the sections that the index depends on
    tokenizer: str | None  # fingerprints; None without the leg
    encoder: str | None
    duplicates: Mapping[str, Any] | None = None  # counts; None where none were looked for
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # bytes and blake2b
    build: Mapping[str, Any] = field(default_factory=dict)  # when, and in how many seconds
    format: int = FORMAT


def write_manifest(directory: Path, manifest: Manifest, entries: Iterable[str]) -> None:
    """Record every file under ``entries`` with its checksum, and write the manifest.

    The files are forced to the disk before it, so that a manifest never promises what a power
    failure has taken.
    """
    files = {}
    for path in sorted(path for entry in entries for path in _files(directory / entry)):
        sync(path)
        files[path.relative_to(directory).as_posix()] = {
            "bytes": path.stat().st_size,
            "blake2b": _checksum(path),
        }
    complete = dataclasses.replace(manifest, files=files)
    write_json(directory / MANIFEST_NAME, dataclasses.asdict(complete))
    sync(directory)


def read_manifest(directory: Path | str) -> Manifest:
    """The manifest of a finished index whose files are all there in their full size.

    Raises:
        IndexNotUsableError: no index, an unfinished one, a damaged one, or one of another format.
    """
    directory = Path(directory)
    path = directory / MANIFEST_NAME
    if not path.is_file():
        raise IndexNotUsableError(_why_not_finished(directory))
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise IndexNotUsableError(
                f"{directory}: the index has format {values['format']}, this version reads "
                f"format {FORMAT}; build it again"
            )
        manifest = Manifest(**{**values, "legs": tuple(values["legs"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexNotUsableError(
            f"{path}: the manifest is damaged ({error!r}); build the index again"
        ) from error
    for name, expected in manifest.files.items():
        file = directory / name
        if not file.is_file() or file.stat().st_size != expected["bytes"]:
            raise IndexNotUsableError(
                f"{file}: missing, or not of the size that the index recorded; build the index "
                "again with --force"
            )
    return manifest


def check_files(directory: Path, manifest: Manifest) -> list[str]:
    """The files of an index that are missing or not as they were written, by their checksums."""
    return [
        name
        for name, expected in sorted(manifest.files.items())
        if not (directory / name).is_file() or _checksum(directory / name) != expected["blake2b"]
    ]


def list_indexes(indexes_dir: Path) -> list[str]:
    """The names of the finished indexes in a folder, sorted."""
    if not indexes_dir.is_dir():
        return []
    return sorted(
        entry.name
        for entry in indexes_dir.iterdir()
        if not entry.name.startswith(".") and (entry / MANIFEST_NAME).is_file()
    )


def find_index(name_or_path: str | Path | None, indexes_dir: Path | str) -> Path:
    """The folder of a finished index, by its name in ``indexes_dir`` or by its path.

    None stands for the only index there is, or, of several, for the one called "sample".

    Raises:
        IndexNotUsableError: there is none, it is not finished, or several could be meant.
    """
    indexes_dir = Path(indexes_dir)
    names = list_indexes(indexes_dir)
    if name_or_path is None:
        return indexes_dir / _default_name(names, indexes_dir)
    named = indexes_dir / name_or_path
    for directory in (named, Path(name_or_path)):
        if (directory / MANIFEST_NAME).is_file():
            return directory
    for directory in (work_path(indexes_dir, str(name_or_path)), named, Path(name_or_path)):
        if directory.is_dir():
            raise IndexNotUsableError(_why_not_finished(directory))
    raise IndexNotUsableError(
        f"there is no index '{name_or_path}' in {indexes_dir}, nor at that path; {_known(names)}"
    )


def _default_name(names: list[str], indexes_dir: Path) -> str:
    if len(names) == 1:
        return names[0]
    if _SAMPLE in names:
        return _SAMPLE
    if names:
        raise IndexNotUsableError(f"{indexes_dir} holds several; {_known(names)}: choose --index")
    unfinished = sorted(indexes_dir.glob(".*.building")) if indexes_dir.is_dir() else []
    if unfinished:
        raise IndexNotUsableError(_why_not_finished(unfinished[0]))
    raise IndexNotUsableError(f"{indexes_dir} holds no index; {_known(names)}")


def _known(names: list[str]) -> str:
    if names:
        return "the indexes there are: " + ", ".join(names)
    return "build one with: odqa build-index"


def _why_not_finished(directory: Path) -> str:
    """Why a folder without a manifest is no index, and what to do."""
    if not directory.exists():
        return f"{directory}: there is no such index; build one with: odqa build-index"
    name = directory.name
    if name.startswith(".") and name.endswith(".building"):
        name = name[1 : -len(".building")]
        source = _source(directory / RECIPE_NAME)
        command = ["odqa", "build-index", *source, "--name", name, "--resume"]
        if directory.parent != Path("indexes"):
            command += ["--indexes-dir", str(directory.parent)]
        return (
            f"{directory}: the index '{name}' is unfinished; continue it with: "
            f"{shlex.join(command)} (and the options it was begun with)"
        )
    return (
        f"{directory}: no {MANIFEST_NAME} in it, so it is no index or a damaged one; build it "
        "with: odqa build-index --force"
    )


def _source(recipe_path: Path) -> list[str]:
    """The source that a recipe names, as an argument; none where the build had hardly begun."""
    try:
        return [str(json.loads(recipe_path.read_text(encoding="utf-8"))["source"])]
    except (OSError, ValueError, KeyError):
        return []


def _files(entry: Path) -> list[Path]:
    if entry.is_file():
        return [entry]
    return [path for path in entry.rglob("*") if path.is_file()]


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
