"""Whole morphemes hidden from a text in pieces: what a masked language model learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from odqa.models.pieces import Pieces
from odqa.text.morphemes import analyse

Ints = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]


def morpheme_starts(text: str, pieces: Pieces) -> Flags:
    """(pieces,) whether each piece begins another morpheme than the piece before.

    A piece belongs to the morpheme in which it begins, so one that goes across a boundary (of a
    vocabulary whose text is not cut at morphemes) is one morpheme with what it begins in.
    """
    starts = np.array([start for _, _, start in analyse(text)], dtype=np.int64)
    own = np.searchsorted(starts, pieces.starts, side="right")
    return np.concatenate([np.ones(min(len(own), 1), dtype=bool), own[1:] != own[:-1]])


@dataclass(frozen=True, slots=True)
class Masking:
    """How much is hidden, and behind what."""

    share: float  # of the pieces
    mask: int  # the id that hides
    ordinary: Ints  # ids that a piece may be exchanged for
    special: Ints  # ids that are never hidden

    def apply(
        self, ids: Ints, starts: Flags, random: np.random.Generator
    ) -> tuple[Ints, npt.NDArray[np.intp]]:
        """Ids with some of them hidden, and where.

        Morphemes are drawn until their pieces are ``share`` of all (at least one morpheme is). Of
        ten drawn, eight are hidden behind the mask, one is exchanged for random pieces and one is
        left as it is (Devlin et al. 2019, section 3.1), each with all its pieces.

        Args:
            ids: (length,) pieces, special ones among them.
            starts: (length,) whether a piece begins a morpheme.
            random: draws.
        """
        morpheme = np.cumsum(starts) - 1  # (length,) the number of each piece's morpheme
        open_to = ~np.isin(ids, self.special)
        candidates, sizes = np.unique(morpheme[open_to], return_counts=True)
        order = random.permutation(len(candidates))
        budget = round(self.share * int(open_to.sum()))
        n_drawn = max(int((np.cumsum(sizes[order]) <= budget).sum()), 1)
        drawn = candidates[order[:n_drawn]]
        fates = random.random(len(drawn))
        hidden, exchanged = drawn[fates < 0.8], drawn[(fates >= 0.8) & (fates < 0.9)]
        changed = ids.copy()
        changed[open_to & np.isin(morpheme, hidden)] = self.mask
        places = np.flatnonzero(open_to & np.isin(morpheme, exchanged))
        changed[places] = random.choice(self.ordinary, len(places))
        return changed, np.flatnonzero(open_to & np.isin(morpheme, drawn))


def masking_of(backend: Any, mask: int, share: float) -> Masking:
    """The masking of a tokenizer of ``transformers`` whose mask has the id ``mask``."""
    special = np.array(sorted({*backend.all_special_ids, mask}), dtype=np.int32)
    everything = np.array(sorted(backend.get_vocab().values()), dtype=np.int32)
    return Masking(share, mask, everything[~np.isin(everything, special)], special)
