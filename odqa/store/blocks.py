"""Compressed strings: a few consecutive rows make a block, and each block is a zstd frame.

A row has one string of each column. The files:

==========  ==================================================================================
PATH.bin    the frames, one after another, each with zstd's checksum of its content
PATH.npy    (blocks + 1,) where each frame starts; 32 bits where they do, else 64
PATH.dict   the zstd dictionary that all frames share; absent where there is too little text
==========  ==================================================================================

A block's content is the length of every string of its rows in bytes (little-endian, 32 bits each),
then the strings in UTF-8. Rows are dealt to blocks by their number, and the dictionary is trained
on the first blocks, so the files depend on nothing but the rows.
"""

from __future__ import annotations

import itertools
import logging
import struct
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import zstandard

from odqa.errors import IndexNotUsableError
from odqa.store.index import mend
from odqa.store.strings import Strings, decode, map_array, map_bytes, save_offsets

logger = logging.getLogger(__name__)

Row = tuple[str, ...]

# Chosen by measurement, see docs/decisions.md.
BLOCK_ROWS = 4
_LEVEL = 3
_DICTIONARY_BYTES = 1 << 18
_SAMPLE_BYTES = 12_000_000  # of content, which the dictionary is trained on
_SAMPLE_SHARE = 32  # a dictionary is no larger than this part of its sample
_LEAST_DICTIONARY_BYTES = 1 << 14


