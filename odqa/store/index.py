"""Finished indexes: their manifest, and how one is found by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from odqa.errors import IndexNotUsableError
from odqa.store.work import json_text, sync, work_path, write_json

FORMAT = 2  # of the folder; raised when an older program could not read a newer index
MANIFEST_NAME = "manifest.json"
RECIPE_NAME = "recipe.json"  # what the index is built from; written first
REPAIR = "repair"  # in the recipe of an index that is being repaired: the damaged parts
_SAMPLE = "sample"
_SMALL_BYTES = 1 << 16  # files up to this size are checked whenever an index is opened
_BUILD = re.compile(r'"build": (\{[^{}]*\})')
_ENTRY = re.compile(r'"([^"\n]+)": \{\s*"bytes": (\d{1,18}),\s*"blake2b": "([0-9a-f]{32})"\s*\}')


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index holds. It is written last: where it is, the index is complete.

    Two builds of one corpus with one configuration differ in ``build`` alone, which therefore has a
    checksum of its own.
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
    recipe: Mapping[str, Any] = field(default_factory=dict)  # what ``recipe.json`` holds
    duplicates: Mapping[str, Any] | None = None  # counts; None where none were looked for
    dense: Mapping[str, Any] | None = None  # storage and measured recall; None without that leg
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # bytes and blake2b
    build: Mapping[str, Any] = field(default_factory=dict)  # when, and in how many seconds
    format: int = FORMAT
    checksum: str = ""  # of all of the above but ``build``


def complete_manifest(directory: Path, manifest: Manifest, entries: Iterable[str]) -> Manifest:
    """``manifest`` with size and checksum of every file under ``entries``, and its own checksum."""
    files = {}
    for path in sorted(path for entry in entries for path in _files(directory / entry)):
        files[path.relative_to(directory).as_posix()] = {
            "bytes": path.stat().st_size,
            "blake2b": checksum(path),
        }
    build = {**manifest.build, "checksum": _checksum_of(manifest.build, "checksum")}
    manifest = dataclasses.replace(manifest, files=files, build=build)
    own = _checksum_of(dataclasses.asdict(manifest), "build", "checksum")
    return dataclasses.replace(manifest, checksum=own)


def write_manifest(directory: Path, manifest: Manifest, entries: Iterable[str]) -> None:
    """Record every file under ``entries`` with its checksum, and write the manifest.

    The files are forced to the disk before it, so that a manifest never promises what a power
    failure has taken.
    """
    complete = complete_manifest(directory, manifest, entries)
    for name in complete.files:
        sync(directory / name)
    write_json(directory / MANIFEST_NAME, dataclasses.asdict(complete))
    sync(directory)


def read_manifest(directory: Path | str) -> Manifest:
    """The manifest of a finished index that is undamaged as far as a moment can tell.

    Every file is there in its full size; the manifest and the small files have their checksums.

    Raises:
        IndexNotUsableError: no index, an unfinished one, a damaged one, or one of another format.
    """
    directory = Path(directory)
    manifest = parse_manifest(directory)
    for name, expected in manifest.files.items():
        file = directory / name
        if not file.is_file() or file.stat().st_size != expected["bytes"]:
            what = "missing, or not of the size that the index recorded"
        elif expected["bytes"] <= _SMALL_BYTES and checksum(file) != expected["blake2b"]:
            what = "not as it was written"
        else:
            continue
        raise IndexNotUsableError(
            f"{file}: {what}; {mend(directory)}, or build the index again with --force"
        )
    return manifest


def parse_manifest(directory: Path) -> Manifest:
    """The manifest of a finished index, undamaged itself; the other files are not looked at.

    Raises:
        IndexNotUsableError: it is missing, damaged, or of another format.
    """
    path = directory / MANIFEST_NAME
    if not path.is_file():
        raise IndexNotUsableError(_why_not_finished(directory))
    try:
        text = path.read_bytes().decode("utf-8")
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise IndexNotUsableError(
                f"{directory}: the index has format {values['format']}, this version reads "
                f"format {FORMAT}; build it again"
            )
        own = _checksum_of(values, "build", "checksum")
        # The text itself too: white space, say, is not in the values.
        if values["checksum"] != own or text != json_text(values) or not _is_whole(values["build"]):
            raise ValueError("its checksum is another")
        return Manifest(**{**values, "legs": tuple(values["legs"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IndexNotUsableError(
            f"{path}: the manifest is damaged ({error!r}); {mend(directory)}"
        ) from error


def legible_files(directory: Path) -> dict[str, dict[str, Any]]:
    """``Manifest.files`` as far as it is legible in a damaged manifest; empty without one.

    What has the checksum that stands beside its name is what was written, whatever else of the
    manifest is damaged.
    """
    return {
        name: {"bytes": int(n_bytes), "blake2b": of_file}
        for name, n_bytes, of_file in _ENTRY.findall(_manifest_text(directory))
    }


def is_legible_checksum(directory: Path, of_manifest: str) -> bool:
    """Does a damaged manifest hold this checksum of itself?"""
    return f'"{of_manifest}"' in _manifest_text(directory)


def _manifest_text(directory: Path) -> str:
    """What can be read of a manifest, damaged or not; "" without one."""
    try:
        return (directory / MANIFEST_NAME).read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def legible_build(directory: Path) -> dict[str, Any]:
    """``Manifest.build`` where it is undamaged itself in a damaged manifest; else empty."""
    found = _BUILD.search(_manifest_text(directory))
    try:
        build = dict(json.loads(found.group(1))) if found else {}
        return build if build and _is_whole(build) else {}
    except (ValueError, KeyError):
        return {}


def read_recipe(directory: Path) -> dict[str, Any]:
    """The recipe of an index, finished or not; empty where it cannot be read."""
    try:
        recipe = json.loads((directory / RECIPE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return recipe if isinstance(recipe, dict) else {}


def check_files(directory: Path, manifest: Manifest) -> list[str]:
    """The files of an index that are missing or not as they were written, by their checksums."""
    return [
        name
        for name, expected in sorted(manifest.files.items())
        if not (directory / name).is_file() or checksum(directory / name) != expected["blake2b"]
    ]


def checksum(path: Path) -> str:
    """BLAKE2b-128 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def mend(directory: Path) -> str:
    """What to do about a damaged index, for the end of an error's message."""
    return f"mend it with: odqa repair --index {shlex.quote(str(directory))}"


