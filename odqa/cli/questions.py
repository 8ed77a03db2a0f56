"""Questions and passages that a user gives: as an argument, a file, lines on stdin."""

from __future__ import annotations

import io
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from odqa.errors import InputError, UsageError
from odqa.text.normalize import without_invisible
from odqa.types import Passage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the name it has in the output."""

    question_id: str
    text: str


def read_questions(path: Path) -> list[Question]:
    """The questions of a ``.tsv`` (``id<TAB>question``) or ``.jsonl`` (``{"id","question"}``).

    Raises:
        InputError: with file, line and field: not readable, not UTF-8, a bad line, an id given
            twice, an empty question, no question at all, another kind of file.
    """
    parse = {".tsv": _from_tsv, ".jsonl": _from_json}.get(path.suffix.lower())
    if parse is None:
        raise InputError(
            "a file of questions is .tsv (id<TAB>question) or .jsonl "
            '({"id": …, "question": …}) by its ending',
            path=path,
        )
    questions: dict[str, Question] = {}
    for number, line in _lines(path):
        question = parse(line, path, number)
        if question.question_id in questions:
            raise InputError(
                f"the id '{question.question_id}' was there before; ids must differ",
                path=path,
                line=number,
                field="id",
            )
        if not without_invisible(question.text).strip():
            raise InputError("the question is empty", path=path, line=number, field="question")
        questions[question.question_id] = question
    if not questions:
        raise InputError("holds no question", path=path)
    return list(questions.values())


def stdin_questions() -> Iterator[Question]:
    """One question a line of stdin, named by its line number; blank lines are passed over.

    Raises:
        InputError: a line is not UTF-8.
    """
    stream: BinaryIO | Iterable[bytes]
    if isinstance(sys.stdin, io.TextIOWrapper):
        stream = sys.stdin.buffer
    else:  # a stand-in without bytes below it
        stream = (line.encode("utf-8", "surrogatepass") for line in sys.stdin)
    for number, line in enumerate(stream, start=1):
        text = _decode(line, Path("stdin"), number).strip()
        if without_invisible(text).strip():
            yield Question(str(number), text)


def read_passages(path: Path) -> list[Passage]:
    """The passages of a ``.jsonl`` file (``{"id","title","text"}``), each read as it stands.

    Raises:
        InputError: with file, line and field, as for a corpus.
    """
    from odqa.corpus import read_documents

    if not path.is_file():
        raise InputError("there is no such file", path=path)
    if ".jsonl" not in map(str.lower, path.suffixes):
        raise InputError(
            'passages are given as .jsonl, one {"id", "title", "text"} a line', path=path
        )
    return [
        Passage(d.doc_id, _article_of(d.doc_id), d.title, d.text, 0, len(d.text))
        for d in read_documents(path)
    ]


def is_valid_text(value: str) -> bool:
    """Neither a NUL nor half a character (a surrogate), which JSON can both write."""
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most ``size`` items, in order."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def one_question(words: list[str], questions_path: Path | None) -> Question | None:
    """The question on the command line, None where there is none.

    Raises:
        UsageError: it is empty, or a file of questions is given as well.
    """
    if not words:
        return None
    if questions_path is not None:
        raise UsageError("give either a question or --questions FILE, not both")
    text = _recovered(" ".join(words))
    if not text.strip():
        raise UsageError("the question is empty: ask something")
    return Question("1", text)


def _from_tsv(line: str, path: Path, number: int) -> Question:
    columns = line.split("\t")
    if len(columns) != 2:
        raise InputError(
            f"expected 2 columns, id<TAB>question, found {len(columns)}", path=path, line=number
        )
    question_id, text = (column.strip() for column in columns)
    if not question_id:
        raise InputError("the id is empty", path=path, line=number, field="id")
    return Question(question_id, text)


def _from_json(line: str, path: Path, number: int) -> Question:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not valid JSON ({error})", path=path, line=number) from error
    if not isinstance(record, dict):
        raise InputError('expected an object {"id": …, "question": …}', path=path, line=number)
    values = {}
    for field in ("id", "question"):
        if field not in record:
            raise InputError("is missing", path=path, line=number, field=field)
        value = record[field]
        if not isinstance(value, str):
            raise InputError(
                f"expected a string, got {type(value).__name__}",
                path=path,
                line=number,
                field=field,
            )
        if not is_valid_text(value):
            raise InputError(
                "is not valid Unicode text: it holds a NUL or half a character",
                path=path,
                line=number,
                field=field,
            )
        values[field] = value
    if not values["id"].strip():
        raise InputError("the id is empty", path=path, line=number, field="id")
    return Question(values["id"], values["question"])


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank, without a byte order mark."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = _decode(line, path, number).rstrip("\r\n")
                if text.strip():
                    yield number, text
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path=path) from error


def _decode(line: bytes, path: Path, number: int) -> str:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            "is not UTF-8 (a file in EUC-KR can be converted with: iconv -f CP949 -t UTF-8 FILE)",
            path=path,
            line=number,
        ) from error
    if "\0" in text:
        raise InputError("holds a NUL byte; is this a text file?", path=path, line=number)
    return text


def _recovered(text: str) -> str:
    """An argument that a locale without UTF-8 (``LC_ALL=C``) has taken apart, put together."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return text  # no UTF-8 either: whoever looks at the question says so


def _article_of(passage_id: str) -> str:
    """The article's id: ``DOC_ID#N`` cut at the ``#``; an id without N is its own article."""
    article, separator, number = passage_id.rpartition("#")
    return article if separator and number.isdigit() else passage_id
