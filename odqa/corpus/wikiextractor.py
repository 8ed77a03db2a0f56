"""A folder of WikiExtractor's output: ``<doc id= url= title=>`` ... ``</doc>``, or JSON lines."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from odqa.corpus.opening import PACKED, read_lines
from odqa.corpus.records import document_of, parse_record
from odqa.errors import InputError
from odqa.types import Document

_OPENING = re.compile(r"<doc\b(.*)>\s*")
# WikiExtractor escapes nothing: a title may hold quotation marks.
_ATTRIBUTE = re.compile(r'(?<![\w-])([\w-]+)="(.*?)"(?=\s+[\w-]+="|\s*$)')
_FILE_NAME = re.compile(r"(?:wiki_\d+|.*\.(?:txt|json|jsonl))", re.IGNORECASE)


def wikiextractor_files(folder: Path) -> list[Path]:
    """The folder's files of articles (``AA/wiki_00``, ...), sorted by path.

    Raises:
        InputError: there is none.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and _FILE_NAME.fullmatch(path.stem if path.suffix.lower() in PACKED else path.name)
    )
    if not files:
        raise InputError("holds no WikiExtractor output (files such as AA/wiki_00)", path=folder)
    return files


def read_wikiextractor(path: Path) -> Iterator[tuple[int, Document]]:
    """(line number of its start, document) of each article of one file.

    The first line of an article's text, its title once more, is left out.

    Raises:
        InputError: text outside an article, an article without id or end, or what ``read_lines``
            and ``parse_record`` raise.
    """
    attributes: dict[str, str] | None = None
    began, body = 0, list[str]()
    for number, line in read_lines(path):
        if attributes is None:
            if line.startswith("{"):
                yield number, parse_record(line, path=path, number=number)
            elif (opening := _OPENING.fullmatch(line)) and "</doc>" in line:
                raise InputError(
                    "the text must begin on the line after '<doc ...>'", path=path, line=number
                )
            elif opening:
                attributes = dict(_ATTRIBUTE.findall(opening.group(1)))
                began, body = number, []
            elif line.strip():
                raise InputError("expected '<doc id=... title=...>'", path=path, line=number)
        elif line.strip() == "</doc>":
            yield began, _document(attributes, body, path, began)
            attributes = None
        else:
            body.append(line)
    if attributes is not None:
        raise InputError("the article has no '</doc>'; the file is cut off", path=path, line=began)


def _document(attributes: dict[str, str], body: list[str], path: Path, line: int) -> Document:
    record = {key: html.unescape(value) for key, value in attributes.items() if key != "text"}
    title = record.get("title", "")
    if body and body[0].strip() == title.strip():
        body = body[1:]
    record["text"] = "\n".join(body).strip("\n")
    return document_of(record, path=path, number=line)
