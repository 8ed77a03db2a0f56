"""The vectors of an index's passages in one file, a block at a time.

A build that was killed goes on after the last block that is known to be in the file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from odqa.build.shards import read_terms
from odqa.protocols import Encoder, TermEncoder, Vectors
from odqa.store import PassageStore, write_json
from odqa.store.arrays import create_array
from odqa.text.sentences import split_sentences

DENSE = "dense"
"""The folder of the leg."""
VECTORS, VECTORS_DONE = "vectors.npy", "vectors.json"
"""What the build keeps until the leg is written."""
VECTOR_BLOCK = 4_096  # passages encoded at once; a whole number of blocks survives a kill
CHECKPOINT_SECONDS = 2.0
_PROBES = 256  # questions with which the recall of the stored vectors is measured


def write_vectors(
    directory: Path,
    shape: tuple[int, int],
    blocks: Callable[[int], Iterator[tuple[int, Vectors]]],
    progress: Callable[[int, int], None],
) -> None:
    """Write the vectors that are not in the file yet.

    Args:
        directory: of the index.
        shape: (vectors, dim).
        blocks: given how many vectors are done, (place, vectors) of the blocks after them.
        progress: told how many are done, of how many.
    """
    n_vectors, _ = shape
    if n_vectors == 0:  # an update that only removes; an empty file cannot be mapped
        np.save(directory / VECTORS, np.zeros(shape, dtype=np.float32))
        return
    vectors, done = _open(directory, shape)
    saved = time.monotonic()
    for start, block in blocks(done):
        end = start + len(block)
        vectors[start:end] = block
        if end == n_vectors or time.monotonic() - saved > CHECKPOINT_SECONDS:
            vectors.flush()
            write_json(directory / VECTORS_DONE, {"rows": end})
            saved = time.monotonic()
        progress(end, n_vectors)


def _open(
    directory: Path, shape: tuple[int, int]
) -> tuple[np.memmap[Any, np.dtype[np.float32]], int]:
    """The file of vectors, and how many of its rows are done."""
    path, done_path = directory / VECTORS, directory / VECTORS_DONE
    if done_path.exists():
        done = int(json.loads(done_path.read_text(encoding="utf-8"))["rows"])
        return np.lib.format.open_memmap(path, mode="r+"), done
    vectors = create_array(path, np.float32, shape)
    return vectors, 0


def read_vectors(directory: Path) -> Vectors:
    """(vectors, dim) what ``write_vectors`` has left."""
    vectors: Vectors = np.load(directory / VECTORS, mmap_mode="r", allow_pickle=False)
    return vectors


def blocks_of_terms(
    shards: Sequence[Path], encoder: TermEncoder, done: int
) -> Iterator[tuple[int, Vectors]]:
    """The blocks after the first ``done`` vectors: of the shards' terms, a shard at a time."""
    start = 0
    for path in shards:
        terms = read_terms(path, "words")
        n = len(terms.counts)
        if start >= done and n:
            words = terms.vocabulary.decode()
            yield start, encoder.encode_numbered(words, terms.ids, terms.counts)
        start += n


def blocks_of_passages(
    store: PassageStore, encoder: Encoder, first_row: int, done: int
) -> Iterator[tuple[int, Vectors]]:
    """The blocks after the first ``done`` vectors: of the passages from ``first_row`` on."""
    for start in range(first_row + done, len(store), VECTOR_BLOCK):
        rows = range(start, min(start + VECTOR_BLOCK, len(store)))
        yield start - first_row, encoder.encode_passages(store.passages(rows))


def probes(store: PassageStore) -> list[str]:
    """The first sentences of passages from everywhere, in the place of questions."""
    step = -(-len(store) // _PROBES)
    passages = store.passages(range(0, len(store), step))
    return [passage.text[slice(*split_sentences(passage.text)[0])] for passage in passages]
