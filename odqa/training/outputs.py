"""What a training writes: folders and files that one process at a time writes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from odqa.errors import UsageError
from odqa.store.work import lock_directory


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a folder and keep other trainings out of it: two would remove each other's files.

    Raises:
        UsageError: another process is writing into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, f"{folder}: another process is training into this folder"):
        yield


@contextlib.contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """A file of text that gets its name once it is whole.

    Raises:
        UsageError: another process is writing it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.touch()
    with _locked(part, f"{path}: another process is writing this file"):
        with part.open("w", encoding="utf-8") as file:
            yield file
        part.replace(path)


@contextlib.contextmanager
def _locked(path: Path, otherwise: str) -> Iterator[None]:
    lock = lock_directory(path)
    if lock is None and sys.platform != "win32":
        raise UsageError(f"{otherwise}; wait for it, or choose another with --output")
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)
