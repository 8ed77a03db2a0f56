"""Small real components: a retriever by shared words, a reader of last words, a reranker."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from odqa.store import MANIFEST_NAME, parse_manifest, write_manifest
from odqa.types import Candidate, Passage, Reading

TEXTS = {
    "1#0": "훈민정음 창제 세종대왕",
    "2#0": "거북선 제작 이순신",
    "3#0": "훈민정음 해례본 발견 안동",
    "4#0": "측우기 제작 장영실",
}
PASSAGES = [
    Passage(passage_id, passage_id[0], "제목", text, 0, len(text))
    for passage_id, text in TEXTS.items()
]


class OverlapRetriever:
    """The number of words that question and passage share."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = passages

    def retrieve(self, questions: Sequence[str], *, k: int) -> list[list[Candidate]]:
        return [self._one(question, k) for question in questions]

    def _one(self, question: str, k: int) -> list[Candidate]:
        words = set(question.split())
        scored = [(float(len(words & set(p.text.split()))), p) for p in self.passages]
        found = [(s, p) for s, p in scored if s > 0]
        found.sort(key=lambda item: (-item[0], item[1].passage_id))
        return [Candidate(p, s, rank, "sparse") for rank, (s, p) in enumerate(found[:k])]


class LastWordReader:
    """The last word of a passage; its score is the number of words shared with the question."""

    def read(
        self, questions: Sequence[str], candidates: Sequence[Sequence[Candidate]], *, k: int
    ) -> list[list[Reading]]:
        return [
            sorted(
                (self._one(question, candidate) for candidate in of_question),
                key=lambda r: (-r.score, r.candidate.passage.passage_id),
            )[:k]
            for question, of_question in zip(questions, candidates, strict=True)
        ]

    def _one(self, question: str, candidate: Candidate) -> Reading:
        text = candidate.passage.text
        start = text.rindex(" ") + 1
        score = float(len(set(question.split()) & set(text.split())))
        return Reading(candidate, text[start:], score, start, len(text))


class ShortestFirst:
    """A second stage that likes short passages."""

    def rerank(
        self, questions: Sequence[str], candidates: Sequence[Sequence[Candidate]]
    ) -> list[list[Candidate]]:
        return [
            [
                Candidate(c.passage, -float(len(c.passage.text)), rank, "rerank")
                for rank, c in enumerate(
                    sorted(of_question, key=lambda c: (len(c.passage.text), c.passage.passage_id))
                )
            ]
            for of_question in candidates
        ]


def made_by_another_tokenizer(index: Path) -> Path:
    """``index`` as if an older version of the tokenizer had made it, undamaged."""
    manifest = parse_manifest(index)
    for file in index.rglob("*.json"):
        text = file.read_text(encoding="utf-8").replace("mecab/1", "mecab/0")
        file.write_text(text, encoding="utf-8")
    values = json.loads((index / MANIFEST_NAME).read_text(encoding="utf-8"))
    names = [field.name for field in dataclasses.fields(manifest)]
    changed = dataclasses.replace(manifest, **{n: values[n] for n in names if n != "legs"})
    write_manifest(index, changed, sorted({name.partition("/")[0] for name in manifest.files}))
    return index
