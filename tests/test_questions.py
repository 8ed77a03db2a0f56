"""Questions made from text: hand-worked ones, and what must hold of all."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from odqa.cli.main import main
from odqa.config import set_values
from odqa.corpus import read_documents
from odqa.corpus.datasets import read_examples
from odqa.errors import ConfigError
from odqa.training.answers import Answer, find_answers, units_of
from odqa.training.asking import ask
from odqa.training.forms import asking_form, fitting, modifying_form
from odqa.training.questions import (
    MadeQuestion,
    QuestionConfig,
    bare_title,
    make_questions,
    write_questions,
)

pytest.importorskip("kiwipiepy")

FAITHFUL = QuestionConfig(
    drop_phrase=0.0, drop_clause=0.0, replace_noun=0.0, shuffle=0.0, keywords=0.0
)
CLEFT, IN_PLACE = 1.0, 0.0


def asked(sentence: str, answer: str, *, cleft: float, title: str = "김철수") -> set[str]:
    """Every question that some seed makes with ``answer`` asked for."""
    units = units_of(sentence)
    (chosen,) = [a for a in find_answers(sentence, units) if sentence[a.start : a.end] == answer]
    config = replace(FAITHFUL, cleft=cleft)
    made = {
        ask(sentence, units, chosen, title, config, np.random.default_rng(seed))
        for seed in range(60)
    }
    return {question for question in made if question}


def answers_of(sentence: str) -> list[tuple[str, str]]:
    found = find_answers(sentence, units_of(sentence))
    return [(sentence[a.start : a.end], a.sort) for a in sorted(found, key=lambda a: a.start)]


def test_answers_by_hand() -> None:
    sentence = "그는 1975년 3월에 서울대학교를 졸업하고 소설 《광장》을 1,200부 찍었다."
    assert answers_of(sentence) == [
        ("1975년 3월", "date"),
        ("서울대학교", "thing"),
        ("광장", "title"),
        ("1,200부", "number"),
    ]
    assert ("1980년", "year") in answers_of("1980년에 죽었다.")
    # what stands in brackets is left out of the question, so it is not asked for
    assert all(text != "1980년" for text, _ in answers_of("홍길동(1980년)이 서울에서 태어났다."))


def test_a_predicate_modifies_what_is_asked_for() -> None:
    made = asked("그는 서울대학교를 졸업하였다.", "서울대학교", cleft=CLEFT)
    assert "김철수가 졸업한 학교는?" in made or "김철수가 졸업한 대학교는?" in made
    made = asked("서울에서 1946년에 태어났다.", "1946년", cleft=CLEFT)
    assert {"김철수가 서울에서 태어난 해는?", "김철수가 서울에서 태어난 것은 몇 년인가?"} <= made


def test_an_interrogative_takes_the_answers_place() -> None:
    made = asked("그는 1946년에 서울에서 태어났다.", "1946년", cleft=IN_PLACE)
    assert "김철수는 몇 년에 서울에서 태어났는가?" in made
    assert "김철수는 언제에 서울에서 태어났나요?" not in made
    assert "김철수는 언제 서울에서 태어났나요?" in made


def test_clauses_after_the_answers_are_left_out() -> None:
    made = asked("그는 1975년에 졸업하고 부산에서 교사로 일했다.", "1975년", cleft=CLEFT)
    assert made
    assert all("부산" not in question for question in made)


def made(n: int, config: QuestionConfig, **options: Any) -> list[MadeQuestion]:
    return list(itertools.islice(make_questions(read_documents("sample"), config, **options), n))


def test_made_questions_can_be_answered() -> None:
    config = QuestionConfig(shortest_passage=150, longest_passage=400)
    questions = made(60, config)
    assert len({question.question_id for question in questions}) == len(questions) == 60
    for question in questions:
        assert question.passage.text[question.start : question.end] == question.answer
        assert question.answer not in question.question
    of_passage = Counter(question.passage.passage_id for question in questions)
    of_article = Counter(question.passage.doc_id for question in questions)
    assert max(of_passage.values()) <= config.per_passage
    assert max(of_article.values()) <= config.per_article + config.per_passage - 1
    assert questions == made(60, config)
    assert questions != made(60, replace(config, seed=14))


def test_forms_by_hand() -> None:
    assert asking_form("졸업\t하", "VV", True, "나요") == "졸업했나요"
    assert modifying_form("졸업\t하", "VV", True) == "졸업한"
    assert fitting("은", "수도") == "는"
    assert fitting("로", "서울") == "로"  # after ㄹ too
    assert fitting("로", "부산") == "으로"


def test_articles_left_out_give_none() -> None:
    config = QuestionConfig(shortest_passage=150, longest_passage=400)
    first = made(1, config)[0].passage.title
    spelt = f" {first.replace(' ', '_')}"
    assert bare_title(spelt) == bare_title(first)
    assert first not in {question.passage.title for question in made(30, config, without=[spelt])}


def test_a_number_is_asked_with_its_unit() -> None:
    sentence = "이 섬에는 1,200명이 살고 있다."
    (answer,) = find_answers(sentence, units_of(sentence))
    assert answer == Answer(6, 12, "number", "명")
    assert any("몇 명이 살고 있" in q for q in asked(sentence, "1,200명", cleft=IN_PLACE))


def test_the_command_writes_a_set_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    command = ["train", "questions", "sample", "--output", str(path), "--set", "questions=20"]
    assert main([*command, "--without", "sample"]) == 0
    written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    examples = read_examples(path)
    assert len(examples) == 20
    assert len(examples) == sum(
        len(p["qas"]) for article in written["data"] for p in article["paragraphs"]
    )
    tested = {e.passage.title for e in read_examples("sample") if e.passage is not None}
    assert not tested & {article["title"] for article in written["data"]}
    assert main(["train", "questions", str(tmp_path / "no.jsonl"), "--output", str(path)]) == 2


def test_leads_and_the_rest_stand_in_their_own_contexts(tmp_path: Path) -> None:
    """Both have a passage #0 of their article, cut otherwise."""
    path = tmp_path / "made.json"
    write_questions(make_questions(read_documents("sample"), QuestionConfig(leads=2)), path)
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for record in paragraph["qas"]:
                (answer,) = record["answers"]
                assert paragraph["context"].startswith(answer["text"], answer["answer_start"])


