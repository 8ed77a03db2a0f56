"""Made questions that come back: by hand, with the bundled reader, over an index."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from commands import documented, korquad
from conformance import make_passage
from small_components import LastWordReader, OverlapRetriever
from tiny_models import sample_examples

from odqa.build import create_reader
from odqa.cli.main import main
from odqa.config import ReaderConfig
from odqa.corpus import read_documents
from odqa.corpus.datasets import read_examples
from odqa.training.questions import MadeQuestion, QuestionConfig, make_questions
from odqa.training.roundtrip import Outcomes, agreed, kept_questions
from odqa.types import Candidate, Passage, Reading

pytest.importorskip("kiwipiepy")

TEXT = "그는 1975년 3월에 《서울대학교》를 졸업하고 1975년에 결혼했다."
PASSAGE = make_passage("1#0", TEXT, "제목")


def question(answer: str, text: str = "그가 졸업한 때는?") -> MadeQuestion:
    return MadeQuestion("s1-0", text, answer, TEXT.index(answer), "date", PASSAGE)


def reading(text: str, *, last: bool = False) -> Reading:
    start = TEXT.rindex(text) if last else TEXT.index(text)
    return Reading(Candidate(PASSAGE, 1.0, 0, "given"), text, 1.0, start, start + len(text))


def test_what_maker_and_reader_agree_on() -> None:
    made = question("1975년 3월")
    assert agreed(made, reading("1975년 3월"), 0.5) == made
    moved = agreed(made, reading("1975년"), 0.5)  # 5 characters of 5 and 7
    assert moved == replace(made, answer="1975년", start=3)
    assert agreed(made, reading("1975년"), 2 * 5 / (5 + 7) + 0.01) is None
    assert agreed(made, reading("1975년", last=True), 0.5) is None  # another year, as it happens
    # the same answer somewhere else in the passage, or with its marks: it stays as it was made
    made = question("1975년")
    assert agreed(made, reading("1975년", last=True), 0.5) == made
    made = question("서울대학교")
    assert agreed(made, reading("《서울대학교》"), 0.5) == made
    assert agreed(made, reading("결혼"), 0.5) is None


def test_an_answer_that_the_question_gives_away_is_none() -> None:
    made = question("1975년 3월", "1975년의 몇 월에 졸업했는가?")
    assert agreed(made, reading("1975년"), 0.5) is None


def numbered(n: int, answer: str) -> MadeQuestion:
    text = f"거북선 제작 {answer}"
    passage = Passage(f"{n}#0", str(n), "제목", text, 0, len(text))
    return MadeQuestion(
        f"s{n}-0", "거북선 제작 누구?", answer, len(text) - len(answer), "x", passage
    )


def test_every_question_is_counted_once() -> None:
    made = [numbered(n, "이순신") for n in (1, 2, 3)] + [
        replace(numbered(4, "장군"), answer="제작")
    ]
    made[3] = replace(made[3], start=4)  # the last word is read instead
    found = [numbered(2, "이순신").passage, replace(numbered(3, "장보고").passage, doc_id="3")]
    outcomes = Outcomes()
    config = QuestionConfig(depth=5)
    tools = {"reader": LastWordReader(), "retriever": OverlapRetriever(found)}
    assert list(kept_questions(made, config, outcomes, **tools)) == [made[1]]
    assert (outcomes.made, outcomes.read_otherwise, outcomes.not_found) == (4, 1, 2)
    assert (outcomes.kept, outcomes.moved, outcomes.sorts) == (1, 0, {"x": 1})
    # the article is enough, whatever its passage says; the search is cut where it is told to
    article = replace(config, found="article")
    assert list(kept_questions(made, article, Outcomes(), **tools)) == made[1:3]
    first = replace(article, depth=1)
    assert list(kept_questions(made, first, Outcomes(), **tools)) == made[1:2]
    assert list(kept_questions(made, config, Outcomes())) == made


def test_it_ends_with_as_many_as_were_asked_for() -> None:
    made = (numbered(n, "이순신") for n in itertools.count())
    outcomes = Outcomes()
    config = QuestionConfig(questions=300)  # more than one batch
    kept = list(kept_questions(made, config, outcomes, reader=LastWordReader()))
    assert [one.question_id for one in kept] == [f"s{n}-0" for n in range(300)]
    assert (outcomes.made, outcomes.kept) == (300, 300)


def test_what_is_kept_is_read_as_it_is_written() -> None:
    """By the bundled reader: all that is kept is its own answer, or what was made."""
    config = QuestionConfig(questions=12, shortest_passage=150, longest_passage=250)
    reader = create_reader(ReaderConfig())
    outcomes = Outcomes()
    questions = make_questions(itertools.islice(read_documents("sample"), 30), config)
    kept = list(kept_questions(itertools.islice(questions, 24), config, outcomes, reader=reader))
    assert outcomes.made == outcomes.kept + outcomes.read_otherwise
    assert 0 < len(kept) == outcomes.kept <= 12
    for one in kept:
        assert one.passage.text[one.start : one.end] == one.answer
        assert one.answer not in one.question
        candidate = Candidate(one.passage, 1.0, 0, "given")
        ((best,),) = reader.read([one.question], [[candidate]], k=1)
        assert agreed(one, best, config.agreement) == one  # nothing is left to be moved


def test_the_documented_command_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    build, command = documented("training.md", "### Questions that come back")
    monkeypatch.chdir(tmp_path)
    korquad(Path("my-dev.json"), sample_examples(2))
    articles = list(itertools.islice(read_documents("sample"), 12))
    lines = [json.dumps({"id": d.doc_id, "title": d.title, "text": d.text}) for d in articles]
    Path("documents.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert main([*build[1:], "--retriever", "sparse"]) == 0
    few = ["--set", "questions=6", "--set", "longest_passage=250"]
    assert main([*command[1:], *few]) == 0
    assert "questions made" in caplog.text
    assert 0 < len(read_examples(Path("made.json"))) <= 6
    assert main([*command[1:], *few, "--index", "nowhere"]) != 0
