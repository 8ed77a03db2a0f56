"""Columns of strings: one UTF-8 blob and the place of each string in it, in memory or mapped."""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

# Half a surrogate pair is no valid UTF-8, but a source may hold one; it must come back as it was.
_ERRORS = "surrogatepass"


@dataclass(frozen=True, slots=True)
class Strings:
    """Strings in memory: their UTF-8 bytes one after another, and the bytes that each takes."""

    blob: npt.NDArray[np.uint8]  # (bytes,)
    lengths: npt.NDArray[np.int64]  # (strings,)

    @classmethod
    def encode(cls, texts: Iterable[str]) -> Strings:
        """The column of ``texts``, in their order."""
        return cls.of([text.encode("utf-8", _ERRORS) for text in texts])

    @classmethod
    def of(cls, encoded: Sequence[bytes]) -> Strings:
        """The column of strings that are in UTF-8 already."""
        blob = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return cls(blob, np.array([len(text) for text in encoded], dtype=np.int64))

    def encoded(self) -> list[bytes]:
        """The strings in UTF-8."""
        data, offsets = self.blob.tobytes(), offsets_of(self.lengths).tolist()
        return [data[start:end] for start, end in itertools.pairwise(offsets)]

    def decode(self) -> list[str]:
        """The strings."""
        return [decode(string) for string in self.encoded()]


class StringsWriter:
    """Writes a column to ``PATH.bin`` (the bytes) and ``PATH.npy`` (offsets), piece by piece.

    Of the strings written only their lengths are kept in memory. A context manager that writes the
    offsets when the block ends. An ``optional`` column of nothing but empty strings has no files.
    """

    def __init__(self, path: Path, *, optional: bool = False) -> None:
        self._path = path
        self._optional = optional
        self._lengths: list[npt.NDArray[np.int64]] = []
        self._file: BinaryIO = path.with_suffix(".bin").open("wb")

    def append(self, strings: Strings) -> None:
        """Add ``strings`` at the end of the column."""
        self._file.write(strings.blob.data)
        self._lengths.append(strings.lengths)

    def __enter__(self) -> StringsWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        lengths = np.concatenate([np.empty(0, np.int64), *self._lengths])
        if self._optional and not lengths.any():
            self._path.with_suffix(".bin").unlink()
            self._path.with_suffix(".npy").unlink(missing_ok=True)
        else:
            save_offsets(self._path.with_suffix(".npy"), lengths)


class MappedStrings(Sequence[str]):
    """A column on disk, memory-mapped: opening costs the same whatever its size."""

    def __init__(self, path: Path) -> None:
        """Open ``PATH.bin`` and ``PATH.npy``.

        Raises:
            OSError, ValueError: a file is missing, is no array, or the two do not fit together.
        """
        self._offsets = map_array(path.with_suffix(".npy"))
        self._blob = map_bytes(path.with_suffix(".bin"))
        if len(self._offsets) == 0 or int(self._offsets[-1]) != len(self._blob):
            raise ValueError(f"{path.with_suffix('.bin')} and its offsets do not fit together")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> str:  # type: ignore[override]  # no slices
        return decode(self.bytes_at(row))

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> list[str]:
        """The strings of ``rows``, in their order: faster than one by one."""
        starts, ends = self._offsets[rows].tolist(), self._offsets[rows + 1].tolist()
        return [decode(self._blob[start:end]) for start, end in zip(starts, ends, strict=True)]

    def bytes_at(self, row: int) -> bytes:
        """The UTF-8 of one string; bytes compare in the order of their code points."""
        return self._blob[self._offsets[row] : self._offsets[row + 1]]


def map_array(path: Path) -> npt.NDArray[np.int64]:
    """The array of numbers in a ``.npy`` file, memory-mapped and read-only.

    Raises:
        OSError, ValueError: the file is missing, or is no such array from its start to its end.
    """
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # the header is parsed as Python, and fails in as many ways
        raise ValueError(f"{path} is no array ({error!r})") from error
    # A changed bit in the header could turn the numbers into others.
    native = mapped.dtype.kind in "iuf" and mapped.dtype.isnative
    if not native or mapped.offset + mapped.nbytes != path.stat().st_size:
        raise ValueError(f"{path} is no array of numbers, or not of its full length")
    return np.asarray(mapped)  # the plain array's items are read faster than a memmap's


def decode(string: bytes) -> str:
    """The string that ``Strings.encode`` made these bytes of."""
    return string.decode("utf-8", _ERRORS)


def offsets_of(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each string starts, and at the end where the last one ends."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def save_offsets(path: Path, lengths: npt.NDArray[np.int64]) -> None:
    """Write the offsets of strings of these lengths, in 32 bits where those will do."""
    offsets = offsets_of(lengths)
    np.save(path, offsets.astype(np.uint32) if offsets[-1] < 2**32 else offsets)


def map_bytes(path: Path) -> bytes | mmap.mmap:
    """The bytes of a file, memory-mapped and read-only."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:  # an empty file cannot be mapped
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
