"""Postings: which terms occur in which passages, and how often, weighted by field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

UNITS = 8
"""Term frequencies are counted in eighths, so that a weighted field's are whole numbers too."""


@dataclass(frozen=True, slots=True)
class Field:
    """The terms of one field of some consecutive passages."""

    ids: npt.NDArray[np.int32]  # (terms,) of all passages, one after another
    counts: npt.NDArray[np.int32]  # (passages,)
    units: int  # what one occurrence counts, in eighths

    @classmethod
    def of(cls, passages: Sequence[npt.NDArray[np.int32]], weight: float = 1.0) -> Field:
        """The field of passages given one by one."""
        ids = np.concatenate([*passages, np.zeros(0, dtype=np.int32)]).astype(np.int32)
        counts = np.array([len(passage) for passage in passages], dtype=np.int32)
        return cls(ids, counts, round(weight * UNITS))


@dataclass(frozen=True, slots=True)
class Postings:
    """Term frequencies of some consecutive passages, by term, then by passage.

    All of them or, where passages are too many to be taken at once, those of some of the terms.
    """

    terms: npt.NDArray[np.int32]  # (postings,)
    rows: npt.NDArray[np.int32]  # (postings,) passage, counted from ``first_row``
    units: npt.NDArray[np.int32]  # (postings,) frequency in eighths, weighted and summed
    n_passages: int
    first_row: int

    @classmethod
    def of(cls, fields: Sequence[Field], first_row: int = 0) -> Postings:
        """Sum the fields' frequencies of each term in each passage."""
        n = len(fields[0].counts)
        fields = [field for field in fields if field.units]
        rows = [np.repeat(np.arange(n), field.counts) for field in fields]
        keys = [
            field.ids.astype(np.int64) * max(n, 1) + row
            for field, row in zip(fields, rows, strict=True)
        ]
        units = [np.full(len(field.ids), field.units, dtype=np.int32) for field in fields]
        none = np.zeros(0, dtype=np.int64)
        merged, summed = _sum_equal(
            np.concatenate([none, *keys]), np.concatenate([none, *units]).astype(np.int32)
        )
        terms, passages = np.divmod(merged, max(n, 1))
        return cls(terms.astype(np.int32), passages.astype(np.int32), summed, n, first_row)


def _sum_equal(
    keys: npt.NDArray[np.int64], values: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """The distinct keys, ascending, and the sum of the values of each."""
    if len(keys) == 0:
        return keys, values
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    firsts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[firsts], np.add.reduceat(values, firsts, dtype=np.int32)
