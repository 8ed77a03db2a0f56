"""The project's own questions and their passages (scripts/join_questions.py)."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from script_modules import load_script

from odqa.corpus.datasets import read_examples
from odqa.errors import InputError

SCRIPT = load_script("join_questions")
TEXT = "세종은 조선의 임금이다. 그는 1397년에 태어났다."
TOPICS = {"miracl-ko:4": "세종은 언제 태어났나?"}


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    path = tmp_path / "wiki.jsonl"
    articles = [("7", "세종", TEXT), ("8", "빈", "빈.")]
    lines = [json.dumps({"id": i, "title": t, "text": x}) + "\n" for i, t, x in articles]
    path.write_text("".join(lines))
    return str(path)


def written(**changes: Any) -> dict[str, Any]:
    return {
        "passage": f"7:14-{len(TEXT)}",
        "kind": "ask",
        "question": "세종의 생년은?",
        "answer": "1397년",
        "start": 3,
    } | changes


def test_answers_stand_where_they_should(corpus: str, tmp_path: Path) -> None:
    unanswered = written(kind="none", question="세종은 어디에서 태어났나?")
    del unanswered["answer"], unanswered["start"]
    topic = written(topic="miracl-ko:4")
    del topic["kind"], topic["question"]
    articles = SCRIPT.join([written(), unanswered, topic], corpus, TOPICS)
    path = tmp_path / "joined.json"
    path.write_text(json.dumps({"data": articles}))
    first, second, third = read_examples(path, "train")
    assert first.passage is not None
    assert first.passage.title == "세종"
    assert first.passage.text == TEXT[14:]
    assert (first.question, first.answers, first.answer_starts) == (
        "세종의 생년은?", ("1397년",), (3,),
    )  # fmt: skip
    assert (second.question, second.answers) == ("세종은 어디에서 태어났나?", ())
    assert (third.question, third.answers) == ("세종은 언제 태어났나?", ("1397년",))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start": 4}, "does not hold '1397년' at 4"),
        ({"passage": "9:0-5"}, "lacks 1 of the articles, as 9"),
        ({"topic": "mrtydi-ko:1"}, "'mrtydi-ko:1', which no --topics"),
    ],
)
def test_another_corpus_is_refused(corpus: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        SCRIPT.join([written(**changes)], corpus, TOPICS)


def test_the_questions_are_whole() -> None:
    lines = [json.loads(line) for line in SCRIPT.QUESTIONS.read_text("utf-8").splitlines()]
    kinds = Counter(line.get("kind", "topic") for line in lines)
    assert set(kinds) == {"ask", "para", "close", "none", "topic"}
    keys = [(q["passage"], q.get("question", q.get("topic")), q.get("answer")) for q in lines]
    assert len(set(keys)) == len(keys)
    for line in lines:
        assert ("answer" in line) == ("start" in line)
        if line.get("kind", "topic") != "topic":
            assert ("answer" in line) == (line["kind"] != "none")
            assert line.get("answer", "\n") not in line["question"]
