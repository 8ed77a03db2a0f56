"""Near-duplicate passages: candidates by MinHash, each verified by its text, grouped.

A passage is the set of the character shingles of its title and text. Its MinHash signature is cut
into bands; two passages that agree in a band are candidates (A. Z. Broder, On the Resemblance and
Containment of Documents, SEQUENCES 1997; J. Leskovec, A. Rajaraman and J. Ullman, Mining of Massive
Datasets, chapter 3). A pair with the Jaccard similarity s becomes one with the probability

    1 - (1 - s ** ROWS) ** BANDS        # .958 at s = .8, .991 at .85, .9992 at .9

and is verified exactly. Everything is computed over the passages in the order of their digests, so
the partition does not depend on the rows in which they are stored.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from rensa import RMinHash  # type: ignore[import-untyped]

from odqa.config import DuplicatesConfig
from odqa.errors import ConfigError
from odqa.store.duplicates import BANDS_NAME, DIGESTS_NAME, GROUPS_NAME
from odqa.text.shingles import SHINGLE, shingle_hashes, squeezed
from odqa.types import Passage

BANDS, ROWS = 8, 5
_SEED = 13
SIGNATURE = f"rminhash-{RMinHash.ALGORITHM_VERSION}/{_SEED}/{BANDS}x{ROWS}/{SHINGLE}"
"""What the keys depend on beside the texts: keys may be reused where this is the same."""

LEAST_THRESHOLD = 0.8  # further down the bands would miss too many
NEIGHBOURS = 4  # in a bucket, each passage is compared with so many that follow it
_PAIRS = 1_000  # verified at once: the shingles of twice as many passages are in memory
_BASE = np.uint64(0x9E3779B97F4A7C15)
_NUMBER = re.compile(r"\d+")

Pairs = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]
"""Called with the candidate pairs verified so far, and all there are."""


class Texts(Protocol):
    """What is needed of the passage store."""

    def passages(self, rows: Iterable[int]) -> list[Passage]: ...


@dataclass(frozen=True, slots=True)
class DuplicateKeys:
    """By what near duplicates among some consecutive passages are found, without their texts."""

    digests: npt.NDArray[np.uint64]  # (passages,) of title and text, case and white space aside
    bands: npt.NDArray[np.uint32]  # (passages, BANDS) a hash of each band of the signature

    @classmethod
    def of(cls, passages: Sequence[Passage]) -> DuplicateKeys:
        """The keys of ``passages``."""
        if not passages:
            return cls(np.empty(0, np.uint64), np.empty((0, BANDS), np.uint32))
        forms = [_form(passage) for passage in passages]
        digests = b"".join(
            hashlib.blake2b(form.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            for form in forms
        )
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            *shingle_hashes(forms), BANDS * ROWS, _SEED
        )
        signatures = np.array(matrix.to_rows(), dtype=np.uint64).reshape(-1, BANDS, ROWS)
        return cls(np.frombuffer(digests, dtype="<u8").astype(np.uint64), _band_keys(signatures))

    @classmethod
    def joined(cls, blocks: Iterable[DuplicateKeys]) -> DuplicateKeys:
        """The keys of all blocks, one after another."""
        blocks = [cls.of([]), *blocks]
        return cls(
            np.concatenate([block.digests for block in blocks]),
            np.concatenate([block.bands for block in blocks]),
        )


def check_duplicates_config(config: DuplicatesConfig) -> None:
    """Refuse a threshold that cannot be kept.

    Raises:
        ConfigError: naming the key and what is allowed.
    """
    if not LEAST_THRESHOLD <= config.threshold <= 1:
        raise ConfigError(
            f"duplicates.threshold must lie in [{LEAST_THRESHOLD}, 1], got {config.threshold}"
        )


def write_duplicates(
    directory: Path,
    keys: DuplicateKeys,
    store: Texts,
    config: DuplicatesConfig,
    progress: Progress,
) -> None:
    """Write the folder ``duplicates/`` of an index: the keys, and the groups found by them."""
    directory.mkdir()
    np.save(directory / DIGESTS_NAME, keys.digests)
    np.save(directory / BANDS_NAME, keys.bands)
    groups = find_groups(keys, store, threshold=config.threshold, progress=progress)
    np.save(directory / GROUPS_NAME, groups)


def find_groups(
    keys: DuplicateKeys, store: Texts, *, threshold: float, progress: Progress | None = None
) -> npt.NDArray[np.int32]:
    """(passages,) for each passage the first row of its group, its own where it is alone.

    Groups are the connected components of the pairs that are duplicates: passages of one digest,
    and candidates that ``are_duplicates`` says are.
    """
    _, first, item_of = np.unique(keys.digests, return_index=True, return_inverse=True)
    pairs = candidate_pairs(keys.bands[first])
    # Neighbours in the store are read together.
    rows = np.sort(first[pairs], axis=1)
    pairs = pairs[np.lexsort((rows[:, 1], rows[:, 0]))]
    verified = []
    for start in range(0, len(pairs), _PAIRS):
        chunk = pairs[start : start + _PAIRS]
        verified.append(chunk[_verify(first[chunk], store, threshold)])
        if progress is not None:
            progress(start + len(chunk), len(pairs))
    component = _components(len(first), np.concatenate([np.empty((0, 2), np.int64), *verified]))
    _, leader, group_of = np.unique(component[item_of], return_index=True, return_inverse=True)
    return leader[group_of].astype(np.int32)


def candidate_pairs(bands: npt.NDArray[np.uint32]) -> Pairs:
    """(pairs, 2) places of passages that share a band key, the lesser place first, each pair once.

    In a bucket, the passages are sorted by the band keys that follow, so that the likest are
    neighbours, and each is paired with the next ``NEIGHBOURS``: a bucket of any size costs as many
    pairs a passage.
    """
    n, n_bands = bands.shape
    codes = [np.empty(0, np.int64)]
    for band in range(n_bands):
        _, bucket, counts = np.unique(bands[:, band], return_inverse=True, return_counts=True)
        shared = np.flatnonzero(counts[bucket] > 1)
        following = [bands[shared, (band + step) % n_bands] for step in (2, 1, 0)]
        order = shared[np.lexsort(following)]
        for step in range(1, NEIGHBOURS + 1):
            before, after = order[:-step], order[step:]
            same = bucket[before] == bucket[after]
            low = np.minimum(before[same], after[same]).astype(np.int64)
            codes.append(low * n + np.maximum(before[same], after[same]))
    unique = np.unique(np.concatenate(codes))
    return np.stack((unique // max(n, 1), unique % max(n, 1)), axis=1)


def are_duplicates(first: Passage, second: Passage, *, threshold: float) -> bool:
    """Are two passages near duplicates?

    They are if the Jaccard similarity of their shingles is at least ``threshold`` and not each text
    holds a number that the other has not, or has less often: then they are two of a series (two
    eclipses, two elections) and answer different questions. The title counts as text, which keeps
    short stubs apart that differ in their names alone, but hardly parts long copies.
    """
    one, other = _contents([first, second])
    return _alike(one, other, threshold)


@dataclass(frozen=True, slots=True)
class _Content:
    """What two passages are compared by."""

    shingles: frozenset[int]
    numbers: Counter[str]


def _alike(first: _Content, second: _Content, threshold: float) -> bool:
    shared = len(first.shingles & second.shingles)
    if shared < threshold * (len(first.shingles) + len(second.shingles) - shared):
        return False
    return first.numbers <= second.numbers or second.numbers <= first.numbers


def _contents(passages: Sequence[Passage]) -> list[_Content]:
    hashes, offsets = shingle_hashes([_form(passage) for passage in passages])
    return [
        _Content(
            frozenset(hashes[offsets[i] : offsets[i + 1]].tolist()),
            Counter(_NUMBER.findall(passage.text)),
        )
        for i, passage in enumerate(passages)
    ]


def _verify(rows: Pairs, store: Texts, threshold: float) -> npt.NDArray[np.bool_]:
    """(pairs,) which of the pairs of rows are duplicates."""
    wanted, places = np.unique(rows, return_inverse=True)
    contents = _contents(store.passages(wanted.tolist()))
    return np.array(
        [_alike(contents[a], contents[b], threshold) for a, b in places.reshape(-1, 2).tolist()],
        dtype=bool,
    )


def _form(passage: Passage) -> str:
    return f"{squeezed(passage.title)}\n{squeezed(passage.text)}"


def _band_keys(signatures: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """(n, BANDS, ROWS) signatures to (n, BANDS) hashes of their bands."""
    keys = np.zeros(signatures.shape[:2], dtype=np.uint64)
    for row in range(signatures.shape[2]):
        keys = (keys ^ signatures[:, :, row]) * _BASE
        keys ^= keys >> np.uint64(32)
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32)


def _components(n: int, pairs: Pairs) -> npt.NDArray[np.int64]:
    """(n,) the least member of each one's connected component."""
    parent = np.arange(n).tolist()

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for a, b in pairs.tolist():
        a, b = root(a), root(b)
        parent[max(a, b)] = min(a, b)
    return np.array([root(item) for item in range(n)], dtype=np.int64)
