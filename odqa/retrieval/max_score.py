"""The best rows of a sum of sparse columns, without looking at every entry.

A column holds a term's contributions to some of the rows. Columns are added from the one with the
greatest possible entry downwards. Once no row outside those touched can reach the k-th best, the
remaining columns, the long ones, are only looked up for rows that still can (MaxScore: H. Turtle
and J. Flood, Query Evaluation: Strategies and Optimizations, 1995, term at a time).

Rows are taken in blocks whose sums stay in a core's cache, and what one block reaches spares the
next ones columns. The result is exact and does not depend on the blocks: a row's entries are added
in the same order everywhere.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from odqa.retrieval.ranking import Rows, Scores

ROWS_OF_A_BLOCK = 1 << 18
"""About as many are taken at once; their sums take 1 MB."""

# Measured; a factor of two either way makes little difference. What takes as long as adding one
# entry of a column:
_ROWS_OF_A_LOOK = 16  # so many rows of one look at all sums of a block
# and as long as adding so many entries:
_ENTRIES_OF_A_LOOKUP = 25  # looking up a row in a long column
_ENTRIES_OF_A_CANDIDATE = 30  # a row that is looked up in all remaining columns
_ENTRIES_OF_A_BLOCK = 30_000  # the calls that one more block needs

_FOLD = 64  # rows that share a place when a block is folded
_ABOVE_ZERO = np.nextafter(np.float32(0), np.float32(1))


class Column(NamedTuple):
    """What one term contributes."""

    rows: npt.NDArray[np.int32]  # ascending
    entries: Scores  # above zero, one for each of ``rows``
    weight: np.float32  # that the entries are multiplied by
    bound: float  # no entry times the weight is greater


class MaxScore:
    """Searches sums over the rows 0 to ``n_rows`` - 1; any number of threads may share it."""

    def __init__(self, n_rows: int, rows_of_a_block: int = ROWS_OF_A_BLOCK) -> None:
        self._n_rows = n_rows
        self._most_blocks = max(1, round(n_rows / rows_of_a_block))
        self._local = threading.local()

    def top_rows(self, columns: Sequence[Column], k: int) -> tuple[Rows, Scores]:
        """The rows that are above zero and reach the k-th best, unordered, with their sums.

        Args:
            columns: entries are added in this order; greatest bound first is fastest.
            k: how many rows are wanted, 1 or more.
        """
        n_entries = sum(len(column.rows) for column in columns)
        n_blocks = min(self._most_blocks, 1 + n_entries // _ENTRIES_OF_A_BLOCK)
        n_rows = -(-self._n_rows // (n_blocks * _FOLD)) * _FOLD
        edges = np.arange(0, n_rows * n_blocks + 1, n_rows or 1, dtype=np.int32)
        cuts = [column.rows.searchsorted(edges).tolist() for column in columns]
        search = _Search(_Block(self._zeros(n_rows)), len(columns), k)
        for number, first in enumerate(range(0, n_rows * n_blocks, n_rows or 1)):
            parts = [
                Column(rows[start:end], entries[start:end], weight, bound)
                for (rows, entries, weight, bound), cut in zip(columns, cuts, strict=True)
                if (start := cut[number]) < (end := cut[number + 1])
            ]
            search.take(parts, first)
        return search.rows, search.sums

    def _zeros(self, n: int) -> Scores:
        """The thread's own, which a search leaves as it found them."""
        zeros: Scores | None = getattr(self._local, "zeros", None)
        if zeros is None or len(zeros) < n:
            self._local.zeros = zeros = np.zeros(n, dtype=np.float32)
        return zeros[:n]


class _Search:
    """The best rows so far: at least k of them, once so many are above zero."""

    def __init__(self, block: _Block, n_columns: int, k: int) -> None:
        self.rows: Rows = np.zeros(0, dtype=np.int64)
        self.sums: Scores = np.zeros(0, dtype=np.float32)
        self._block = block
        self._k = k
        # Sums of single precision may exceed the sum of the bounds by their rounding.
        self._slack = 1 + float(np.finfo(np.float32).eps) * (n_columns + 4)

    def take(self, parts: Sequence[Column], first: int) -> None:
        """Search the block that starts at row ``first``, of which ``parts`` are the columns."""
        try:
            found = self._candidates(parts, first)
            if len(found) == 0:
                return
            rows = np.concatenate([self.rows, found + first])
            sums = np.concatenate([self.sums, self._block.sums.take(found)])
        finally:
            self._block.clear()
        best = sums >= _kth(sums, self._k)
        self.rows, self.sums = rows.compress(best), sums.compress(best)

    def _candidates(self, parts: Sequence[Column], first: int) -> Rows:
        """The rows of the block that may be of the best, with their full sums in it."""
        block = self._block
        rest = [*_sums_from([self._slack * part.bound for part in parts]), 0.0]
        left = _sums_from([len(part.rows) for part in parts])
        enough = len(self.sums) >= self._k
        floor = float(self.sums.min()) if enough else 0.0  # the k-th best is at least this
        needed = _first_below(floor, rest)  # a row that is in none of the columns before is out
        if needed == 0:
            return np.zeros(0, dtype=np.int64)
        looked_at = 0
        for place, part in enumerate(parts):
            if left[place] > block.cost(min(place, needed)):
                if not enough and 2 * rest[place] < rest[0] and block.added > 2 * looked_at:
                    floor, looked_at = block.floor(self._k), block.added
                    needed = _first_below(floor, rest)
                if place >= needed:
                    cut = floor / self._slack - rest[place]
                    most = left[place] / _ENTRIES_OF_A_CANDIDATE
                    if block.estimate(cut) <= most:
                        rows = block.reaching(cut, needed)
                        if len(rows) <= most:
                            return self._narrowed(rows, parts[place:], rest[place + 1 :], first)
            block.add(part, first)
        if not enough and block.added > block.look:
            floor = block.floor(self._k)
            needed = _first_below(floor, rest)
        return block.reaching(floor, needed)

    def _narrowed(
        self, rows: Rows, parts: Sequence[Column], rest: Sequence[float], first: int
    ) -> Rows:
        """Those of ``rows`` that may be of the best once they have been given ``parts``.

        ``rest`` bounds what is left after each part.
        """
        block = self._block
        for part, possible in zip(parts, rest, strict=True):
            if len(rows) * _ENTRIES_OF_A_LOOKUP > len(part.rows):
                block.add(part, first)
            else:
                block.look_up(part, first, rows)
            sums = block.sums.take(rows)
            floor = _kth(np.concatenate([self.sums, sums]), self._k)
            rows = rows.compress(sums >= np.float32(floor / self._slack - possible))
        return rows


