"""How many cores there are for this process, and a pool of processes that ends at once."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from pathlib import Path

from odqa.errors import OdqaError

_OWN_GROUPS, _CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def n_cores() -> int:
    """The processor cores that this process may use: its affinity, and its container's quota.

    A quota (``docker run --cpus``) is rounded up.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, -int(-quota // 1)))


def cpu_quota() -> float | None:
    """The least quota of this process's control groups, in cores; None without one."""
    quotas = []
    for folder in control_groups("cpu"):
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            quotas.append(None if quota == "max" else int(quota) / int(period))
        elif (folder / "cpu.cfs_quota_us").is_file():
            allowed = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
            quotas.append(allowed / int(period) if allowed > 0 else None)  # -1: no quota
    return min((quota for quota in quotas if quota), default=None)


def control_groups(
    controller: str, *, own: Path | None = None, mount: Path | None = None
) -> list[Path]:
    """The folders of this process's control groups, from its own up; none where there are none.

    ``own`` (default: /proc/self/cgroup) names the groups, see cgroups(7): version 2 has one tree at
    ``mount`` (default: /sys/fs/cgroup), version 1 one for each controller. In a container the path
    may be the host's; then the folder that exists is the one at the top.
    """
    own, mount = own or _OWN_GROUPS, mount or _CGROUPS
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux, or no /proc
        return []
    folders: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folders += _upwards(mount, path)
        elif controller in controllers.split(","):
            folders += [*_upwards(mount / controllers, path), *_upwards(mount / controller, path)]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _upwards(root: Path, path: str) -> list[Path]:
    folder = root / path.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]


def resident_bytes(*, peak: bool = False) -> int | None:
    """What this process holds in memory, now or at most so far; None where it cannot be told."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:  # no Linux
        return None
    return 1024 * int(status.partition("VmHWM:" if peak else "VmRSS:")[2].split()[0])


@contextlib.contextmanager
def worker_pool(
    n_workers: int,
    work: str,
    initializer: Callable[..., None] | None = None,
    initargs: tuple[object, ...] = (),
) -> Iterator[ProcessPoolExecutor]:
    """Workers that are ended at once, whatever they are at, when the body raises.

    They hold one end of a pipe and exit when the other is closed, be it because this process was
    killed: the executor itself can only wait for the work it has handed out. Ctrl-C is left to this
    process.

    Args:
        n_workers: processes.
        work: what they do, for the error: "reading the dump".
        initializer: run once in each, with ``initargs``.

    Raises:
        OdqaError: a worker was ended from outside.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    their_end, our_end = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        n_workers, context, _start_worker, (their_end, initializer, initargs)
    )
    try:
        yield pool
    except BaseException as error:
        our_end.close()
        # Before Python 3.11.5 the pool waits for ever to hand a job over that nobody takes any more
        # (https://github.com/python/cpython/issues/94777): nobody can, so that writing it fails.
        pool._call_queue._reader.close()  # type: ignore[attr-defined]
        if isinstance(error, BrokenProcessPool):
            raise OdqaError(
                f"a process that was {work} was ended from outside, probably for want of memory; "
                "run the same command again (a build continues where it was), with fewer processes "
                "if need be: --set build.workers=1"
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        our_end.close()
        their_end.close()


def _start_worker(
    line: connection.Connection,
    initializer: Callable[..., None] | None,
    initargs: tuple[object, ...],
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends its workers
    threading.Thread(target=_end_with_parent, args=(line,), daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _end_with_parent(line: connection.Connection) -> None:
    """Ends this process when the parent closes ``line``, be it by being killed."""
    connection.wait([line])
    os._exit(1)
