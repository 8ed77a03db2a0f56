"""Plan the build of corpora, build them for real, and print how near the plan came as JSON lines.

    python scripts/bench_plan.py CORPUS [CORPUS ...] [--set build.workers=1] [--memory-budget 2GB]

Both are done by the command itself, in processes of their own. Memory is the greatest sum, seen ten
times a second, of what the build's processes hold resident (/proc, Linux only): pages that several
share, and mapped files, count in each. ``anonymous`` leaves files out: what the system cannot take
back. Disk is the most that the folder of indexes took. Each ratio is predicted / true.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark_build import family

_SECONDS = 0.1  # between two looks


@dataclass
class Peak:
    """The most that was seen of each."""

    resident: int = 0
    parts: tuple[int, ...] = ()  # of ``resident``: of each process, the first one's first
    alone: int = 0  # of the first process
    anonymous: int = 0
    disk: int = 0
    processes: int = 0

    def look(self, root: int, folder: Path) -> None:
        statuses = [status(process) for process in family(root)]
        parts = tuple(resident for resident, _ in statuses)
        if sum(parts) > self.resident:
            self.resident, self.parts = sum(parts), parts
        self.alone = max(self.alone, parts[0])
        self.anonymous = max(self.anonymous, sum(anonymous for _, anonymous in statuses))
        self.disk = max(self.disk, disk_bytes(folder))
        self.processes = max(self.processes, len(statuses))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpora", nargs="+", metavar="CORPUS")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--memory-budget")
    parser.add_argument("--disk-budget")
    parser.add_argument("--scratch", type=Path, help="build there (default: the temporary folder)")
    arguments = parser.parse_args()
    options = [word for override in arguments.overrides for word in ("--set", override)]
    for name in ("memory_budget", "disk_budget"):
        if getattr(arguments, name):
            options += [f"--{name.replace('_', '-')}", getattr(arguments, name)]
    for corpus in arguments.corpora:
        print(json.dumps(compare(corpus, options, arguments.scratch)), flush=True)


def compare(corpus: str, options: list[str], scratch: Path | None) -> dict[str, Any]:
    """Plan and build one corpus."""
    command = [sys.executable, "-m", "odqa", "build-index", corpus, "--json", *options]
    with tempfile.TemporaryDirectory(prefix="odqa-bench-plan-", dir=scratch) as directory:
        command += ["--indexes-dir", directory]
        started = time.monotonic()
        planned = subprocess.run([*command, "--plan"], check=True, stdout=subprocess.PIPE)
        plan = json.loads(planned.stdout)
        plan_seconds = time.monotonic() - started
        built, peak, seconds = build(command, Path(directory))
    pairs = {
        "passages": (plan["passages"], built["passages"]),
        "seconds": (plan["seconds"], seconds),
        "memory_bytes": (plan["memory_bytes"], peak.resident),
        "disk_bytes": (plan["disk_bytes"], built["bytes"]),
        "build_disk_bytes": (plan["build_disk_bytes"], peak.disk),
    }
    return {
        "corpus": Path(corpus).name,
        "settings": plan.get("settings", []),
        "plan_seconds": round(plan_seconds, 1),
        "predicted": {name: predicted for name, (predicted, _) in pairs.items()},
        "true": {name: round(true, 1) for name, (_, true) in pairs.items()},
        "ratio": {name: round(p / true, 3) for name, (p, true) in pairs.items()},
        "resident_of_each": peak.parts,
        "first_process_bytes": peak.alone,
        "anonymous_bytes": peak.anonymous,
        "processes": peak.processes,
        "load": round(os.getloadavg()[0], 1),
    }


def build(command: list[str], folder: Path) -> tuple[dict[str, Any], Peak, float]:
    """Run the build; its own record, the peaks, and the seconds."""
    peak, started = Peak(), time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output)
        while process.poll() is None:
            peak.look(process.pid, folder)
            time.sleep(_SECONDS)
        if process.returncode != 0:
            raise SystemExit(process.returncode)
        seconds = time.monotonic() - started
        output.seek(0)
        return json.loads(output.read()), peak, seconds


def status(process: int) -> tuple[int, int]:
    """Resident bytes of a process, and those of them that are no file's."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:  # ended meanwhile
        return 0, 0
    fields = dict(line.split(":", 1) for line in lines)
    kilobytes = [int(fields.get(name, "0 kB").split()[0]) for name in ("VmRSS", "RssAnon")]
    return 1024 * kilobytes[0], 1024 * kilobytes[1]


def disk_bytes(folder: Path) -> int:
    """What the files in a folder take on the disk, holes not counted."""
    total = 0
    for entry in folder.rglob("*"):
        try:
            total += entry.stat().st_blocks * 512
        except OSError:  # renamed meanwhile
            continue
    return total


if __name__ == "__main__":
    main()
