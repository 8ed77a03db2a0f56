"""FAISS, ONNX Runtime and the OpenMP runtimes they bring."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from odqa.doctor.checks import Finding, Surroundings, failed, ok, skipped, warning
from odqa.doctor.packages import modules_of

_INSTALL_FAISS = "pip uninstall -y {} && pip install 'faiss-cpu>=1.9,<2'"
_MAPS = Path("/proc/self/maps")
_CPU_INFO = Path("/proc/cpuinfo")
# Runtimes by their files' names; GNU's, LLVM's and Intel's cannot always live in one process.
_RUNTIMES = {"libgomp": "GNU", "libomp": "LLVM", "libiomp5": "Intel"}
_RUNTIME_FILE = re.compile(r"(libgomp|libiomp5|libomp)(-\w+)?\.so[.\d]*$")


def faiss(surroundings: Surroundings) -> Finding:
    """Whether FAISS loads, finds what is nearest, and uses the processor's wide instructions."""
    rivals = modules_of("faiss")
    if len(rivals) > 1:
        said = f"{' and '.join(rivals)} are both installed and overwrite each other's files"
        return failed(said, _INSTALL_FAISS.format(" ".join(rivals)))
    library = importlib.import_module("faiss")
    _search_tiny(library, lambda index: index)
    options = " ".join(library.get_compile_options().split())
    found = f"{library.__version__} ({' '.join(rivals)}), built with {options}"
    if "avx2" in _cpu_flags() and "AVX" not in options:
        return warning(
            f"{found}; this processor has AVX2, which it does not use",
            _INSTALL_FAISS.format(" ".join(rivals)),
        )
    return ok(found)


def faiss_gpu(surroundings: Surroundings) -> Finding:
    """Whether FAISS can search on the GPUs there are."""
    library = importlib.import_module("faiss")
    if not hasattr(library, "StandardGpuResources"):
        cards = _cards()
        if not cards:
            return skipped("no GPU here, and FAISS is built for the CPU")
        return warning(
            f"{len(cards)} GPU(s) ({cards[0]}), but FAISS is built for the CPU and searches there",
            "pip uninstall -y faiss-cpu && pip install 'odqa[gpu]'",
        )
    n_gpus = library.get_num_gpus()
    if n_gpus == 0:
        said = f"FAISS is built for a GPU and sees none ({len(_cards())} by the driver)"
        return warning(said, "check the driver (nvidia-smi) and CUDA_VISIBLE_DEVICES")
    for number in range(n_gpus):
        resources = library.StandardGpuResources()
        _search_tiny(
            library, lambda index, r=resources, n=number: library.index_cpu_to_gpu(r, n, index)
        )
    return ok(f"searched on each of {n_gpus} GPU(s): {', '.join(_cards())}")


def openmp(surroundings: Surroundings) -> Finding:
    """Which OpenMP runtimes meet when everything is loaded, and whether they work together."""
    if not _MAPS.exists():
        return skipped("only Linux shows which libraries a process has loaded (/proc/self/maps)")
    loaded = [name for name in ("faiss", "onnxruntime", "torch") if _is_installed(name)]
    modules = {name: importlib.import_module(name) for name in loaded}
    if "torch" in modules:
        modules["torch"].ones(64, 64).mm(modules["torch"].ones(64, 64))
    if "faiss" in modules:
        _search_tiny(modules["faiss"], lambda index: index)
    files = openmp_runtimes(_MAPS.read_text(encoding="utf-8", errors="replace").splitlines())
    kinds = sorted({_RUNTIMES[_kind(path)] for path in files})
    said = f"{', '.join(loaded)} bring {', '.join(files) or 'no OpenMP runtime of their own'}"
    if len(kinds) > 1:
        return warning(
            f"OpenMP runtimes of {' and '.join(kinds)} in one process, which may crash, hang or "
            f"start too many threads: {said}",
            "install these packages from one source (all by pip, or all by conda), or set "
            "OMP_NUM_THREADS=1",
        )
    return ok(said)


def onnxruntime(surroundings: Surroundings) -> Finding:
    """Whether ONNX Runtime loads."""
    library = importlib.import_module("onnxruntime")
    return ok(f"{library.__version__}, {', '.join(library.get_available_providers())}")


def openmp_runtimes(maps: Iterable[str]) -> list[str]:
    """The files of OpenMP runtimes among the lines of a /proc/PID/maps, sorted."""
    paths = {line[line.index("/") :] for line in maps if "/" in line}
    return sorted(path for path in paths if _RUNTIME_FILE.search(path))


def _kind(path: str) -> str:
    match = _RUNTIME_FILE.search(path)
    return match[1] if match else ""


def _search_tiny(library: Any, place: Any) -> None:
    """Search three vectors where ``place`` puts their index.

    Raises:
        RuntimeError: another one than the nearest is found.
    """
    import numpy as np

    vectors = np.eye(3, 8, dtype=np.float32)
    index = library.IndexFlatIP(8)
    index.add(vectors)
    _, rows = place(index).search(vectors, 1)
    if rows.ravel().tolist() != [0, 1, 2]:
        raise RuntimeError(f"FAISS finds rows {rows.ravel().tolist()}, not [0, 1, 2]")


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _cpu_flags() -> set[str]:
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # no Linux
        return set()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return set(flags.partition(":")[2].split())


def _cards() -> list[str]:
    """The GPUs by name, as the driver or else torch tells."""
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        listed = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return listed.stdout.strip().splitlines() if listed.returncode == 0 else []
    devices = (Path("/dev") / name for name in ("nvidia0", "dxg", "kfd"))
    if not _is_installed("torch") or not any(device.exists() for device in devices):
        return []  # without loading torch for it
    import torch

    return [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
