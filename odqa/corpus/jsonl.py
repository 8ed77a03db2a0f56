"""``.jsonl``: an article a line, ``{"id", "title", "text"}``, packed or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from odqa.corpus.opening import read_lines
from odqa.corpus.records import parse_record
from odqa.types import Document


def read_jsonl(path: Path) -> Iterator[tuple[int, Document]]:
    """(line number, document) of each line that is not blank.

    Raises:
        InputError: see ``read_lines`` and ``parse_record``.
    """
    for number, line in read_lines(path):
        if line.strip():
            yield number, parse_record(line, path=path, number=number)
