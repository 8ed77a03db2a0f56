"""What an index is built from, and whether an unfinished or finished one is of the same."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from odqa.errors import UsageError
from odqa.store import (
    MANIFEST_NAME,
    RECIPE_NAME,
    WorkDirectory,
    read_manifest,
    read_recipe,
    write_json,
)

logger = logging.getLogger(__name__)

SHARDS, SHARDS_DONE = "shards", "shards.json"  # in the work folder


class SourceChangedError(UsageError):
    """The corpus is no longer the one that the finished shards were made of."""


def source_changed(source: str) -> SourceChangedError:
    """The error for a corpus that has changed under a build."""
    return SourceChangedError(
        f"{source} has changed since the unfinished build was begun; start it anew with --force"
    )


def source_state(path: Path) -> dict[str, int]:
    """What would show that a file or folder has changed; nothing for a source that is neither."""
    if path.is_dir():
        states = [entry.stat() for entry in path.rglob("*") if entry.is_file()]
    elif path.is_file():
        states = [path.stat()]
    else:
        return {}
    return {
        "files": len(states),
        "bytes": sum(state.st_size for state in states),
        "modified_ns": max((state.st_mtime_ns for state in states), default=0),
    }


def existing_index(work: WorkDirectory, recipe: dict[str, Any]) -> Path:
    """The finished index of this name, if it is the one asked for.

    Raises:
        UsageError: it is another.
        IndexNotUsableError: it is damaged.
    """
    path = work.final_path
    differing = differences(read_recipe(path), recipe)
    if differing:
        raise UsageError(
            f"{path} exists already, built otherwise ({', '.join(differing[:5])}); replace it with "
            "--force, or choose another --name"
        )
    read_manifest(path)
    logger.info("%s is already built of this corpus with these settings", path)
    return path


def refuse_to_replace_what_is_no_index(path: Path) -> None:
    """Guard a folder of something else that has the name of the index to be.

    Raises:
        UsageError: there is one.
    """
    marks = (MANIFEST_NAME, RECIPE_NAME)
    if path.is_dir() and (not any(path.iterdir()) or any((path / mark).exists() for mark in marks)):
        return
    if path.exists():
        raise UsageError(
            f"{path} exists and is no index, so it is not replaced; use another --name"
        )


def prepare(work: WorkDirectory, recipe: dict[str, Any], *, resume: bool, force: bool) -> None:
    """Leave in the work folder either nothing but the recipe or what this build can go on with."""
    begun = any(work.path.glob(f"{SHARDS}/*.npz")) or (work.path / MANIFEST_NAME).exists()
    if not (resume and begun):
        start_anew(work, recipe)
        return
    differing = differences(read_recipe(work.path), recipe)
    if not (work.path / SHARDS_DONE).exists():
        # A bad line has been mended, say: the shards know whether their articles are the same.
        differing = [name for name in differing if not name.startswith("source_state.")]
    if not differing:
        write_json(work.path / RECIPE_NAME, recipe)
    elif not force:
        raise UsageError(
            f"an unfinished build of '{work.name}' was begun otherwise ({', '.join(differing)}); "
            "go on with the former settings, or start anew with --force"
        )
    else:
        start_anew(work, recipe)


def start_anew(work: WorkDirectory, recipe: dict[str, Any]) -> None:
    """Leave nothing in the work folder but the recipe."""
    work.clear()
    write_json(work.path / RECIPE_NAME, recipe)


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """The dotted names of the entries in which two recipes differ."""
    differing = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            differing += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            differing.append(f"{prefix}{key}")
    return differing
