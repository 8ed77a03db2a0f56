"""Where an index is built: a hidden folder, locked while a build runs, renamed when complete."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from odqa.errors import IndexNotUsableError, UsageError

if sys.platform != "win32":
    import fcntl

_HERE = -100  # AT_FDCWD: relative to the current folder
_RENAME_EXCHANGE = 2  # linux/fs.h
_LONGEST_NAME = 255  # bytes, on most file systems
# what flock says on a file system that has no locks, as some network ones
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


def work_path(indexes_dir: Path, name: str) -> Path:
    """Where the index ``name`` is while it is being built."""
    return indexes_dir / f".{name}.building"


class WorkDirectory:
    """The folder in which one index is built, held by one process at a time.

    A context manager. The lock is the operating system's and ends with the process, however that
    ends. Publishing renames the folder, so that an index is there completely or not at all.
    """

    def __init__(self, indexes_dir: Path, name: str) -> None:
        """Raises UsageError where ``name`` could not be a folder's name."""
        if name in ("", ".", "..") or name.startswith(".") or any(c in name for c in "/\\\0"):
            raise UsageError(
                f"{name!r} cannot be the name of an index: it becomes a folder's name, so it may "
                "not be empty, begin with a dot or hold a slash. Choose another with --name"
            )
        if len(os.fsencode(work_path(indexes_dir, name).name)) > _LONGEST_NAME:
            raise UsageError(
                f"the name of the index is too long for a folder's ({len(name)} characters). "
                "Choose another with --name"
            )
        self.name = name
        self.path = work_path(indexes_dir, name)
        self.final_path = indexes_dir / name
        self._old_path = indexes_dir / f".{name}.old"
        self._mark_path = indexes_dir / f".{name}.publishing"
        self._lock: int | None = None

    def __enter__(self) -> WorkDirectory:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = lock_directory(self.path)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise UsageError(
                f"{self.path.parent}: an index cannot be built there ({error.strerror}); choose "
                "another folder with --indexes-dir"
            ) from error
        if self._lock is None and sys.platform != "win32":
            raise IndexNotUsableError(
                f"the index '{self.name}' is being built by another process; wait for it, or "
                "build under another --name"
            )
        self._recover()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()
        if self._lock is not None:
            os.close(self._lock)

    def clear(self) -> None:
        """Throw away everything that has been built."""
        for entry in self.path.iterdir():
            remove(entry)

    def publish(self) -> Path:
        """Put the folder in its final place, instead of the index that may be there.

        On Linux the two folders change places in one step, so that there is an index at any moment.
        Elsewhere there are two renames. Killed on the way, neither index is lost: the next build of
        this name tidies up.
        """
        remove(self._old_path)
        if not self.final_path.exists():
            self.path.rename(self.final_path)
        else:
            write_json(self._mark_path, {"inode": self.path.stat().st_ino})
            if _exchange(self.path, self.final_path):
                remove(self.path)
            else:
                self.final_path.rename(self._old_path)
                self.path.rename(self.final_path)
        sync(self.final_path.parent)
        remove(self._old_path)
        remove(self._mark_path)
        return self.final_path

    def _recover(self) -> None:
        """Mend what a ``publish`` that was killed left behind."""
        if self._mark_path.exists():
            inode = json.loads(self._mark_path.read_text(encoding="utf-8"))["inode"]
            if self.final_path.exists() and self.final_path.stat().st_ino == inode:
                self.clear()  # the old index: the new one is in its place
            remove(self._mark_path)
        if self._old_path.exists():
            if self.final_path.exists():
                remove(self._old_path)
            else:
                self._old_path.rename(self.final_path)


def is_being_built(path: Path) -> bool:
    """Whether a process is building in the folder ``path`` now."""
    if sys.platform == "win32":
        return False
    lock = lock_directory(path)
    if lock is not None:
        os.close(lock)
    return lock is None


def _exchange(first: Path, second: Path) -> bool:
    """Have two folders change places in one step; False where the system cannot."""
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    paths = (os.fsencode(first), os.fsencode(second))
    done: int = library.renameat2(_HERE, paths[0], _HERE, paths[1], _RENAME_EXCHANGE)
    return done == 0


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file that is there completely or not at all."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(json_text(values))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def json_text(values: Mapping[str, Any]) -> str:
    """What ``write_json`` writes.

    Where half a character stands in it (a file's name that is not UTF-8), all is escaped.
    """
    text = json.dumps(values, ensure_ascii=False, indent=2) + "\n"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(values, indent=2) + "\n"
    return text


def sync(path: Path) -> None:
    """Have the system write a file or folder to the disk now."""
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_directory(path: Path) -> int | None:
    """An open descriptor that holds the folder's lock, or None where another process has it.

    The lock ends when the descriptor is closed, at the latest with the process. Without ``fcntl``
    (Windows) it is always None, and nobody is guarded against others; nor is anybody on a file
    system without locks, where it is always a descriptor.
    """
    if sys.platform == "win32":
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between opening and locking, the process that had the lock may have published the folder.
        if path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor)):
            return descriptor
    except BlockingIOError:
        pass
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return descriptor
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
