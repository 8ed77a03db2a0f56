"""A record ``{"id", "title", "text"}`` to a document, every field checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from odqa.errors import InputError
from odqa.text.normalize import clean_characters, nfc
from odqa.types import Document

_FIELDS = ("id", "title", "text")


def parse_record(line: str, *, path: Path | str, number: int) -> Document:
    """The document of one line of JSON; further fields become its metadata.

    Raises:
        InputError: no JSON, no object, or a field is missing or of the wrong type.
    """
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"is not valid JSON ({error.msg}, column {error.colno})", path=path, line=number
        ) from error
    except RecursionError as error:
        raise InputError("its JSON is nested too deeply", path=path, line=number) from error
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"is not valid JSON ({error})", path=path, line=number) from error
    if not isinstance(record, dict):
        raise InputError(
            'must be an object {"id": ..., "title": ..., "text": ...}', path=path, line=number
        )
    return document_of(record, path=path, number=number)


def document_of(
    record: Mapping[str, Any], *, path: Path | str, number: int | None = None
) -> Document:
    """The document of a record, in NFC.

    Raises:
        InputError: a field is missing, of the wrong type, holds NUL characters, or the id is empty
            or holds white space (ids stand in TREC runs, whose columns white space separates).
    """
    values = []
    for field in _FIELDS:
        if field not in record:
            raise InputError("is missing", path=path, line=number, field=field)
        value = record[field]
        if not isinstance(value, str):
            message = f"must be a string, not {type(value).__name__}"
            raise InputError(message, path=path, line=number, field=field)
        if "\0" in value:
            raise InputError("holds NUL characters", path=path, line=number, field=field)
        values.append(nfc(value))
    doc_id, title, text = values[0], clean_title(values[1]), values[2]
    if not doc_id or doc_id.split() != [doc_id]:
        message = f"must not be empty or hold white space, but is {doc_id!r}"
        raise InputError(message, path=path, line=number, field="id")
    metadata = {key: value for key, value in record.items() if key not in _FIELDS}
    return Document(doc_id, title, text, metadata)


def clean_title(title: str) -> str:
    """A title in NFC on one line, without control characters."""
    return " ".join(clean_characters(title).split())
