"""What an update keeps of the index before it: the documents that have not changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from odqa.build.duplicates import DuplicateKeys
from odqa.store import PassageBlock, PassageStore
from odqa.store.duplicates import BANDS_NAME, DIGESTS_NAME, DUPLICATES

_DOCUMENTS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Kept:
    """The kept documents of an index, in its order: they are the first of the updated one."""

    directory: Path  # of the old index
    store: PassageStore  # its passages
    documents: npt.NDArray[np.bool_]  # (documents,) is it kept?

    @property
    def n_documents(self) -> int:
        """How many documents are kept."""
        return int(np.count_nonzero(self.documents))

    @property
    def n_passages(self) -> int:
        """How many passages are kept: the row of the first new one."""
        return int(np.count_nonzero(self.passages))

    @property
    def passages(self) -> npt.NDArray[np.bool_]:
        """(passages,) is it kept?"""
        return np.repeat(self.documents, np.diff(self.store.first_passages))

    @property
    def new_rows(self) -> npt.NDArray[np.int32]:
        """(passages,) the row of each old passage in the updated index; -1 where it is gone."""
        kept = self.passages
        return np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)

    def blocks(self) -> Iterator[PassageBlock]:
        """The columns of the kept documents."""
        kept = np.flatnonzero(self.documents)
        for start in range(0, len(kept), _DOCUMENTS_AT_ONCE):
            yield self.store.block(kept[start : start + _DOCUMENTS_AT_ONCE])

    def duplicate_keys(self) -> DuplicateKeys:
        """The keys of the kept passages, by which near duplicates are found."""
        digests, bands = (
            np.load(self.directory / DUPLICATES / name, mmap_mode="r", allow_pickle=False)
            for name in (DIGESTS_NAME, BANDS_NAME)
        )
        kept = self.passages
        return DuplicateKeys(digests[kept], bands[kept])
