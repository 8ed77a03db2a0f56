"""Data sets of questions with gold answers and, where they have them, gold passages."""

from __future__ import annotations

import dataclasses
import importlib.resources
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from odqa.config import CorpusConfig
from odqa.corpus import clean_text, read_documents, split_passages
from odqa.corpus.korquad import read_contexts
from odqa.corpus.opening import read_lines
from odqa.errors import InputError, UsageError
from odqa.text.normalize import nfc, without_invisible
from odqa.types import Document, Example, Passage

SAMPLE = "sample"
SAMPLE_SPLITS = ("train", "dev")

_SHOWN_ENDINGS = (".json", ".jsonl", ".topics.tsv")


def read_examples(
    dataset: str | Path, split: str = "dev", *, corpus: CorpusConfig | None = None
) -> list[Example]:
    """The questions of a data set, in its order, in NFC.

    ``dataset`` is "sample", a KorQuAD 1.0 or KLUE-MRC ``.json``, a ``.jsonl`` of
    ``{"id", "question", "answers"}`` (``"context"`` and ``"title"`` give a gold passage), or a
    folder with ``SPLIT.json`` or ``SPLIT.jsonl``. The sample's gold passages are cut by
    ``corpus``, which should be the index's. ``answer_starts`` holds the offsets of the first
    answers, as many as are known.

    Raises:
        InputError: missing or unreadable file, bad record (file, line, field), id given twice, or
            no question at all.
        UsageError: the sample has no such split.
    """
    if str(dataset) == SAMPLE:
        return _read_sample(split, corpus or CorpusConfig())
    path = file_of(Path(dataset), split, (".json", ".jsonl"))
    return _unique(_read_file(path), path)


# Files ----------------------------------------------------------------------------------------


def file_of(path: Path, split: str, endings: Sequence[str]) -> Path:
    """The file of a data set: itself, or the split's in its folder, by the first ending there is.

    Raises:
        InputError: there is no such file, or its kind is none of ``endings``.
    """
    if path.is_dir():
        for ending in endings:
            if (found := with_ending(path / split, ending)).is_file():
                return found
        present = sorted(p.name for p in path.iterdir() if has_ending(p, _SHOWN_ENDINGS))
        expected = " or ".join(f"{split}{ending}" for ending in endings)
        raise InputError(
            f"has no {expected}; it holds {', '.join(present) or 'no data set'}", path=path
        )
    if not path.exists():
        raise InputError("no such data set (a file, a folder, or 'sample')", path=path)
    if not has_ending(path, endings):
        kinds = ", ".join(endings)
        raise InputError(f"unknown kind of data set; known here: {kinds}, 'sample'", path=path)
    return path


def has_ending(path: Path, endings: Sequence[str]) -> bool:
    """Whether a file's name ends in one of ``endings``; capitals will do."""
    return path.name.lower().endswith(tuple(endings))


def with_ending(path: Path, ending: str) -> Path:
    """``path`` with ``ending`` behind its name, in capitals if such a file is there alone."""
    wanted = path.with_name(path.name + ending)
    if not wanted.exists() and path.parent.is_dir():
        for entry in sorted(path.parent.iterdir()):
            if entry.name.startswith(path.name) and entry.name[len(path.name) :].lower() == ending:
                return entry
    return wanted


def _read_file(path: Path) -> Iterator[tuple[int | None, Example]]:
    if has_ending(path, [".jsonl"]):
        return _read_jsonl(path)
    return ((None, example) for example in _read_korquad(path))


