"""The groups of near-duplicate passages of an index.

===========  ==================  =================================================================
digests.npy  (n,) uint64         of each passage's title and text
bands.npy    (n, bands) uint32   keys of its MinHash signature; an update need not compute them anew
groups.npy   (n,) int32          the first row of the passage's group; its own where it is alone
===========  ==================  =================================================================
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from odqa.errors import IndexNotUsableError
from odqa.store.strings import map_array

DUPLICATES = "duplicates"  # the folder
DIGESTS_NAME, BANDS_NAME, GROUPS_NAME = "digests.npy", "bands.npy", "groups.npy"


def open_groups(index_dir: Path | str, n_passages: int) -> npt.NDArray[np.int32] | None:
    """(n_passages,) the first row of each passage's group, memory-mapped.

    None for an index that was built without looking for duplicates.

    Raises:
        IndexNotUsableError: the file is missing from its folder, damaged, or of another length.
    """
    directory = Path(index_dir) / DUPLICATES
    if not directory.exists():
        return None
    path = directory / GROUPS_NAME
    try:
        groups = map_array(path)
    except (OSError, ValueError) as error:
        raise IndexNotUsableError(
            f"{path}: the groups of duplicates cannot be opened ({error}); build the index again"
        ) from error
    if groups.shape != (n_passages,) or groups.dtype != np.int32:
        raise IndexNotUsableError(
            f"{path}: {groups.dtype} numbers of the shape {groups.shape} for {n_passages} "
            "passages; build the index again"
        )
    return groups.view(np.int32)


def count_groups(groups: npt.NDArray[np.int32]) -> dict[str, int]:
    """How many groups of two or more there are, their passages, and how many are collapsed.

    Collapsed are all but one of each group: what a search with one passage a group leaves out.
    """
    sizes = np.bincount(groups) if len(groups) else np.empty(0, np.int64)
    sizes = sizes[sizes > 1]
    return {
        "groups": len(sizes),
        "passages": int(sizes.sum()),
        "collapsed": int(sizes.sum()) - len(sizes),
    }
