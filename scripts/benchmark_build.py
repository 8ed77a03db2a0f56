"""Build an index in a temporary folder; print seconds by stage, peak memory and size as one line.

    python scripts/benchmark_build.py CORPUS [--set dense.encoder=...] [--indexes-dir DIR]

CPU seconds are those of all processes. Peak memory is the greatest sum, seen ten times a second, of
what the processes hold privately (/proc, Linux only): memory-mapped files are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path

from odqa.build import build_index, plan_build
from odqa.config import load_config
from odqa.store import read_manifest

Usage = tuple[int, float]  # private bytes, CPU seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--indexes-dir", type=Path, help="keep the index there")
    parser.add_argument("--plan", action="store_true", help="predict first, and print that too")
    arguments = parser.parse_args()
    config = load_config(None, arguments.overrides)
    plan = plan_build(arguments.corpus, config) if arguments.plan else None
    watch = Watch()
    with tempfile.TemporaryDirectory(prefix="odqa-benchmark-") as directory:
        path = build_index(
            arguments.corpus,
            indexes_dir=arguments.indexes_dir or directory,
            config=config,
            progress=watch.progress,
        )
        result = watch.result()
        manifest = read_manifest(path)
        result["passages"] = manifest.passages
        result["disk_bytes"] = sum(file["bytes"] for file in manifest.files.values())
    if plan is not None:
        result["predicted"] = {name: getattr(plan, name) for name in plan.__slots__}
    print(json.dumps(result))


class Watch:
    """Notes when each stage began and how much memory and time all processes took."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._stages: dict[str, float] = {}
        self._peak = 0
        self._cpu: dict[int, float] = {}  # by process
        self._running = True
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def progress(self, stage: str, done: int, total: int | None) -> None:
        self._stages[stage] = time.monotonic()

    def result(self) -> dict[str, object]:
        self._running = False
        self._thread.join()
        ends = list(self._stages.values())
        starts = [self._started, *ends]
        return {
            "seconds": round(time.monotonic() - self._started, 1),
            "cpu_seconds": round(sum(self._cpu.values()), 1),
            "peak_private_bytes": self._peak,
            "stages": {
                stage: round(end - start, 1)
                for stage, start, end in zip(self._stages, starts, ends, strict=False)
            },
        }

    def _look(self) -> None:
        while self._running:
            usages = {process: usage(process) for process in family(os.getpid())}
            self._peak = max(self._peak, sum(private for private, _ in usages.values()))
            self._cpu.update({process: cpu for process, (_, cpu) in usages.items() if cpu})
            time.sleep(0.1)


def family(root: int) -> list[int]:
    """A process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:  # ended meanwhile
            continue
        parents.setdefault(parent, []).append(int(entry.parent.name))
    found = [root]
    for process in found:
        found += parents.get(process, [])
    return found


def usage(process: int) -> Usage:
    folder = Path("/proc") / str(process)
    try:
        rollup = (folder / "smaps_rollup").read_text().splitlines()
        times = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0, 0.0
    private = sum(1024 * int(line.split()[1]) for line in rollup if line.startswith("Private_"))
    return private, sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
