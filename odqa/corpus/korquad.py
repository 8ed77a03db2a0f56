"""KorQuAD 1.0 and KLUE-MRC JSON as a corpus: each context is an article of one passage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from odqa.corpus.opening import open_source
from odqa.corpus.records import clean_title
from odqa.errors import InputError
from odqa.text.normalize import nfc
from odqa.types import Document

SINGLE_PASSAGE = "single_passage"
"""Key of a document's metadata: its text is one passage and is not to be changed."""


def read_korquad(path: Path) -> Iterator[tuple[None, Document]]:
    """(None, document) of each context; a repeated context is given once."""
    seen: set[str] = set()
    for document, _ in read_contexts(path):
        if document.doc_id not in seen:
            seen.add(document.doc_id)
            yield None, document


def read_contexts(path: Path) -> Iterator[tuple[Document, list[Mapping[str, Any]]]]:
    """(document, its paragraph's ``qas``) of each paragraph, in the file's order.

    A document's id is ``ARTICLE-PARAGRAPH``, both counted from 0. A context that occurs again
    (KLUE-MRC repeats one for each of its questions) has the id of its first occurrence. The two
    characters ``\\n`` that KLUE-MRC writes for a line break become a line break and a space, so
    that answer offsets hold.

    Raises:
        InputError: no JSON, or a field is missing or of the wrong type (named with its place).
    """
    first_ids: dict[str, str] = {}
    for a, article in enumerate(_list(_load(path), "data", "", path)):
        where = f"data[{a}]."
        title = article.get("title") or ""
        if not isinstance(title, str):
            raise InputError("must be a string", path=path, field=f"{where}title")
        for p, paragraph in enumerate(_list(article, "paragraphs", where, path)):
            place = f"{where}paragraphs[{p}]."
            context = paragraph.get("context")
            if not isinstance(context, str):
                problem = "is missing" if context is None else "must be a string"
                raise InputError(problem, path=path, field=f"{place}context")
            if "\0" in context:
                raise InputError("holds NUL characters", path=path, field=f"{place}context")
            doc_id = first_ids.setdefault(context, f"{a}-{p}")
            text = nfc(context).replace("\\n", "\n ")
            questions = _list(paragraph, "qas", place, path) if "qas" in paragraph else []
            yield Document(doc_id, clean_title(title), text, {SINGLE_PASSAGE: True}), questions


def _load(path: Path) -> Mapping[str, Any]:
    with open_source(path) as stream:
        raw = stream.read()
    try:
        values = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError("is not UTF-8; convert it to UTF-8", path=path, line=line) from error
    except json.JSONDecodeError as error:
        message = f"is not valid JSON ({error.msg}, column {error.colno})"
        raise InputError(message, path=path, line=error.lineno) from error
    except RecursionError as error:
        raise InputError("its JSON is nested too deeply", path=path) from error
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"is not valid JSON ({error})", path=path) from error
    if not isinstance(values, dict) or "data" not in values:
        raise InputError(
            'is no KorQuAD or KLUE-MRC file ({"data": [{"title", "paragraphs": [{"context"}]}]})',
            path=path,
        )
    return values


def _list(values: Mapping[str, Any], field: str, where: str, path: Path) -> list[Mapping[str, Any]]:
    """``values[field]``, checked to be a list of objects."""
    found = values.get(field)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        problem = "is missing" if found is None else "must be a list of objects"
        raise InputError(problem, path=path, field=f"{where}{field}")
    return found
