"""The project's own reading questions, joined with the passages that they were written for.

    python scripts/join_questions.py DATA/kowiki/kowiki-2023.jsonl.xz OUT.json \
        --topics DATA/miracl-ko --topics DATA/mrtydi-ko

``scripts/data/questions-ko.jsonl`` holds no text of Wikipedia but the answers. A line names a
passage as ``curid:start-end``, in characters of the cleaned article; ``start`` is where the answer
begins in the passage, and a line without ``answer`` is a question that the passage leaves open.
Where there is ``topic`` (``set:number``) instead of ``question``, the question is that of the
train topics of a retrieval set. OUT has KorQuAD's form.
"""

from __future__ import annotations

import argparse
import collections
import json
from pathlib import Path
from typing import Any

from odqa.config import CorpusConfig
from odqa.corpus import read_documents
from odqa.corpus.passages import clean_document
from odqa.errors import InputError

QUESTIONS = Path(__file__).parent / "data" / "questions-ko.jsonl"


def read_topics(folders: list[Path]) -> dict[str, str]:
    """The train questions of retrieval sets by ``set:number``."""
    found = {}
    for folder in folders:
        for line in (folder / "train.topics.tsv").read_text(encoding="utf-8").splitlines():
            number, question = line.split("\t", 1)
            found[f"{folder.name}:{number}"] = question.strip()
    return found


def join(lines: list[dict[str, Any]], corpus: str, topics: dict[str, str]) -> list[dict[str, Any]]:
    """KorQuAD's articles, in the order of the corpus.

    Raises:
        InputError: an answer does not stand where it should, as in another edition of the corpus,
            or an article or a topic is missing.
    """
    by_article: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number, line in enumerate(lines, 1):
        curid, _, place = line["passage"].partition(":")
        of_passage = by_article.setdefault(curid, {}).setdefault(place, [])
        of_passage.append(line | {"id": f"w{number}"})
    articles = []
    for document in read_documents(corpus):
        wanted = by_article.pop(document.doc_id, None)
        if wanted is None:
            continue
        text = clean_document(document, CorpusConfig()).text
        paragraphs = []
        for place, of_passage in wanted.items():
            start, _, end = place.partition("-")
            context = text[int(start) : int(end)]
            questions = [_question(line, context, topics) for line in of_passage]
            paragraphs.append({"context": context, "qas": questions})
        articles.append({"title": document.title, "paragraphs": paragraphs})
    if by_article:
        missing = next(iter(by_article))
        raise InputError(f"lacks {len(by_article)} of the articles, as {missing}", path=corpus)
    return articles


def _question(line: dict[str, Any], context: str, topics: dict[str, str]) -> dict[str, Any]:
    question = topics.get(line["topic"]) if "topic" in line else line["question"]
    if question is None:
        message = f"is '{line['topic']}', which no --topics given has"
        raise InputError(message, path=QUESTIONS, field="topic")
    record = {"id": line["id"], "question": question, "answers": []}
    if "answer" not in line:
        return record | {"is_impossible": True}
    answer, start = line["answer"], line["start"]
    if context[start : start + len(answer)] != answer:
        message = f"passage {line['passage']} does not hold '{answer}' at {start} in this corpus"
        raise InputError(message, path=QUESTIONS, field="answer")
    return record | {"answers": [{"text": answer, "answer_start": start}]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("corpus")
    parser.add_argument("output", type=Path)
    parser.add_argument("--topics", type=Path, action="append", default=[], metavar="FOLDER")
    arguments = parser.parse_args()
    with QUESTIONS.open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    articles = join(lines, arguments.corpus, read_topics(arguments.topics))
    part = arguments.output.with_name(arguments.output.name + ".part")
    part.write_text(
        json.dumps({"version": "written", "data": articles}, ensure_ascii=False), "utf-8"
    )
    part.replace(arguments.output)  # there once it is whole
    counts = collections.Counter(line.get("kind", "topic") for line in lines)
    print(", ".join(f"{kind} {n}" for kind, n in sorted(counts.items())))


if __name__ == "__main__":
    main()