def test_articles_of_a_set_without_titles_are_left_out_by_its_questions(tmp_path: Path) -> None:
    held = tmp_path / "held.jsonl"
    record = {
        "id": "1",
        "question": "거북선은 누가 만들었나?",
        "answers": ["세종"],
        "context": "세종.",
    }
    held.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    path = tmp_path / "made.json"
    command = ["train", "questions", "sample", "--output", str(path)]
    assert main(command) == 0
    assert '"title": "거북선"' in path.read_text(encoding="utf-8")
    assert main([*command, "--without", str(held)]) == 0
    assert '"title": "거북선"' not in path.read_text(encoding="utf-8")


def test_what_is_half_written_has_no_name(tmp_path: Path) -> None:
    def dying() -> Iterator[MadeQuestion]:
        yield from made(3, QuestionConfig())
        raise KeyboardInterrupt

    path = tmp_path / "made.json"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt):
        write_questions(dying(), path)
    assert path.read_text() == "before"


@pytest.mark.parametrize(
    "setting",
    [
        "agreement=0.0", "questions=0", "depth=0", "found=book", "per_article=0", "seed=-1",
        "shortest_passage=0", "longest_passage=100", "cleft=1.5",
    ],
)  # fmt: skip
def test_bounds_that_mean_nothing_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=setting.split("=")[0]):
        set_values(QuestionConfig(), [setting]).check()


def test_nothing_is_written_of_nothing(tmp_path: Path) -> None:
    assert write_questions([], tmp_path / "none.json") == 0
    assert json.loads((tmp_path / "none.json").read_text())["data"] == []
