"""Yes/no questions over small passages."""

import math

import pytest
from small_components import LastWordReader

from odqa.config import FusionConfig
from odqa.fusion import LogLinearFusion
from odqa.pipeline import Pipeline
from odqa.reading.polar import NO, YES, PolarAnswerer, best_support, negated, predicate
from odqa.types import Candidate, Passage

TEXTS = {
    "중국어": "중국의 언어이다. 중국어는 성조어이다.",
    "페터 베르크만 사건": "이 사건은 2021년 현재 해결되지 못한 상태이다.",
    "측우기": "장영실이 만들었다.",
}


def candidate(title: str, rank: int = 0) -> Candidate:
    text = TEXTS[title]
    passage = Passage(f"{title}#0", title, title, text, 0, len(text))
    return Candidate(passage, 1.0 - rank / 10, rank, "sparse")


def test_the_best_sentence() -> None:
    support = best_support("중국어는 성조어인가요?", candidate("중국어"))
    assert support is not None
    text = TEXTS["중국어"]
    assert text[support.start : support.end] == "중국어는 성조어이다."
    assert (support.coverage, support.denied, support.value) == (1.0, False, 1.0)


def test_a_denial() -> None:
    support = best_support("페터 베르크만 사건은 해결되었는가?", candidate("페터 베르크만 사건"))
    assert support is not None
    assert support.denied
    assert support.value == -support.coverage < 0


@pytest.mark.parametrize(
    ("question", "head"),
    [
        ("사건은 해결되었는가?", "해결"),
        ("한국은 분단국가인가?", "분단국가"),
        ("사자는 사냥을 하나요?", "사냥"),
        ("고래는 알을 먹나요?", "먹"),
        ("?", ""),
    ],
)
def test_predicate(question: str, head: str) -> None:
    assert predicate(question) == head


@pytest.mark.parametrize(
    ("sentence", "head", "expected"),
    [
        ("사건은 해결되지 않았다.", "해결", True),
        ("그곳은 도시가 아니다.", "도시", True),
        ("고기를 안 먹는다.", "먹", True),
        ("고기를 먹는다.", "먹", False),
        ("해결되었으나 알려지지 않았다고 하는 사람도 많이 있었다.", "사람", False),
        ("없는 말이다.", "다른", False),
    ],
)
def test_negated(sentence: str, head: str, expected: bool) -> None:
    assert negated(sentence, head) is expected


def test_answers() -> None:
    question = "중국어는 성조어인가요?"
    candidates = [candidate("측우기"), candidate("중국어", 1)]
    readings, prediction = PolarAnswerer().answer(question, candidates, k=5)
    first, second = prediction.answers
    assert (first.text, second.text) == (YES, NO)
    assert first.probability == pytest.approx(1 / (1 + math.exp(1.25 - 3.9 * 1.0)))
    assert first.probability + second.probability == pytest.approx(1)
    assert first.score == pytest.approx(math.log(first.probability))
    evidence = first.evidence[0]
    assert evidence.candidate.passage.title == "중국어"
    assert (evidence.start, evidence.end) == (None, None)
    assert evidence.sentence == (10, 21)
    assert readings == [*first.evidence, *second.evidence]
    assert prediction.no_answer_probability == 0.0
    assert len(PolarAnswerer().answer(question, candidates, k=1)[1].answers) == 1


def test_a_denied_statement_is_answered_no() -> None:
    _, prediction = PolarAnswerer().answer(
        "페터 베르크만 사건은 해결되었는가?", [candidate("페터 베르크만 사건")], k=5
    )
    assert prediction.answers[0].text == NO


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("타조는 하늘을 나는가?", "타조는 하늘을 날지 못한다."),
        ("판다는 한국에 사는가?", "판다는 한국에 살지 않는다."),
        ("그는 그 소리를 들었는가?", "그는 그 소리를 듣지 못했다."),
        ("고기를 먹는가?", "고기를 먹지 않는다."),
    ],
)
def test_a_verb_is_known_in_its_other_forms(question: str, sentence: str) -> None:
    passage = Passage("a#0", "a", "제목", sentence, 0, len(sentence))
    support = best_support(question, Candidate(passage, 1.0, 0, "sparse"))
    assert support is not None
    assert support.denied


def test_passages_that_share_no_word_say_nothing() -> None:
    text = "훈민정음은 조선에서 만든 글자이다."
    passage = Passage("a#0", "a", "훈민정음", text, 0, len(text))
    readings, prediction = PolarAnswerer().answer(
        "파리는 프랑스의 수도인가요?", [Candidate(passage, 1.0, 0, "sparse")], k=5
    )
    assert readings == []
    assert prediction.answers == ()
    assert prediction.no_answer_probability == 1.0


def test_no_passage_no_answer() -> None:
    assert PolarAnswerer().answer("해가 뜨나요?", [], k=5)[1].answers == ()


def test_in_the_pipeline_batch_equals_one_by_one() -> None:
    pipeline = Pipeline(
        None,
        LastWordReader(),
        LogLinearFusion(FusionConfig()),
        n_passages=2,
        polar=PolarAnswerer(),
    )
    questions = ["중국어는 성조어인가요?", "누가 만들었나?", "중국어는 언어인가요?"]
    passages = [[candidate(title).passage for title in TEXTS]] * 3
    together = pipeline.answer_passages(questions, passages)
    assert [p.answers[0].text in (YES, NO) for p in together] == [True, False, True]
    alone = [
        pipeline.answer_passages([q], [p])[0] for q, p in zip(questions, passages, strict=True)
    ]
    assert together == alone
