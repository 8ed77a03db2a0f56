"""New arrays on disk whose place is taken before anything is written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def create_array(
    path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]
) -> np.memmap[Any, np.dtype[Any]]:
    """An ``.npy`` file of zeros, mapped into memory to be filled.

    Its blocks are allocated at once, where the file system can. Writing to a mapped file on a full
    disk ends the process by a signal (SIGBUS); here the disk says so before, as an exception.

    Raises:
        OSError: there is no room for it (the half-made file is removed), or no permission.
    """
    array: np.memmap[Any, np.dtype[Any]] = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.dtype(dtype), shape=shape
    )
    if hasattr(os, "posix_fallocate") and (size := path.stat().st_size):
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _NO_ROOM:  # a file system that cannot allocate beforehand
                return array
            del array
            path.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            os.close(descriptor)
    return array
