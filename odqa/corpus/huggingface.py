"""``hf:DATASET[:CONFIG]``: a data set of the Hugging Face hub, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from odqa.corpus.records import document_of
from odqa.errors import InputError, MissingDependencyError, UsageError
from odqa.types import Document

PREFIX = "hf:"


def read_huggingface(source: str) -> Iterator[tuple[int, Document]]:
    """(row number from 1, document) of the split ``train``, in its order.

    A row needs ``text``; without ``id`` its number counting from 0 is taken, without ``title``
    the title is empty.

    Raises:
        MissingDependencyError: ``datasets`` is not installed.
        InputError: the data set cannot be loaded, or a row is not fit.
    """
    name, config = split_name(source)
    try:
        import datasets  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingDependencyError("datasets", "train", f"The corpus '{source}'") from error
    try:
        rows = datasets.load_dataset(name, config, split="train", streaming=True)
        for number, row in enumerate(rows, start=1):
            yield number, document_of(_record(row, number), path=source, number=number)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"cannot be loaded ({error})", path=source) from error


def split_name(source: str) -> tuple[str, str | None]:
    """("DATASET", "CONFIG" or None) of "hf:DATASET[:CONFIG]"."""
    name, _, config = source.removeprefix(PREFIX).partition(":")
    if not name:
        raise UsageError(f"'{source}' names no data set; write it as hf:DATASET[:CONFIG]")
    return name, config or None


def _record(row: dict[str, Any], number: int) -> dict[str, Any]:
    """The row with an id and a title, less the columns that JSON cannot hold (pictures, dates)."""
    record = {"id": str(number - 1), "title": "", **row}
    if isinstance(record["id"], int):
        record["id"] = str(record["id"])
    plain = (str, int, float, bool, type(None))
    return {
        key: value
        for key, value in record.items()
        if isinstance(value, plain) or key in ("id", "title", "text")
    }
