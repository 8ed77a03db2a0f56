"""The files of a sparse index, written with memory bounded by a shard.

``data``, ``indices`` and ``indptr`` (``*.csc.index.npy``) and ``params.index.json`` are bm25s's
own: ``bm25s.BM25.load(directory, load_vocab=False)`` opens them. They are written here, equal to
what its ``index`` computes, because that holds the whole corpus in memory. ``bounds.npy`` holds the
greatest score of each term, ``lengths.npy`` the length of each passage, ``sparse.json`` what an
index must be checked for. The ``rank-bm25`` engine keeps the passages' term counts themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from odqa.config import SparseConfig
from odqa.errors import IndexNotUsableError
from odqa.retrieval.postings import UNITS, Postings
from odqa.store.arrays import create_array
from odqa.store.strings import map_array

BM25S_PARAMETERS = "params.index.json"
DATA, INDICES, STARTS = (f"{name}.csc.index.npy" for name in ("data", "indices", "indptr"))
BOUNDS, LENGTHS = "bounds.npy", "lengths.npy"
_COUNTS = "counts.npy"
_SPOOL = "postings.tmp"
_PARAMETERS = "sparse.json"
_AT_ONCE = 4_000_000  # postings
_TOLERANCE = 0.2  # of an eighth; single precision leaves far less up to some hundred occurrences


@dataclass(frozen=True, slots=True)
class _Spooled:
    """What one walk through the shards leaves: counts here, postings in the spool file."""

    document_frequencies: npt.NDArray[np.int64]  # (vocabulary,)
    lengths: npt.NDArray[np.int32]  # (passages,) in eighths of a term
    shards: list[tuple[int, int]]  # first row and number of postings of each shard


def write_matrix(
    directory: Path, shards: Iterable[Postings], n_terms: int, *, k1: float, b: float
) -> int:
    """Write bm25s's files of the BM25 (Lucene) scores; returns the number of passages.

    One walk through the shards counts terms and spools the postings to disk; a second, through the
    spool, scores them and puts each in its place in the memory-mapped arrays (a counting sort).
    """
    spool = directory / _SPOOL
    counts = _spool(spool, shards, n_terms)
    _score(directory, spool, counts, k1=k1, b=b)
    spool.unlink()
    np.save(directory / LENGTHS, counts.lengths, allow_pickle=False)
    parameters = _bm25s_parameters(k1, b, len(counts.lengths))
    (directory / BM25S_PARAMETERS).write_text(json.dumps(parameters, indent=4))
    return len(counts.lengths)


def _spool(path: Path, shards: Iterable[Postings], n_terms: int) -> _Spooled:
    frequencies = np.zeros(n_terms, dtype=np.int64)
    lengths = np.zeros(0, dtype=np.int32)
    sizes: list[tuple[int, int]] = []
    with path.open("wb") as file:
        for shard in shards:
            _check_terms(shard.terms, n_terms)
            frequencies += np.bincount(shard.terms, minlength=n_terms)
            length = np.bincount(shard.rows, weights=shard.units, minlength=shard.n_passages)
            end = shard.first_row + shard.n_passages
            lengths = np.pad(lengths, (0, max(0, end - len(lengths))))
            lengths[shard.first_row : end] += length.astype(np.int32)
            sizes.append((shard.first_row, len(shard.terms)))
            for column in (shard.terms, shard.rows, shard.units):
                file.write(column.data)
    return _Spooled(frequencies, lengths, sizes)


def _check_terms(terms: npt.NDArray[np.int32], n_terms: int) -> None:
    if len(terms) and not 0 <= terms.min() <= terms.max() < n_terms:
        raise ValueError(
            f"term numbers must lie in [0, {n_terms}), got {terms.min()} to {terms.max()}"
        )


def _score(directory: Path, spool: Path, counts: _Spooled, *, k1: float, b: float) -> None:
    frequencies = counts.document_frequencies
    starts = np.concatenate([[0], np.cumsum(frequencies)])
    np.save(directory / STARTS, starts, allow_pickle=False)
    data = create_array(directory / DATA, np.float32, (int(starts[-1]),))
    indices = create_array(directory / INDICES, np.int32, (int(starts[-1]),))
    score = scorer(frequencies, counts.lengths, k1=k1, b=b)
    heads = starts[:-1].copy()  # where the next posting of each term goes
    bounds = np.zeros(len(frequencies), dtype=np.float32)
    for first_row, (terms, rows, units) in _read_spool(spool, counts.shards):
        if len(terms) == 0:
            continue
        rows = rows + np.int32(first_row)
        firsts = np.flatnonzero(np.concatenate([[True], terms[1:] != terms[:-1]]))
        runs = np.diff(np.concatenate([firsts, [len(terms)]]))
        present = terms[firsts]
        places = np.repeat(heads[present] - firsts, runs) + np.arange(len(terms))
        heads[present] += runs
        scores = score(terms, rows, units)
        data[places], indices[places] = scores, rows
        bounds[present] = np.maximum(bounds[present], np.maximum.reduceat(scores, firsts))
    data.flush()
    indices.flush()
    np.save(directory / BOUNDS, bounds, allow_pickle=False)


Scorer = Callable[
    [npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]], npt.NDArray[np.float32]
]
"""Terms, rows and frequencies in eighths of some postings to their scores."""


def scorer(
    frequencies: npt.NDArray[np.int64], lengths: npt.NDArray[np.int32], *, k1: float, b: float
) -> Scorer:
    """The formula of ``odqa.retrieval.bm25`` for a corpus.

    Args:
        frequencies: (vocabulary,) number of passages that hold each term.
        lengths: (passages,) in eighths of a term.
        k1, b: its parameters.
    """
    idf, norms = _idf_and_norms(frequencies, lengths, k1=k1, b=b)

    def score(
        terms: npt.NDArray[np.int32], rows: npt.NDArray[np.int32], units: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.float32]:
        tf = units / UNITS
        scores: npt.NDArray[np.float32] = (idf[terms] * tf / (tf + norms[rows])).astype(np.float32)
        return scores

    return score


def _idf_and_norms(
    frequencies: npt.NDArray[np.int64], lengths: npt.NDArray[np.int32], *, k1: float, b: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The formula's idf of each term, and what is added to tf in each passage."""
    n_passages = len(lengths)
    mean_length = lengths.mean() if lengths.any() else 1.0
    idf = np.log(1 + (n_passages - frequencies + 0.5) / (frequencies + 0.5))
    return idf, k1 * (1 - b + b * lengths / mean_length)


