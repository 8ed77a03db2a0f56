"""What the machine offers: cores, memory, disk, text encoding, file locks."""

from __future__ import annotations

import contextlib
import locale
import os
import shutil
import sys
from pathlib import Path

from odqa.doctor.checks import Finding, Surroundings, failed, ok, skipped, warning
from odqa.errors import IndexNotUsableError, OdqaError
from odqa.processes import control_groups, cpu_quota, n_cores

# What the default build of Korean Wikipedia needs: docs/results.md.
_WIKIPEDIA_DISK = 4_500_000_000  # the index, and what is thrown away when it is built
_WIKIPEDIA_MEMORY = 2_500_000_000  # 1.9 GB on two cores, and some room
_LEAST_DISK = 20_000_000  # the sample's index, and some room
_NO_LIMIT = 1 << 60  # version 1 of control groups writes about 2 ** 63 for "no limit"
_UTF8 = "export LC_ALL=C.UTF-8 (or any locale whose name ends in .UTF-8), or PYTHONUTF8=1"


def cores(surroundings: Surroundings) -> Finding:
    """How many cores may be used, and why not all."""
    quota = cpu_quota()
    said = f"{n_cores()} of {os.cpu_count()}"
    if quota is not None:
        said += f", quota {quota:g}"
    threads = os.environ.get("OMP_NUM_THREADS")
    return ok(said + (f", OMP_NUM_THREADS={threads}" if threads else ""))


def memory(surroundings: Surroundings) -> Finding:
    """Whether Korean Wikipedia could be built with the memory that is free."""
    free = free_memory()
    if free is None:
        return skipped("the system does not tell how much memory is free (/proc/meminfo)")
    return enough_memory(free)


def enough_memory(free: int) -> Finding:
    """``free`` bytes against what the default build of Korean Wikipedia needs."""
    said = f"{free / 1e9:.1f} GB free"
    if free >= _WIKIPEDIA_MEMORY:
        return ok(said)
    return warning(
        f"{said}; building Korean Wikipedia with the defaults needs {_WIKIPEDIA_MEMORY / 1e9:g} GB",
        f"odqa build-index kowiki --memory-budget {free // 10**6}M chooses settings that fit",
    )


def free_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes that this process could still take: the machine's, or fewer in a container."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:  # no Linux
        return None
    fields = dict(line.split(":", 1) for line in lines)
    free = [1024 * int(fields["MemAvailable"].split()[0])]
    for folder in control_groups("memory"):
        for limit, usage in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            if (folder / limit).is_file() and (folder / usage).is_file():
                text = (folder / limit).read_text(encoding="ascii").strip()
                if text != "max" and int(text) < _NO_LIMIT:
                    used = int((folder / usage).read_text(encoding="ascii"))
                    free.append(max(0, int(text) - used))
    return min(free)


def disk(surroundings: Surroundings) -> Finding:
    """Whether Korean Wikipedia could be built where the indexes live."""
    folder = _nearest_folder(surroundings.indexes_dir)
    return enough_disk(shutil.disk_usage(folder).free, folder)


def enough_disk(free: int, folder: Path) -> Finding:
    """``free`` bytes in ``folder`` against what the build of Korean Wikipedia needs."""
    said = f"{free / 1e9:.1f} GB free in {folder}"
    elsewhere = "make room, or choose another disk with --indexes-dir"
    if free < _LEAST_DISK:
        return failed(f"{said}: not even the sample fits", elsewhere)
    if free < _WIKIPEDIA_DISK:
        needed = f"building Korean Wikipedia with the defaults needs {_WIKIPEDIA_DISK / 1e9:g} GB"
        return warning(
            f"{said}; {needed}", f"{elsewhere}, or --disk-budget {free // 10**6}M for smaller ones"
        )
    return ok(said)


def encoding(surroundings: Surroundings) -> Finding:
    """Whether Korean is shown right on this terminal and in the names of files."""
    terminal = sys.__stdout__
    at_terminal = terminal is not None and not terminal.closed and terminal.isatty()
    uses = {
        "locale": locale.getpreferredencoding(False),
        "file names": sys.getfilesystemencoding(),
        **({"terminal": terminal.encoding} if terminal is not None and at_terminal else {}),
    }
    said = ", ".join(f"{use} {name}" for use, name in uses.items())
    if all(name.lower().replace("-", "").replace("_", "") == "utf8" for name in uses.values()):
        return ok(said)
    pipe = "" if at_terminal else "; what goes to a file or a pipe is UTF-8 all the same"
    return warning(said + pipe, _UTF8)


def lock(surroundings: Surroundings) -> Finding:
    """Whether two builds of one index keep out of each other's way where the indexes live."""
    from odqa.store import WorkDirectory

    if sys.platform == "win32":
        return skipped("builds are not guarded against each other on Windows")
    folder, name = _nearest_folder(surroundings.indexes_dir), f"odqa-doctor-{os.getpid()}"
    try:
        with WorkDirectory(folder, name), contextlib.suppress(IndexNotUsableError):
            with WorkDirectory(folder, name):
                pass
            return warning(
                f"{folder} gives a lock to two builds at once",
                "start only one build of an index at a time, or use a local disk (--indexes-dir)",
            )
    except (OSError, OdqaError) as error:
        return warning(
            f"{folder} cannot be written to, so that indexes there can only be searched ({error})",
            "choose another folder with --indexes-dir to build one",
        )
    return ok(f"works in {folder}")


def _nearest_folder(path: Path) -> Path:
    """``path``, or the folder above it in which it would be made."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())
