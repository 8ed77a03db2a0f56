"""Checkpoints of a run: folders ``checkpoint-STEP``, each whole or not there at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odqa.errors import InputError, OdqaError

if TYPE_CHECKING:
    import torch

STATE = "training.pt"
WEIGHTS = "model.safetensors"

_NAME = re.compile(r"checkpoint-(\d+)")
_PART = ".part"  # a folder that is being written or removed


def step_of(folder: Path) -> int:
    """The step that a checkpoint was written after."""
    match = _NAME.fullmatch(folder.name)
    if match is None:
        raise InputError("is no checkpoint (a folder named checkpoint-STEP)", path=folder)
    return int(match.group(1))


def checkpoints(run_dir: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first."""
    found = [p for p in run_dir.glob("checkpoint-*") if _NAME.fullmatch(p.name) and p.is_dir()]
    return sorted(found, key=step_of)


def find(run_dir: Path, wanted: str) -> Path | None:
    """The newest checkpoint, or the one that ``wanted`` names (a name, a step or a path).

    Raises:
        InputError: there is no such checkpoint.
    """
    found = checkpoints(run_dir)
    if not wanted:
        return found[-1] if found else None
    name = f"checkpoint-{wanted}" if wanted.isdigit() else Path(wanted).name
    for folder in found:
        if folder.name == name:
            return folder
    names = ", ".join(folder.name for folder in found) or "none"
    raise InputError(f"has no checkpoint '{wanted}'; it has: {names}", path=run_dir)


def read_state(folder: Path, device: torch.device) -> dict[str, Any]:
    """What a checkpoint holds beside the model.

    Raises:
        OdqaError: it is damaged.
    """
    import torch

    path = folder / STATE
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise OdqaError(
            f"{path} cannot be read ({type(error).__name__}); remove {folder} to go on from an "
            f"earlier checkpoint, or begin anew with --overwrite"
        ) from error
    return state


def steps(run_dir: Path) -> list[int]:
    """The steps that a run has checkpoints of, ascending."""
    return [step_of(folder) for folder in checkpoints(run_dir)]


def write(run_dir: Path, step: int, fill: Callable[[Path], None]) -> Path:
    """Let ``fill`` write into a folder that gets its name once it is whole."""
    final = run_dir / f"checkpoint-{step}"
    part = final.with_name(final.name + _PART)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    fill(part)
    doomed = _set_aside(final) if final.exists() else None
    part.rename(final)
    if doomed is not None:
        shutil.rmtree(doomed)
    return final


def remove(folder: Path) -> None:
    """Remove a checkpoint; one removed by halves does not look like a checkpoint."""
    shutil.rmtree(_set_aside(folder))


def _set_aside(folder: Path) -> Path:
    doomed = folder.with_name(f"{folder.name}.old{_PART}")
    shutil.rmtree(doomed, ignore_errors=True)
    return folder.rename(doomed)


def prune(run_dir: Path, keep: int, *, also: Collection[int] = ()) -> None:
    """Remove all but the ``keep`` newest (0: none is removed) and those of the steps ``also``."""
    if keep:
        for folder in checkpoints(run_dir)[:-keep]:
            if step_of(folder) not in also:
                remove(folder)


def tidy(run_dir: Path) -> None:
    """Remove what an interrupted write or removal left."""
    for left in run_dir.glob(f"checkpoint-*{_PART}"):
        shutil.rmtree(left)
