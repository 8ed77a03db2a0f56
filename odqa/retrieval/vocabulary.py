"""A term's number in a sparse index, looked up on disk.

The vocabulary of a whole Wikipedia has about a million terms; reading it into a dict takes longer
than answering a question. Here the terms lie sorted in one blob and are found by binary search in
the memory-mapped file, so opening costs nothing and a lookup about twenty comparisons.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from odqa.errors import IndexNotUsableError
from odqa.store.strings import MappedStrings, Strings, StringsWriter, map_array

_TERMS = "terms"  # the terms in the order of their bytes
_NUMBERS = "terms.numbers.npy"  # the number of each


def write_vocabulary(directory: Path, terms: Sequence[str]) -> None:
    """Write ``terms``; a term's number is its place in the sequence.

    Raises:
        ValueError: a term stands twice.
    """
    # Code points sort as their UTF-8 bytes do.
    order = sorted(range(len(terms)), key=terms.__getitem__)
    for first, second in itertools.pairwise(order):
        if terms[first] == terms[second]:
            raise ValueError(f"the term {terms[first]!r} stands twice in the vocabulary")
    with StringsWriter(directory / _TERMS) as writer:
        writer.append(Strings.encode(terms[i] for i in order))
    np.save(directory / _NUMBERS, np.array(order, dtype=np.int32), allow_pickle=False)


class MappedVocabulary:
    """The vocabulary that ``write_vocabulary`` wrote to ``directory``."""

    def __init__(self, directory: Path) -> None:
        """
        Raises:
            IndexNotUsableError: a file is missing or damaged.
        """
        try:
            self._terms = MappedStrings(directory / _TERMS)
            self._numbers = map_array(directory / _NUMBERS)
        except (OSError, ValueError) as error:
            raise IndexNotUsableError(
                f"{directory}: the vocabulary cannot be read ({error}); build the index again"
            ) from error
        if len(self._terms) != len(self._numbers):
            raise IndexNotUsableError(
                f"{directory}: the vocabulary's files do not fit together; build the index again"
            )

    def __len__(self) -> int:
        return len(self._terms)

    def terms(self) -> list[str]:
        """All terms, by number."""
        by_number = np.empty(len(self), dtype=np.int64)
        by_number[self._numbers] = np.arange(len(self))
        return self._terms.take(by_number)

    def number(self, term: str) -> int | None:
        """The number of a term; None where it is unknown."""
        # A lone surrogate, from a broken paste, makes a term like any other.
        wanted = term.encode("utf-8", "surrogatepass")
        place = bisect.bisect_left(range(len(self)), wanted, key=self._terms.bytes_at)
        if place < len(self) and self._terms.bytes_at(place) == wanted:
            return int(self._numbers[place])
        return None