def filled_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line) of each line of a text file that is not blank."""
    return ((number, line) for number, line in read_lines(path) if line.strip())


def _unique(numbered: Iterator[tuple[int | None, Example]], path: Path | str) -> list[Example]:
    examples: dict[str, Example] = {}
    for line, example in numbered:
        if example.question_id in examples:
            raise InputError(twice(example.question_id), path=path, line=line, field="id")
        examples[example.question_id] = example
    if not examples:
        raise InputError("holds no question", path=path)
    return list(examples.values())


def twice(question_id: str) -> str:
    """What is wrong with an id that was there before."""
    return f"'{question_id}' occurs a second time; ids must be unique"


# KorQuAD and KLUE-MRC -------------------------------------------------------------------------


def _read_korquad(path: Path) -> Iterator[Example]:
    for document, questions in read_contexts(path):
        (passage,) = split_passages(document, CorpusConfig()) or [_whole(document)]
        for number, question in enumerate(questions):
            place = f"question {number} of the context '{document.doc_id}': "
            yield _korquad_example(question, passage, path, place)


def _korquad_example(
    record: Mapping[str, Any], passage: Passage, path: Path, place: str
) -> Example:
    question_id = record.get("id", record.get("guid"))
    if not isinstance(question_id, str):
        raise InputError(f"{place}must be a string", path=path, field="id")
    question = _text(record, "question", path, None, place)
    found: dict[str, int] = {}
    for answer in _answer_records(record, path, place):
        text = _text(answer, "text", path, None, place)
        hint = answer.get("answer_start", answer.get("start_idx", 0))
        found.setdefault(text, _nearest(passage.text, text, hint if type(hint) is int else 0))
    kept = {"question_type": record["question_type"]} if "question_type" in record else {}
    return Example(question_id, question, tuple(found), passage, _leading(found.values()), kept)


def _answer_records(
    record: Mapping[str, Any], path: Path, place: str
) -> Sequence[Mapping[str, Any]]:
    if record.get("is_impossible") is True:
        return []
    answers = record.get("answers")
    if not isinstance(answers, list) or not all(isinstance(a, dict) for a in answers):
        raise InputError(f"{place}must be a list of objects", path=path, field="answers")
    return answers


def _nearest(text: str, answer: str, hint: int) -> int:
    """The occurrence of ``answer`` nearest to ``hint``; -1 where it does not stand in the text.

    Composing to NFC can shift the offsets of a data set, so they are a hint only.
    """
    after, before = text.find(answer, max(hint, 0)), text.rfind(answer, 0, max(hint, 0))
    found = [start for start in (after, before) if start >= 0]
    return min(found, key=lambda start: abs(start - hint), default=-1)


# JSON lines and the sample --------------------------------------------------------------------


def _read_jsonl(path: Path) -> Iterator[tuple[int, Example]]:
    for number, line in filled_lines(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"is not valid JSON ({error})", path=path, line=number) from error
        if not isinstance(record, dict):
            message = 'must be an object {"id": ..., "question": ..., "answers": [...]}'
            raise InputError(message, path=path, line=number)
        yield number, _jsonl_example(record, path, number)


def _jsonl_example(record: Mapping[str, Any], path: Path, number: int) -> Example:
    question_id = _text(record, "id", path, number)
    question = _text(record, "question", path, number)
    answers = record.get("answers")
    if not isinstance(answers, list) or not all(isinstance(a, str) and a.strip() for a in answers):
        problem = (
            "is missing" if answers is None else "must be a list of strings that say something"
        )
        raise InputError(problem, path=path, line=number, field="answers")
    passage = None
    if record.get("context") is not None:
        title = _text(record, "title", path, number) if record.get("title") else ""
        doc_id = record.get("doc_id")
        text = _text(record, "context", path, number)
        doc_id = doc_id if isinstance(doc_id, str) else question_id
        passage = _whole(Document(doc_id, title, text))
    used = ("id", "question", "answers", "context")
    kept = {key: value for key, value in record.items() if key not in used}
    unique = tuple(dict.fromkeys(nfc(answer) for answer in answers))
    return Example(question_id, question, unique, passage, _leading_starts(unique, passage), kept)


def _leading_starts(answers: Sequence[str], passage: Passage | None) -> tuple[int, ...]:
    text = passage.text if passage is not None else ""
    return _leading(text.find(answer) for answer in answers)


def _leading(starts: Iterable[int]) -> tuple[int, ...]:
    """The offsets of the first answers, up to the first that does not stand in the passage."""
    return tuple(itertools.takewhile(lambda start: start >= 0, starts))


def _read_sample(split: str, corpus: CorpusConfig) -> list[Example]:
    if split not in SAMPLE_SPLITS:
        raise UsageError(f"the sample has no split '{split}': it has {', '.join(SAMPLE_SPLITS)}")
    documents = {document.doc_id: document for document in read_documents(SAMPLE)}
    source = importlib.resources.files("odqa.sample") / f"{split}.jsonl"
    with importlib.resources.as_file(source) as path:
        numbered = _read_jsonl(path)
        return _unique(
            (
                (line, _with_gold(example, documents, corpus, path, line))
                for line, example in numbered
            ),
            path,
        )


def _with_gold(
    example: Example, documents: Mapping[str, Document], corpus: CorpusConfig, path: Path, line: int
) -> Example:
    """``example`` with the passage that holds its evidence, and where the first answer is."""
    doc_id, evidence = example.metadata.get("doc_id"), example.metadata.get("evidence")
    if not isinstance(doc_id, str) or not isinstance(evidence, str):
        return example
    if doc_id not in documents:
        raise InputError(f"no article '{doc_id}'", path=path, line=line, field="doc_id")
    sentence = clean_text(evidence, corpus)
    for passage in split_passages(documents[doc_id], corpus):
        if (at := passage.text.find(sentence)) >= 0:
            start = sentence.find(example.answers[0]) if example.answers else -1
            starts = (at + start,) if start >= 0 else ()
            return dataclasses.replace(example, passage=passage, answer_starts=starts)
    message = f"stands in no passage of the article '{doc_id}'"
    raise InputError(message, path=path, line=line, field="evidence")


def _text(
    record: Mapping[str, Any], name: str, path: Path, line: int | None, place: str = ""
) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not without_invisible(value).strip():
        problem = "is missing" if value is None else "must be a string that is not empty"
        raise InputError(f"{place}{problem}", path=path, line=line, field=name)
    return nfc(value)


def _whole(document: Document) -> Passage:
    length = len(document.text)
    return Passage(
        f"{document.doc_id}#0", document.doc_id, document.title, document.text, 0, length
    )
