"""What a probe is given and what it finds."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from odqa.config import Config
from odqa.errors import OdqaError

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is examined: the configuration, the folder of indexes, and one index of it if any."""

    config: Config
    indexes_dir: Path
    index: Path | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe found; ``mend`` says what to do, "" where there is nothing to do."""

    status: Status
    found: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A finding under the name of what was examined."""

    name: str
    status: Status
    found: str
    mend: str


Probe = Callable[[Surroundings], Finding]


def ok(found: str) -> Finding:
    """Nothing to mend."""
    return Finding("ok", found)


def warning(found: str, mend: str) -> Finding:
    """Works, though not as well as it could, or not for everything."""
    return Finding("warning", found, mend)


def failed(found: str, mend: str) -> Finding:
    """Broken."""
    return Finding("failed", found, mend)


def skipped(found: str, mend: str = "") -> Finding:
    """There was nothing to examine, and why."""
    return Finding("skipped", found, mend)


def examine(probe: Probe, surroundings: Surroundings) -> Finding:
    """What ``probe`` finds; an error it ends in is a finding too."""
    try:
        return probe(surroundings)
    except OdqaError as error:  # says itself what to do
        return failed(str(error), "")
    except Exception as error:  # whatever is broken here is what is being looked for
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename}:{frame.lineno}"
        return failed(f"{type(error).__name__}: {error} ({where})", _mend(error))


def _mend(error: Exception) -> str:
    if isinstance(error, ImportError) and error.name:
        return f"install {error.name.partition('.')[0]} again, or see the check 'packages'"
    return "see the other checks; if they are in order, please report this one"
