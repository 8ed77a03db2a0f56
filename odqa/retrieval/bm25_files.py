"""The files of a sparse index, written with memory bounded by a shard.

``data``, ``indices`` and ``indptr`` (``*.csc.index.npy``), ``vocab.index.json`` and
``params.index.json`` are bm25s's own: ``bm25s.BM25.load(directory)`` opens them. They are written
here, equal to what its ``index`` computes, because that holds the whole corpus in memory.
``sparse.json`` holds what an index must be checked for. The ``rank-bm25`` engine keeps the term
numbers of the passages themselves, ``tokens.npy`` and ``tokens.ends.npy``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from odqa.config import SparseConfig
from odqa.errors import IndexNotUsableError

TokenIds = npt.NDArray[np.int32]

_SPOOL = "postings.tmp"
_PARAMETERS = "sparse.json"


@dataclass(frozen=True, slots=True)
class _Spooled:
    """What one walk through the shards leaves: counts here, postings in the spool file."""

    document_frequencies: npt.NDArray[np.int64]  # (vocabulary,)
    lengths: npt.NDArray[np.int64]  # (passages,) terms in each passage
    shards: list[tuple[int, int]]  # passages and postings of each shard


def write_matrix(
    directory: Path,
    shards: Iterable[Sequence[TokenIds]],
    vocabulary: Sequence[str],
    *,
    k1: float,
    b: float,
) -> int:
    """Write bm25s's files of the BM25 (Lucene) scores; returns the number of passages.

    One walk through the shards counts terms and spools the postings to disk; a second, through the
    spool, scores them and puts each in its place in the memory-mapped arrays (a counting sort).
    """
    spool = directory / _SPOOL
    counts = _spool(spool, shards, len(vocabulary))
    _score(directory, spool, counts, k1=k1, b=b)
    spool.unlink()
    (directory / "vocab.index.json").write_text(
        json.dumps({term: i for i, term in enumerate(vocabulary)}, ensure_ascii=False),
        encoding="utf-8",
        errors="surrogatepass",
    )
    parameters = _bm25s_parameters(k1, b, len(counts.lengths))
    (directory / "params.index.json").write_text(json.dumps(parameters, indent=4))
    return len(counts.lengths)


def _spool(path: Path, shards: Iterable[Sequence[TokenIds]], n_terms: int) -> _Spooled:
    frequencies = np.zeros(n_terms, dtype=np.int64)
    lengths: list[npt.NDArray[np.int64]] = []
    sizes: list[tuple[int, int]] = []
    with path.open("wb") as file:
        for shard in shards:
            length = np.array([len(passage) for passage in shard], dtype=np.int64)
            postings = _postings(shard, length, n_terms)
            frequencies += np.bincount(postings[:, 0], minlength=n_terms)
            lengths.append(length)
            sizes.append((len(shard), len(postings)))
            file.write(postings.tobytes())
    all_lengths = np.concatenate(lengths) if lengths else np.zeros(0, dtype=np.int64)
    return _Spooled(frequencies, all_lengths, sizes)


def _postings(
    shard: Sequence[TokenIds], lengths: npt.NDArray[np.int64], n_terms: int
) -> npt.NDArray[np.int32]:
    """(postings, 3): term, passage within the shard, term frequency; by term, then by passage."""
    tokens = np.concatenate([*shard, np.zeros(0, dtype=np.int32)]).astype(np.int64)
    if len(tokens) and not 0 <= tokens.min() <= tokens.max() < n_terms:
        raise ValueError(
            f"term numbers must lie in [0, {n_terms}), got {tokens.min()} to {tokens.max()}"
        )
    passages = np.repeat(np.arange(len(shard)), lengths)
    keys, frequencies = np.unique(tokens * max(len(shard), 1) + passages, return_counts=True)
    terms, rows = np.divmod(keys, max(len(shard), 1))
    return np.stack([terms, rows, frequencies], axis=1).astype(np.int32)


def _score(directory: Path, spool: Path, counts: _Spooled, *, k1: float, b: float) -> None:
    frequencies, n_passages = counts.document_frequencies, len(counts.lengths)
    mean_length = counts.lengths.mean() if counts.lengths.any() else 1.0
    idf = np.log(1 + (n_passages - frequencies + 0.5) / (frequencies + 0.5))
    starts = np.concatenate([[0], np.cumsum(frequencies)])
    np.save(directory / "indptr.csc.index.npy", starts, allow_pickle=False)
    data = _new_array(directory / "data.csc.index.npy", np.float32, int(starts[-1]))
    indices = _new_array(directory / "indices.csc.index.npy", np.int32, int(starts[-1]))
    heads = starts[:-1].copy()  # where the next posting of each term goes
    for first_row, postings in _read_spool(spool, counts.shards):
        terms, rows, tf = postings[:, 0], postings[:, 1] + first_row, postings[:, 2]
        norm = k1 * (1 - b + b * counts.lengths[rows] / mean_length)
        places = heads[terms] + _place_in_run(terms)
        data[places] = idf[terms] * tf / (tf + norm)
        indices[places] = rows
        np.add.at(heads, terms, 1)
    data.flush()
    indices.flush()


def _place_in_run(sorted_values: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """0, 1, 2, ... within every run of equal values."""
    places = np.arange(len(sorted_values))
    _, firsts, runs = np.unique(sorted_values, return_index=True, return_counts=True)
    return places - np.repeat(firsts, runs)


def _read_spool(
    path: Path, shards: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
    first_row = 0
    with path.open("rb") as file:
        for n_passages, n_postings in shards:
            postings = np.fromfile(file, dtype=np.int32, count=3 * n_postings).reshape(-1, 3)
            yield first_row, postings
            first_row += n_passages


def _new_array(path: Path, dtype: type, length: int) -> np.memmap[Any, Any]:
    array: np.memmap[Any, Any] = np.lib.format.open_memmap(
        path, mode="w+", dtype=dtype, shape=(length,)
    )
    return array


def _bm25s_parameters(k1: float, b: float, n_passages: int) -> dict[str, object]:
    import bm25s  # type: ignore[import-untyped]

    return {
        "k1": k1,
        "b": b,
        "delta": 0.5,  # of no meaning for this variant; bm25s always writes it
        "method": "lucene",
        "idf_method": "lucene",
        "dtype": "float32",
        "int_dtype": "int32",
        "num_docs": n_passages,
        "version": bm25s.__version__,
        "backend": "numpy",
    }


def write_token_ids(directory: Path, shards: Iterable[Sequence[TokenIds]], n_terms: int) -> int:
    """Write the passages' term numbers as they are; returns the number of passages."""
    passages = [passage for shard in shards for passage in shard]
    tokens = np.concatenate([*passages, np.zeros(0, dtype=np.int32)]).astype(np.int32)
    if len(tokens) and not 0 <= tokens.min() <= tokens.max() < n_terms:
        raise ValueError(
            f"term numbers must lie in [0, {n_terms}), got {tokens.min()} to {tokens.max()}"
        )
    ends = np.cumsum(np.array([len(passage) for passage in passages], dtype=np.int64))
    np.save(directory / "tokens.npy", tokens, allow_pickle=False)
    np.save(directory / "tokens.ends.npy", ends, allow_pickle=False)
    return len(passages)


def read_token_ids(directory: Path) -> list[TokenIds]:
    """The passages' term numbers that ``write_token_ids`` wrote.

    Raises:
        IndexNotUsableError: a file is missing or damaged.
    """
    try:
        tokens: TokenIds = np.load(directory / "tokens.npy", allow_pickle=False)
        ends = np.load(directory / "tokens.ends.npy", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise IndexNotUsableError(
            f"{directory}: the terms cannot be read ({error}); build the index again"
        ) from error
    return np.split(tokens, ends[:-1]) if len(ends) else []


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