class _Block:
    """The sums of consecutive rows; a row's place in it counts from the first."""

    def __init__(self, sums: Scores) -> None:
        self.sums = sums  # zeros
        self.look = len(sums) // _ROWS_OF_A_LOOK  # what one look at all sums costs, in entries
        self._places: list[Rows] = []  # that each column was added to
        self._added = [0]  # entries, before each column and after the last

    @property
    def added(self) -> int:
        """The number of entries added."""
        return self._added[-1]

    def cost(self, n_columns: int) -> int:
        """What it costs, in entries, to look at the rows of the first columns added."""
        return min(self._added[n_columns], self.look)

    def add(self, column: Column, first: int) -> None:
        places = np.subtract(column.rows, first, dtype=np.int64)
        self._places.append(places)
        self._added.append(self.added + len(places))
        # Several times as fast as ``sums[places] +=``, which reads and writes them apart.
        np.add.at(self.sums, places, _weighted(column.entries, column.weight))

    def look_up(self, column: Column, first: int, places: Rows) -> None:
        """Add what the column has at ``places``, which were added to before."""
        wanted = (places + first).astype(np.int32)
        found = np.minimum(column.rows.searchsorted(wanted), len(column.rows) - 1)
        held = column.rows.take(found) == wanted
        entries = column.entries.take(found.compress(held))
        self.sums[places.compress(held)] += _weighted(entries, column.weight)

    def clear(self) -> None:
        if self.added > self.look:
            self.sums.fill(0)
        else:
            for places in self._places:
                self.sums[places] = 0
        self._places.clear()
        del self._added[1:]

    def floor(self, k: int) -> float:
        """A lower bound of the k-th best sum, close to it."""
        if self.added > self.look:  # rows that share a place count as the best of them
            return _kth(self.sums.reshape(_FOLD, -1).max(axis=0), k)
        return max(_kth(self.sums.take(places), k) for places in self._places)

    def estimate(self, cut: float) -> int:
        """About how many places ``reaching`` would find: those of an eighth of the rows times 8."""
        eighth = self.sums[: len(self.sums) // 8]
        return 8 * int(np.count_nonzero(eighth >= max(np.float32(cut), _ABOVE_ZERO)))

    def reaching(self, cut: float, n_columns: int) -> Rows:
        """The places, ascending, with a sum above zero that is ``cut`` or more.

        Those that none of the first ``n_columns``, 1 or more, added to may be left out.
        """
        least = max(np.float32(cut), _ABOVE_ZERO)
        if self._added[n_columns] > self.look:
            return _true_places(self.sums >= least)
        places = np.concatenate(self._places[:n_columns])
        return _distinct(places.compress(self.sums.take(places) >= least))


def _true_places(mask: npt.NDArray[np.bool_]) -> Rows:
    """Where ``mask`` is true, ascending; its length is a multiple of eight.

    Faster than ``nonzero`` where nearly all is false, as it looks at eight at a time.
    """
    eights = (mask.view(np.uint64) != 0).nonzero()[0]
    places = mask.reshape(-1, 8).take(eights, axis=0).ravel().nonzero()[0]
    rows: Rows = (eights.take(places >> 3) << 3) + (places & 7)
    return rows


def _weighted(entries: Scores, weight: np.float32) -> Scores:
    return entries if weight == 1 else entries * weight


def _first_below(floor: float, rest: Sequence[float]) -> int:
    """The first place where what is left is less than ``floor``; the last one where none is."""
    return next((place for place, bound in enumerate(rest) if bound < floor), len(rest) - 1)


def _sums_from(values: Sequence[float]) -> list[float]:
    """For each place the sum of the values from there on."""
    return list(itertools.accumulate(reversed(values)))[::-1]


def _kth(sums: Scores, k: int) -> float:
    """The k-th best of some sums above zero; 0 where there are fewer."""
    if len(sums) < k:
        return 0.0
    return float(np.partition(sums, len(sums) - k)[len(sums) - k])


def _distinct(places: Rows) -> Rows:
    """Ascending; many times as fast as ``np.unique``, which hashes whole numbers."""
    places = np.sort(places)
    return places.compress(np.diff(places, prepend=-1) > 0)
