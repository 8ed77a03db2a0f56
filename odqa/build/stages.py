"""A folder of an index is written under another name, and renamed when it is complete."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from odqa.store import remove


def stage(directory: Path, name: str, write: Callable[[Path], None]) -> None:
    """Have the folder ``name`` of ``directory`` written, unless it is there.

    Args:
        directory: of the index.
        name: of its folder.
        write: given the path to write to.
    """
    if (directory / name).exists():
        return
    for part in directory.glob(f"{name}.*.part"):
        remove(part)
    # Two processes never write one part: after a kill, the former one may still be at it.
    part = directory / f"{name}.{os.getpid()}.part"
    write(part)
    part.rename(directory / name)