def _checksum_of(values: Mapping[str, Any], *without: str) -> str:
    """The checksum of a JSON object, but for some of its keys."""
    others = {key: value for key, value in values.items() if key not in without}
    text = json_text(others).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _is_whole(build: Mapping[str, Any]) -> bool:
    """Is ``Manifest.build`` as it was written?"""
    return bool(build["checksum"] == _checksum_of(build, "checksum"))


def list_indexes(indexes_dir: Path, *, damaged: bool = False) -> list[str]:
    """The names of the finished indexes in a folder, sorted.

    ``damaged``: also of those that have lost their manifest.
    """
    if not indexes_dir.is_dir():
        return []
    return sorted(
        entry.name
        for entry in indexes_dir.iterdir()
        if not entry.name.startswith(".") and _is_index(entry, damaged)
    )


def _is_index(directory: Path, damaged: bool) -> bool:
    if (directory / MANIFEST_NAME).is_file():
        return True
    hidden = directory.name.startswith(".")  # an unfinished build has a recipe too
    return damaged and not hidden and (directory / RECIPE_NAME).is_file()


def find_index(
    name_or_path: str | Path | None, indexes_dir: Path | str, *, damaged: bool = False
) -> Path:
    """The folder of a finished index, by its name in ``indexes_dir`` or by its path.

    None stands for the only index there is, or, of several, for the one called "sample".
    ``damaged``: one that has lost its manifest will do.

    Raises:
        IndexNotUsableError: there is none, it is not finished, or several could be meant.
    """
    indexes_dir = Path(indexes_dir)
    names = list_indexes(indexes_dir, damaged=damaged)
    if name_or_path is None:
        return indexes_dir / _default_name(names, indexes_dir)
    named, path = indexes_dir / name_or_path, Path(name_or_path)
    if path.name in ("", ".."):  # "." or "..": an index is known by its folder's name
        path = path.resolve()
    for directory in (named, path):
        if _is_index(directory, damaged):
            return directory
    for directory in (work_path(indexes_dir, str(name_or_path)), named, path):
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
        recipe = read_recipe(directory)
        source = [str(recipe["source"])] if "source" in recipe else []
        command = ["odqa", "build-index", *source, "--name", name, "--resume"]
        if REPAIR in recipe:
            command = ["odqa", "repair", "--index", name]
        if directory.parent != Path("indexes"):
            command += ["--indexes-dir", str(directory.parent)]
        return (
            f"{directory}: the index '{name}' is unfinished; continue it with: "
            f"{shlex.join(command)} (and the options it was begun with)"
        )
    what = f"{directory}: no {MANIFEST_NAME} in it"
    if (directory / RECIPE_NAME).is_file():
        return f"{what}, so the index is damaged; {mend(directory)}"
    return f"{what}, so it is no index or a damaged one; build it with: odqa build-index --force"


def _files(entry: Path) -> list[Path]:
    if entry.is_file():
        return [entry]
    return [path for path in entry.rglob("*") if path.is_file()]
