"""Opening source files, packed or not, with errors that name the file."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from odqa.errors import InputError

PACKED = (".gz", ".bz2", ".xz", ".zst")
"""Endings of packed files that ``open_source`` unpacks; capitals will do."""

_CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[BinaryIO]:
    """The unpacked bytes of ``path``, for the length of a ``with`` block.

    Raises:
        InputError: the file is missing or cannot be read, or (while reading within the block) is
            truncated or is not what its ending says.
    """
    try:
        with _opened(path) as stream:
            yield stream
    except EOFError as error:
        raise InputError("the packed file is truncated; fetch it again", path=path) from error
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
        raise InputError(f"is no valid {path.suffix} file ({error})", path=path) from error
    except FileNotFoundError as error:
        raise InputError("no such file", path=path) from error
    except OSError as error:
        if path.suffix.lower() == ".bz2" and error.errno is None:
            raise InputError(f"is no valid .bz2 file ({error})", path=path) from error
        raise InputError(f"cannot be read ({error.strerror or error})", path=path) from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its break) of a UTF-8 text file, packed or not.

    Raises:
        InputError: as ``open_source``, or a line holds NUL bytes or is not UTF-8.
    """
    with open_source(path) as stream:
        for number, raw in enumerate(stream, start=1):
            if b"\0" in raw:
                raise InputError("holds NUL bytes; it is no text", path=path, line=number)
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"is not UTF-8 (byte {error.start + 1} of the line); convert it to UTF-8",
                    path=path,
                    line=number,
                ) from error
            yield number, line.rstrip("\r\n")


def _opened(path: Path) -> BinaryIO:
    packing = path.suffix.lower()
    if packing == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if packing == ".bz2":
        return cast(BinaryIO, bz2.open(path, "rb"))
    if packing == ".xz":
        return cast(BinaryIO, lzma.open(path, "rb"))
    if packing == ".zst":
        return cast(BinaryIO, io.BufferedReader(_ZstdReader(path), _CHUNK_BYTES))
    return path.open("rb")


class _ZstdReader(io.RawIOBase):
    """Unpacked bytes of a zstd file of one or more frames.

    zstandard's own reader ends silently where a truncated file ends; this one raises EOFError.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._in_frame = False
        self._packed = b""
        self._unpacked = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._unpacked and self._fill():
            pass
        count = min(len(buffer), len(self._unpacked))
        buffer[:count] = self._unpacked[:count]
        self._unpacked = self._unpacked[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()

    def _fill(self) -> bool:
        """Unpack one more chunk; False at the end of the file."""
        packed = self._packed or self._file.read(_CHUNK_BYTES)
        self._packed = b""
        if not packed:
            if self._in_frame:
                raise EOFError("zstd frame ends early")
            return False
        self._in_frame = True
        self._unpacked = memoryview(self._frame.decompress(packed))
        if self._frame.eof:
            self._packed = self._frame.unused_data
            self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._in_frame = False
        return True