def _read_spool(
    path: Path, shards: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
    """(first row, (3, postings)) of each shard."""
    with path.open("rb") as file:
        for first_row, n_postings in shards:
            yield first_row, np.fromfile(file, np.int32, count=3 * n_postings).reshape(3, -1)


def _bm25s_parameters(k1: float, b: float, n_passages: int) -> dict[str, object]:
    return {
        "k1": k1,
        "b": b,
        "delta": 0.5,  # of no meaning for this variant; bm25s always writes it
        "method": "lucene",
        "idf_method": "lucene",
        "dtype": "float32",
        "int_dtype": "int32",
        "num_docs": n_passages,
        "version": version("bm25s"),
        "backend": "numpy",
    }


class Matrix(NamedTuple):
    """The memory-mapped scores, by term, then by passage."""

    scores: npt.NDArray[np.float32]  # (postings,)
    rows: npt.NDArray[np.int32]  # (postings,)
    starts: npt.NDArray[np.int64]  # (vocabulary + 1,) where each term's postings begin
    bounds: npt.NDArray[np.float32]  # (vocabulary,) greatest score of each term
    n_passages: int


def read_matrix(directory: Path) -> Matrix:
    """What ``write_matrix`` wrote.

    Raises:
        IndexNotUsableError: a file is missing or damaged.
    """
    dtypes = {DATA: np.float32, INDICES: np.int32, STARTS: np.int64, BOUNDS: np.float32}
    try:
        parameters = json.loads((directory / BM25S_PARAMETERS).read_text(encoding="utf-8"))
        n_passages = int(parameters["num_docs"])
        arrays: dict[str, npt.NDArray[Any]] = {name: map_array(directory / name) for name in dtypes}
        for name, dtype in dtypes.items():
            if arrays[name].dtype != dtype:
                raise ValueError(f"{name} holds {arrays[name].dtype} in place of {dtype.__name__}")
        data, indices, starts, bounds = arrays.values()
        if not len(data) == len(indices) == starts[-1] or len(starts) != len(bounds) + 1:
            raise ValueError("its files do not fit together")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise IndexNotUsableError(
            f"{directory}: the BM25 matrix cannot be read ({error}); build the index again"
        ) from error
    return Matrix(data, indices, starts, bounds, n_passages)


def stored_postings(
    directory: Path, config: SparseConfig, new_rows: npt.NDArray[np.int32]
) -> Iterator[Postings]:
    """The term frequencies that a sparse index was built of, of passages that may have moved.

    The matrix holds scores; as it was made of whole eighths, solving the formula for the frequency
    and rounding gives them back exactly.

    Args:
        directory: the index.
        config: what it was built with.
        new_rows: (passages,) the new row of each passage, ascending; -1 leaves it out.

    Raises:
        IndexNotUsableError: a file is missing or damaged.
    """
    n_rows = int(np.count_nonzero(new_rows >= 0))
    stored = _stored_counts if config.engine == "rank-bm25" else _stored_scores
    for terms, rows, units in stored(directory, config):
        moved = new_rows[rows]
        kept = moved >= 0
        yield Postings(terms[kept], moved[kept], units[kept], n_rows, 0)


def _stored_counts(directory: Path, config: SparseConfig) -> Iterator[npt.NDArray[np.int32]]:
    rows, terms, units = read_counts(directory)
    order = np.lexsort((rows, terms))
    yield np.stack([terms[order], rows[order], units[order]])


def _stored_scores(directory: Path, config: SparseConfig) -> Iterator[npt.NDArray[np.int32]]:
    """(3, postings): term, row, frequency in eighths, of some terms at a time."""
    starts, indices, data, lengths = (
        np.load(directory / name, mmap_mode="r", allow_pickle=False)
        for name in (STARTS, INDICES, DATA, LENGTHS)
    )
    idf, norms = _idf_and_norms(np.diff(starts), lengths, k1=config.k1, b=config.b)
    first = 0
    while first < len(idf):
        last = int(np.searchsorted(starts, starts[first] + _AT_ONCE, side="right")) - 1
        last = min(max(last, first + 1), len(idf))
        span = slice(int(starts[first]), int(starts[last]))
        terms = np.repeat(np.arange(first, last, dtype=np.int32), np.diff(starts[first : last + 1]))
        rows = np.asarray(indices[span])
        share = data[span] / idf[terms]  # tf / (tf + norm)
        exact = UNITS * norms[rows] * share / (1 - share)
        units = np.rint(exact)
        whole = len(units) == 0 or (
            float(np.abs(exact - units).max()) <= _TOLERANCE and units.min() >= 1
        )
        if not whole:  # NaN too
            raise IndexNotUsableError(
                f"{directory}: the scores are not those of whole term frequencies; build the index "
                "again"
            )
        yield np.stack([terms, rows, units.astype(np.int32)])
        first = last


def write_counts(directory: Path, shards: Iterable[Postings], n_terms: int) -> int:
    """Write the passages' term counts as they are; returns the number of passages."""
    columns: list[npt.NDArray[np.int32]] = []
    n_passages = 0
    for shard in shards:
        _check_terms(shard.terms, n_terms)
        columns.append(np.stack([shard.rows + shard.first_row, shard.terms, shard.units]))
        n_passages = max(n_passages, shard.first_row + shard.n_passages)
    counts = np.concatenate([np.zeros((3, 0), dtype=np.int32), *columns], axis=1)
    counts = counts[:, np.lexsort(counts[1::-1])]
    np.save(directory / _COUNTS, counts, allow_pickle=False)
    return n_passages


def read_counts(directory: Path) -> npt.NDArray[np.int32]:
    """(3, postings): row, term and frequency in eighths, by row, then by term.

    Raises:
        IndexNotUsableError: the file is missing or damaged.
    """
    try:
        counts: npt.NDArray[np.int32] = np.load(directory / _COUNTS, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise IndexNotUsableError(
            f"{directory}: the terms cannot be read ({error}); build the index again"
        ) from error
    return counts


def write_parameters(
    directory: Path, config: SparseConfig, n_passages: int, tokenizer_fingerprint: str | None
) -> None:
    """Write ``sparse.json``, last of all."""
    record = {
        "engine": config.engine,
        "k1": config.k1,
        "b": config.b,
        "passages": n_passages,
        "tokenizer": tokenizer_fingerprint,
    }
    (directory / _PARAMETERS).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_parameters(directory: Path, config: SparseConfig, tokenizer_fingerprint: str) -> int:
    """Check that the index is the one asked for; returns its number of passages.

    Raises:
        IndexNotUsableError: it is missing, unfinished or damaged, or differs in engine, k1, b or
            tokenizer.
    """
    try:
        record = json.loads((directory / _PARAMETERS).read_text(encoding="utf-8"))
        n_passages = int(record["passages"])
        found = {key: record[key] for key in ("engine", "k1", "b", "tokenizer")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexNotUsableError(
            f"{directory}: no usable sparse index ({type(error).__name__}: {error}); "
            "build the index again"
        ) from error
    wanted = {
        "engine": config.engine,
        "k1": config.k1,
        "b": config.b,
        "tokenizer": tokenizer_fingerprint if found["tokenizer"] is not None else None,
    }
    for key, value in wanted.items():
        if found[key] != value:
            raise IndexNotUsableError(
                f"{directory}: the index was built with {key} {found[key]!r}, but {value!r} is "
                f"asked for; use the index's own setting or build it again with --force"
            )
    return n_passages