class BlocksWriter:
    """Writes rows of strings, piece by piece. A context manager that finishes the files.

    Memory is bounded: until the dictionary is trained the first blocks are held, then one block
    and a number a block.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.with_suffix(".dict").unlink(missing_ok=True)
        self._file: BinaryIO = path.with_suffix(".bin").open("wb")
        self._rows: list[tuple[bytes, ...]] = []  # of the block that is not full yet
        self._held: list[bytes] = []  # contents that wait for the dictionary
        self._held_bytes = 0
        self._compressor: zstandard.ZstdCompressor | None = None
        self._lengths: list[int] = []

    def append(self, *columns: Strings) -> None:
        """Add rows: row i has the i-th string of each column.

        Raises:
            ValueError: the columns differ in length.
        """
        for row in zip(*(column.encoded() for column in columns), strict=True):
            self._rows.append(row)
            if len(self._rows) == BLOCK_ROWS:
                self._end_block()

    def __enter__(self) -> BlocksWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._file.close()

    def _finish(self) -> None:
        if self._rows:
            self._end_block()
        if self._compressor is None:
            self._start_compressing()
        save_offsets(self._path.with_suffix(".npy"), np.array(self._lengths, dtype=np.int64))

    def _end_block(self) -> None:
        strings = list(itertools.chain.from_iterable(self._rows))
        lengths = struct.pack(f"<{len(strings)}I", *map(len, strings))
        self._rows.clear()
        self._add(b"".join([lengths, *strings]))

    def _add(self, content: bytes) -> None:
        if self._compressor is not None:
            frame = self._compressor.compress(content)
            self._file.write(frame)
            self._lengths.append(len(frame))
            return
        self._held.append(content)
        self._held_bytes += len(content)
        if self._held_bytes >= _SAMPLE_BYTES:
            self._start_compressing()

    def _start_compressing(self) -> None:
        """Train the dictionary on what is held, and write that."""
        dictionary = _train(self._held, self._held_bytes)
        if dictionary is not None:
            self._path.with_suffix(".dict").write_bytes(dictionary.as_bytes())
            dictionary.precompute_compress(level=_LEVEL)
        self._compressor = zstandard.ZstdCompressor(
            level=_LEVEL, dict_data=dictionary, write_checksum=True, write_dict_id=False
        )
        held, self._held = self._held, []
        for content in held:
            self._add(content)


def _train(contents: list[bytes], n_bytes: int) -> zstandard.ZstdCompressionDict | None:
    """A dictionary for contents like these; None where it would cost more than it saves."""
    size = min(_DICTIONARY_BYTES, n_bytes // _SAMPLE_SHARE)
    if size < _LEAST_DICTIONARY_BYTES:
        return None
    try:
        return zstandard.train_dictionary(size, [*contents])
    except zstandard.ZstdError as error:  # such as too few samples, however long
        logger.debug("the passages are compressed without a dictionary (%s)", error)
        return None


class MappedBlocks:
    """Rows of strings on disk, memory-mapped; any number of threads may read."""

    def __init__(self, path: Path, n_rows: int, n_columns: int) -> None:
        """Open the files that a ``BlocksWriter`` wrote.

        Raises:
            OSError, ValueError: a file is missing, is no array, or they do not fit together.
        """
        self._path = path
        self._n_rows = n_rows
        self._n_columns = n_columns
        self._offsets = map_array(path.with_suffix(".npy"))
        self._frames = map_bytes(path.with_suffix(".bin"))
        expected = -(-n_rows // BLOCK_ROWS) + 1
        if len(self._offsets) != expected or int(self._offsets[-1]) != len(self._frames):
            raise ValueError(f"{path.with_suffix('.bin')} and its offsets do not fit together")
        dictionary = path.with_suffix(".dict")
        self._dictionary = (
            zstandard.ZstdCompressionDict(dictionary.read_bytes()) if dictionary.exists() else None
        )
        self._local = threading.local()  # a decompressor serves one thread at a time

    def __len__(self) -> int:
        return self._n_rows

    def rows(self, rows: Iterable[int]) -> list[Row]:
        """The strings of ``rows``, in their order; each block is decompressed once.

        Raises: as ``encoded_rows``.
        """
        return [tuple([decode(string) for string in row]) for row in self.encoded_rows(rows)]

    def encoded_rows(self, rows: Iterable[int]) -> list[tuple[bytes, ...]]:
        """As ``rows``, in UTF-8.

        Raises:
            IndexError: there is no such row.
            IndexNotUsableError: a block is damaged.
        """
        blocks: dict[int, tuple[bytes, list[int]]] = {}
        width = self._n_columns
        found = []
        for row in rows:
            if not 0 <= row < self._n_rows:
                raise IndexError(f"row {row} of a store of {self._n_rows} passages")
            number, place = divmod(row, BLOCK_ROWS)
            if number not in blocks:
                blocks[number] = self._block(number)
            content, bounds = blocks[number]
            of_row = bounds[place * width : (place + 1) * width + 1]
            pairs = itertools.pairwise(of_row)
            found.append(tuple([content[start:end] for start, end in pairs]))
        return found

    def _block(self, number: int) -> tuple[bytes, list[int]]:
        """A block's content, and where in it each string begins; at the end where the last ends."""
        n_rows = min(BLOCK_ROWS, self._n_rows - number * BLOCK_ROWS)
        n_strings = n_rows * self._n_columns
        frame = self._frames[self._offsets[number] : self._offsets[number + 1]]
        try:
            content = self._decompressor().decompress(frame, allow_extra_data=False)
            lengths = struct.unpack_from(f"<{n_strings}I", content)
        # A damaged frame may claim any size.
        except (zstandard.ZstdError, struct.error, MemoryError) as error:
            raise self._damaged(number, str(error)) from error
        bounds = list(itertools.accumulate(lengths, initial=4 * n_strings))
        if bounds[-1] != len(content):
            raise self._damaged(number, "its strings do not fill it")
        return content, bounds

    def _decompressor(self) -> zstandard.ZstdDecompressor:
        decompressor: zstandard.ZstdDecompressor | None
        decompressor = getattr(self._local, "decompressor", None)
        if decompressor is None:
            decompressor = zstandard.ZstdDecompressor(dict_data=self._dictionary)
            self._local.decompressor = decompressor
        return decompressor

    def _damaged(self, number: int, why: str) -> IndexNotUsableError:
        return IndexNotUsableError(
            f"{self._path.with_suffix('.bin')}: block {number} is damaged ({why}); "
            f"{mend(self._path.parents[1])}"
        )
