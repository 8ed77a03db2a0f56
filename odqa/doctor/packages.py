"""Python and the packages, against the bounds that odqa declares."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import odqa
from odqa.doctor.checks import Finding, Surroundings, failed, ok, skipped, warning

_NAME = "odqa"
# Packages that stand in for one another have one module: faiss-gpu-cu12 for faiss-cpu.
_MODULE = {"faiss-cpu": "faiss"}


def python(surroundings: Surroundings) -> Finding:
    """The interpreter's version."""
    bounds, _ = declared()
    found = f"{platform.python_version()} ({platform.python_implementation()})"
    if platform.python_version() in SpecifierSet(bounds, prereleases=True):
        return ok(found)
    return failed(f"{found}, but odqa needs {bounds}", f"install Python {bounds}")


def required(surroundings: Surroundings) -> Finding:
    """The packages that odqa always needs."""
    _, requirements = declared()
    needed = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    missing = [r for r in needed if _installed(r.name) is None and not _stood_in_for(r.name)]
    outside = [r for r in needed if _outside(r)]
    if missing or outside:
        said = [f"{r.name} is missing" for r in missing]
        said += [f"{r.name} {_installed(r.name)} is not {r.specifier}" for r in outside]
        return failed(", ".join(said), _install(missing + outside))
    return ok(f"{len(needed)} packages, all within their bounds")


def extra_hf(surroundings: Surroundings) -> Finding:
    """Models from Hugging Face."""
    return _extra("hf")


def extra_train(surroundings: Surroundings) -> Finding:
    """Training."""
    return _extra("train")


def extra_gpu(surroundings: Surroundings) -> Finding:
    """FAISS on a GPU."""
    return _extra("gpu")


def extra_elastic(surroundings: Surroundings) -> Finding:
    """The client of Elasticsearch."""
    return _extra("elastic")


def extra_serve(surroundings: Surroundings) -> Finding:
    """What `odqa serve` needs."""
    return _extra("serve")


@functools.cache
def declared() -> tuple[str, list[Requirement]]:
    """The bounds of Python and the requirements, those of extras marked.

    Of the installed package or, where odqa runs from its source folder, of pyproject.toml.
    """
    try:
        metadata = importlib.metadata.metadata(_NAME)
        lines = importlib.metadata.requires(_NAME) or []
        return metadata["Requires-Python"] or "", [Requirement(line) for line in lines]
    except importlib.metadata.PackageNotFoundError:
        path = Path(odqa.__file__).parents[1] / "pyproject.toml"
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    lines = list(project["dependencies"])
    for extra, extra_lines in project["optional-dependencies"].items():
        lines += [f'{line}; extra == "{extra}"' for line in extra_lines]
    return project["requires-python"], [Requirement(line) for line in lines]


def modules_of(name: str) -> list[str]:
    """The packages that put a module of that name in place; two of them overwrite each other."""
    return sorted(set(importlib.metadata.packages_distributions().get(name, [])))


def _extra(extra: str) -> Finding:
    needed = [
        r for r in declared()[1] if r.name != _NAME and r.marker is not None and _is_of(r, extra)
    ]
    install = f"pip install '{_NAME}[{extra}]'"
    missing = [r.name for r in needed if _installed(r.name) is None]
    outside = [f"{r.name} {_installed(r.name)} is not {r.specifier}" for r in needed if _outside(r)]
    if outside:
        return warning(", ".join(outside), install)
    if missing:
        return skipped(f"not installed: {', '.join(missing)}", install)
    return ok(", ".join(f"{r.name} {_installed(r.name)}" for r in needed))


def _is_of(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate()


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _stood_in_for(name: str) -> bool:
    return name in _MODULE and bool(modules_of(_MODULE[name]))


def _outside(requirement: Requirement) -> bool:
    version = _installed(requirement.name)
    return version is not None and not requirement.specifier.contains(version, prereleases=True)


def _install(requirements: list[Requirement]) -> str:
    return "pip install " + " ".join(f"'{r.name}{r.specifier}'" for r in requirements)
