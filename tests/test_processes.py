from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from odqa import processes
from odqa.build.workers import n_workers
from odqa.errors import ConfigError, OdqaError
from odqa.processes import control_groups, cpu_quota, n_cores, worker_pool


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of control groups, in the place of the system's."""
    monkeypatch.setattr(processes, "_OWN_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(processes, "_CGROUPS", tmp_path / "fs")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_quota_of_version_2_may_be_any_groups_on_the_way_up(groups: Path) -> None:
    write(groups / "cgroup", "0::/slice/unit\n")
    write(groups / "fs" / "slice" / "unit" / "cpu.max", "max 100000\n")
    assert cpu_quota() is None
    write(groups / "fs" / "slice" / "cpu.max", "150000 100000\n")
    assert cpu_quota() == 1.5
    assert n_cores() == min(2, len(os.sched_getaffinity(0)))  # rounded up


def test_a_quota_of_version_1(groups: Path) -> None:
    write(groups / "cgroup", "4:cpu,cpuacct:/docker/abc\n1:memory:/docker/abc\n")
    # Seen from inside the container the group's path does not exist: the mount is its own.
    write(groups / "fs" / "cpu,cpuacct" / "cpu.cfs_quota_us", "50000")
    write(groups / "fs" / "cpu,cpuacct" / "cpu.cfs_period_us", "100000")
    assert cpu_quota() == 0.5
    assert n_cores() == 1
    write(groups / "fs" / "cpu,cpuacct" / "cpu.cfs_quota_us", "-1")
    assert cpu_quota() is None
    assert control_groups("memory") == []


def test_no_control_groups(groups: Path) -> None:
    assert control_groups("cpu") == []
    assert n_cores() >= 1


def test_workers_as_set() -> None:
    assert n_workers(0) == n_cores()
    assert n_workers(3) == 3
    with pytest.raises(ConfigError, match=r"build\.workers.*-1"):
        n_workers(-1)


def test_a_worker_that_is_killed_is_an_error() -> None:
    with (
        pytest.raises(OdqaError, match="a process that was sleeping was ended from outside"),
        worker_pool(1, "sleeping") as pool,
    ):
        pool.submit(os._exit, 9).result()


def fail_while_a_worker_sleeps() -> None:
    with worker_pool(1, "sleeping") as pool:
        assert pool.submit(abs, -1).result() == 1
        pool.submit(time.sleep, 600)
        raise ValueError("enough")


def test_an_error_does_not_wait_for_the_workers() -> None:
    with pytest.raises(ValueError, match="enough"):
        fail_while_a_worker_sleeps()  # this would take ten minutes


READING = """
import sys, time
from odqa.corpus import mediawiki, read_documents

plain_text = mediawiki.plain_text

def slow(wikitext):  # workers import this file as their main module, and are slow too
    if "0번" not in wikitext:
        print("slow", flush=True)
        time.sleep(600)
    return plain_text(wikitext)

mediawiki.plain_text, mediawiki._PARALLEL_BYTES, mediawiki._PAGES_A_TASK = slow, 0, 1

if __name__ == "__main__":
    try:
        for document in read_documents(sys.argv[1], workers=2):
            pass
    except KeyboardInterrupt:  # as the command line does; a kept traceback keeps the generators
        sys.exit(130)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_an_interrupted_reading_of_a_dump_does_not_wait(tmp_path: Path) -> None:
    pages = "".join(
        f"<page><title>{n}</title><ns>0</ns><id>{n + 1}</id><revision><id>1</id>"
        f"<text>{n}번</text></revision></page>"
        for n in range(40)
        if n % 10 or n == 0
    )
    (tmp_path / "dump.xml").write_text(f"<mediawiki>{pages}</mediawiki>", encoding="utf-8")
    (tmp_path / "read.py").write_text(READING, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "read.py"), str(tmp_path / "dump.xml")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "slow\n"
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)  # not the 600 s that each worker would take
    assert process.returncode == 130
