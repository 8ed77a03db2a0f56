"""The pipeline over small real components: they rank by shared words and read the last one."""

import unicodedata

import pytest
from small_components import PASSAGES, LastWordReader, OverlapRetriever, ShortestFirst

from odqa.config import FusionConfig
from odqa.errors import UsageError
from odqa.fusion import CLUES, LogLinearFusion
from odqa.pipeline import Pipeline, given_candidates
from odqa.protocols import Fusion, Reader, Reranker, Retriever

WITHOUT_CLUES = dict.fromkeys(CLUES, 0.0)
PLAIN = FusionConfig(**WITHOUT_CLUES, retrieval_weight=1.0, no_answer_bias=0.0)


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(
        OverlapRetriever(PASSAGES),
        LastWordReader(),
        LogLinearFusion(PLAIN),
        n_passages=3,
    )


def test_the_components_are_what_the_protocols_ask() -> None:
    assert isinstance(OverlapRetriever(PASSAGES), Retriever)
    assert isinstance(LastWordReader(), Reader)
    assert isinstance(ShortestFirst(), Reranker)
    assert isinstance(LogLinearFusion(PLAIN), Fusion)


def test_answer(pipeline: Pipeline) -> None:
    (prediction,) = pipeline.answer(["훈민정음 창제 누구"])
    assert prediction.question == "훈민정음 창제 누구"
    assert [answer.text for answer in prediction.answers] == ["세종대왕", "안동"]
    evidence = prediction.answers[0].evidence[0]
    assert evidence.candidate.passage.text[evidence.start : evidence.end] == "세종대왕"


def test_batch_equals_one_by_one(pipeline: Pipeline) -> None:
    questions = ["훈민정음 창제", "제작", "없는말", "측우기 제작"]
    assert pipeline.answer(questions) == [pipeline.answer([q])[0] for q in questions]
    assert pipeline.retrieve(questions, 2) == [pipeline.retrieve([q], 2)[0] for q in questions]


def test_nothing_found_is_no_answer(pipeline: Pipeline) -> None:
    (prediction,) = pipeline.answer(["없는말"])
    assert prediction.answers == ()
    assert prediction.no_answer_probability == 1.0


def test_no_questions(pipeline: Pipeline) -> None:
    assert pipeline.answer([]) == []
    assert pipeline.retrieve([], 5) == []
    assert pipeline.answer_passages([], []) == []


def test_nfd_question_gives_the_same(pipeline: Pipeline) -> None:
    question = "훈민정음 창제"
    decomposed = unicodedata.normalize("NFD", question)
    assert decomposed != question
    assert pipeline.answer([decomposed]) == pipeline.answer([question])


@pytest.mark.parametrize("question", ["", "  \n\t", "\0"])
def test_empty_question(pipeline: Pipeline, question: str) -> None:
    for ask in (pipeline.answer, lambda q: pipeline.retrieve(q, 5)):
        with pytest.raises(UsageError, match="empty"):
            ask([question])


def test_undecodable_question(pipeline: Pipeline) -> None:
    question = b"\xff\xfe question".decode("utf-8", "surrogateescape")
    with pytest.raises(UsageError, match="UTF-8"):
        pipeline.answer([question])


def test_a_question_of_10000_characters(pipeline: Pipeline) -> None:
    (prediction,) = pipeline.answer([("훈민정음 " * 2000)[:10_000]])
    assert prediction.answers


def test_at_most_k(pipeline: Pipeline) -> None:
    assert len(pipeline.answer(["훈민정음 제작"], k=1)[0].answers) == 1
    assert len(pipeline.retrieve(["훈민정음 제작"], 3)[0]) == 3
    for number in (0, -1):
        with pytest.raises(UsageError, match="at least 1"):
            pipeline.answer(["훈민정음"], k=number)
        with pytest.raises(UsageError, match="at least 1"):
            pipeline.retrieve(["훈민정음"], number)


def test_reranker_sees_its_depth_and_the_reader_the_cut() -> None:
    pipeline = Pipeline(
        OverlapRetriever(PASSAGES),
        LastWordReader(),
        LogLinearFusion(PLAIN),
        n_passages=1,
        reranker=ShortestFirst(),
        rerank_depth=4,
    )
    (trace,) = pipeline.trace(["제작 훈민정음"])
    assert [c.passage.passage_id for c in trace.retrieved] == ["1#0", "2#0", "3#0", "4#0"]
    assert [c.passage.passage_id for c in trace.candidates] == ["2#0"]  # the shortest
    assert trace.candidates[0].source == "rerank"
    assert [a.text for a in trace.prediction.answers] == ["이순신"]
    assert pipeline.retrieve(["제작 훈민정음"], 1)[0] == list(trace.candidates)


def test_trace_holds_every_stage(pipeline: Pipeline) -> None:
    (trace,) = pipeline.trace(["훈민정음 창제"])
    assert trace.retrieved == trace.candidates
    assert [r.text for r in trace.readings] == ["세종대왕", "안동"]
    assert trace.prediction == pipeline.answer(["훈민정음 창제"])[0]


def test_given_passages_are_all_read(pipeline: Pipeline) -> None:
    without_index = Pipeline(None, pipeline.reader, pipeline.fusion, n_passages=1)
    (prediction,) = without_index.answer_passages(["훈민정음 창제"], [PASSAGES])
    assert prediction.answers[0].text == "세종대왕"
    assert len(prediction.answers) == len(PASSAGES)
    assert [c.source for c in given_candidates(PASSAGES)] == ["given"] * 4
    assert without_index.answer_passages(["훈민정음"], [[]])[0].answers == ()


def test_given_passages_one_list_a_question(pipeline: Pipeline) -> None:
    with pytest.raises(UsageError, match="2 questions but passages for 1"):
        pipeline.answer_passages(["훈민정음", "제작"], [PASSAGES])


def test_without_an_index_only_given_passages(pipeline: Pipeline) -> None:
    without_index = Pipeline(None, pipeline.reader, pipeline.fusion, n_passages=1)
    with pytest.raises(UsageError, match="no index"):
        without_index.answer(["훈민정음"])


def test_numbers_below_one_are_refused(pipeline: Pipeline) -> None:
    for name in ("n_passages", "rerank_depth", "n_readings"):
        numbers = {"n_passages": 1, "rerank_depth": 1, "n_readings": 1, name: 0}
        with pytest.raises(UsageError, match="at least 1"):
            Pipeline(None, pipeline.reader, pipeline.fusion, **numbers)
