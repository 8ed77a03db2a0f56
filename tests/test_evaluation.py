"""A whole evaluation over a small world in which every stage loses exactly one question."""

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from odqa.config import FusionConfig
from odqa.errors import InputError, UsageError
from odqa.evaluation import scoring
from odqa.evaluation.compare import compare_runs
from odqa.evaluation.judgements import RetrievalSet
from odqa.evaluation.losses import STAGES, differs_by_boundary, differs_by_particle, stage_of_loss
from odqa.evaluation.output import summary_rows, write_evaluation
from odqa.evaluation.records import open_record, reading_record, trec_lines
from odqa.evaluation.report import render_report
from odqa.evaluation.run import (
    Evaluation,
    evaluate_open,
    evaluate_reading,
    evaluate_retrieval,
)
from odqa.evaluation.scoring import ANSWER_METRICS, RANKING_METRICS, score_answer
from odqa.fusion import CLUES, LogLinearFusion
from odqa.pipeline import Pipeline, Trace
from odqa.reading.polar import PolarAnswerer
from odqa.types import Answer, Candidate, Example, Passage, Prediction, Reading

PASSAGES = {
    passage_id: Passage(passage_id, passage_id[0], "제목", text, 0, len(text))
    for passage_id, text in {
        "a#0": "훈민정음은 세종이 만들었다.",
        "a#1": "세종은 조선의 임금이다.",
        "b#0": "그는 미국의 대통령인 링컨이다.",
        "c#0": "거북선은 이순신 장군이 만들었다.",
        "d#0": "측우기는 장영실이 만들었다.",
    }.items()
}

# question id -> (gold answers, what the first stage finds, readings (passage, text, score))
WORLD: dict[str, tuple[list[str], list[str], list[tuple[str, str, float]]]] = {
    "right": (["세종"], ["a#0", "a#1"], [("a#0", "세종", 9.0), ("a#1", "임금", 2.0)]),
    "retrieval": (["이순신"], ["a#0", "a#1"], [("a#0", "세종", 9.0)]),
    "rerank": (["장영실"], ["a#0", "d#0", "b#0"], [("a#0", "세종", 9.0)]),
    "particle": (["대통령"], ["b#0"], [("b#0", "대통령인", 9.0), ("b#0", "링컨", 1.0)]),
    "boundary": (["이순신"], ["c#0"], [("c#0", "이순신 장군", 9.0)]),
    "fusion": (["링컨"], ["b#0"], [("b#0", "미국", 9.0), ("b#0", "링컨", 8.0)]),
    "reader": (["임금"], ["a#1", "a#0"], [("a#1", "조선", 9.0)]),
    "abstention": (["장영실"], ["d#0"], [("d#0", "장영실", -5.0)]),
    "unanswerable": ([], ["a#0"], [("a#0", "세종", 9.0)]),
    "none": ([], ["a#0"], [("a#0", "세종", -5.0)]),
}


class TableRetriever:
    """What the table says a question finds."""

    def retrieve(self, questions: Sequence[str], *, k: int) -> list[list[Candidate]]:
        return [
            [
                Candidate(PASSAGES[passage_id], 10.0 - rank, rank, "sparse")
                for rank, passage_id in enumerate(WORLD[question][1][:k])
            ]
            for question in questions
        ]


class LastFirst:
    """A second stage that turns everything round."""

    def rerank(
        self, questions: Sequence[str], candidates: Sequence[Sequence[Candidate]]
    ) -> list[list[Candidate]]:
        return [
            [
                Candidate(candidate.passage, -float(rank), rank, "rerank")
                for rank, candidate in enumerate(reversed(of_question))
            ]
            for of_question in candidates
        ]


class TableReader:
    """What the table says a question's passages hold, where they are among the candidates."""

    def read(
        self, questions: Sequence[str], candidates: Sequence[Sequence[Candidate]], *, k: int
    ) -> list[list[Reading]]:
        return [
            [
                Reading(candidate, text, score, start, start + len(text))
                for passage_id, text, score in WORLD[question][2]
                for candidate in of_question
                if candidate.passage.passage_id == passage_id
                and (start := candidate.passage.text.index(text)) >= 0
            ][:k]
            for question, of_question in zip(questions, candidates, strict=True)
        ]


def examples(*names: str) -> list[Example]:
    """The questions of the world; the gold passage is the first that holds an answer."""
    found = []
    for name in names or WORLD:
        golds = WORLD[name][0]
        gold = next((p for p in PASSAGES.values() if any(g in p.text for g in golds)), None)
        found.append(Example(name, name, tuple(golds), gold))
    return found


def pipeline(*, n_passages: int = 3, rerank: bool = False) -> Pipeline:
    return Pipeline(
        TableRetriever(),
        TableReader(),
        LogLinearFusion(
            FusionConfig(
                **dict.fromkeys(CLUES, 0.0),
                retrieval_weight=0.0,
                temperature=1.0,
                no_answer_bias=8.0,
            )
        ),
        n_passages=n_passages,
        reranker=LastFirst() if rerank else None,
        rerank_depth=3,
    )


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate_open(pipeline(), examples())


def by_id(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    return {record["id"]: record for record in evaluation.records}


def test_every_stage_loses_its_question(evaluation: Evaluation) -> None:
    stages = {name: record["stage"] for name, record in by_id(evaluation).items()}
    # Without a second stage nothing can be lost there: the passage is read, but not its answer.
    expected = {name: name for name in WORLD} | {"right": None, "none": None, "rerank": "reader"}
    assert stages == expected


def test_losses_and_exact_match_add_up(evaluation: Evaluation) -> None:
    figures = evaluation.metrics
    assert figures["n"] == 10
    assert figures["exact_match"] == pytest.approx(100 * 2 / 10)  # "right" and "none"
    assert figures["lost"]["reader"] == {"n": 2, "exact_match": pytest.approx(100 * 2 / 10)}
    lost = sum(entry["exact_match"] for entry in figures["lost"].values())
    assert figures["exact_match"] + lost == pytest.approx(100)


def test_f1_of_the_world(evaluation: Evaluation) -> None:
    particle = 2 * (3 / 4) * 1 / (3 / 4 + 1)  # 대통령인 / 대통령
    boundary = 2 * (3 / 5) * 1 / (3 / 5 + 1)  # 이순신 장군 / 이순신
    assert evaluation.metrics["f1"] == pytest.approx(100 * (2 + particle + boundary) / 10)
    answerable = evaluation.metrics["answerable"]
    assert answerable["exact_match"] == pytest.approx(100 * 1 / 8)
    assert evaluation.metrics["unanswerable"]["exact_match"] == pytest.approx(100 * 1 / 2)


def test_abstaining_needs_questions_without_answer(evaluation: Evaluation) -> None:
    assert evaluation.predictions["abstention"] == ""
    assert evaluation.predictions["none"] == ""
    answerable = evaluate_open(pipeline(), examples("right", "abstention"))
    assert answerable.predictions == {"right": "세종", "abstention": "장영실"}
    assert answerable.metrics["exact_match"] == 100
    assert answerable.metrics["no_answer"] is None


def test_no_answer_statistics(evaluation: Evaluation) -> None:
    found = evaluation.metrics["no_answer"]
    assert (found["n"], found["n_abstained"]) == (2, 2)
    assert (found["precision"], found["recall"]) == (1 / 2, 1 / 2)
    # "none" is above 7 of the 8 with an answer and ties with "abstention". "unanswerable" (one
    # reading of 9) is above the 3 with a second reading, ties with 4, and is below "abstention".
    assert found["auroc"] == (7 + 1 / 2 + 3 + 4 / 2) / (2 * 8)


@pytest.mark.parametrize(
    ("probability", "none", "prediction"), [(0.5, 0.5, "세종"), (0.49, 0.51, "")]
)
def test_none_is_given_where_it_is_more_probable(
    probability: float, none: float, prediction: str
) -> None:
    candidate = Candidate(PASSAGES["a#0"], 1.0, 0, "sparse")
    reading = Reading(candidate, "세종", 3.0, 6, 8)
    answer = Answer("세종", 3.0, probability, 3.0, 1.0, (reading,))
    trace = Trace("?", (candidate,), (candidate,), (reading,), Prediction("?", (answer,), none))
    asked = Example("q", "?", ("세종",))
    record = open_record(asked, trace, (), may_abstain=True, n_passages=1, seconds=0.0)
    assert (record["prediction"], record["best_answer"]) == (prediction, "세종")
    assert (record["confidence"], record["no_answer_score"]) == (probability, none)
    always = open_record(asked, trace, (), may_abstain=False, n_passages=1, seconds=0.0)
    assert always["prediction"] == "세종"


@pytest.mark.parametrize(("score", "prediction"), [(0.001, "세종"), (0.0, ""), (-3.0, "")])
def test_a_reading_must_beat_no_answer_which_scores_0(score: float, prediction: str) -> None:
    reading = Reading(Candidate(PASSAGES["a#0"], 0.0, 0, "given"), "세종", score, 6, 8)
    asked = Example("q", "?", ("세종",), PASSAGES["a#0"])
    record = reading_record(asked, [reading], may_abstain=True, seconds=0.0)
    assert (record["prediction"], record["best_answer"]) == (prediction, "세종")
    assert (record["confidence"], record["no_answer_score"]) == (score, -score)
    always = reading_record(asked, [reading], may_abstain=False, seconds=0.0)
    assert always["prediction"] == "세종"


def test_no_answer_by_hand() -> None:
    """Three without an answer, three with one; none was given to two of either."""
    told = [
        *(([], "", 0.9), ([], "", 0.2), ([], "x", 0.6)),
        *((["x"], "", 0.8), (["x"], "", 0.3), (["x"], "x", 0.1)),
    ]
    found = scoring.no_answer(
        [{"answers": a, "prediction": p, "no_answer_score": s} for a, p, s in told]
    )
    # 0.9 is above all of 0.8, 0.3 and 0.1; 0.6 above two of them, 0.2 above one
    auroc = (3 + 2 + 1) / (3 * 3)
    assert found == {"n": 3, "auroc": auroc, "n_abstained": 4, "precision": 2 / 4, "recall": 2 / 3}


def test_answer_recall(evaluation: Evaluation) -> None:
    # At 1: right, particle, boundary, fusion, reader, abstention of 8; at 2 rerank's as well.
    assert evaluation.metrics["answer_recall"] == {
        "answer_recall@1": pytest.approx(6 / 8),
        "answer_recall@3": pytest.approx(7 / 8),
    }
    first = evaluation.metrics["first_stage_answer_recall"]
    assert first["answer_recall@100"] == pytest.approx(7 / 8)


def test_a_reranker_can_lose_a_question() -> None:
    found = evaluate_open(pipeline(n_passages=2, rerank=True), examples("rerank", "right"))
    assert by_id(found)["rerank"]["stage"] == "reader"  # still read: d#0 is the middle one
    found = evaluate_open(pipeline(n_passages=1, rerank=True), examples("rerank", "fusion"))
    assert by_id(found)["rerank"]["stage"] == "retrieval"  # nor was it the first stage's first
    found = evaluate_open(pipeline(n_passages=1, rerank=True), examples("reader"))
    assert by_id(found)["reader"]["stage"] == "rerank"  # a#1 was first, then came last


def test_calibration_and_risk(evaluation: Evaluation) -> None:
    figures = evaluation.metrics
    assert sum(b["n"] for b in figures["calibration"]["bins"]) == 10
    assert 0 < figures["calibration"]["brier"] < 1
    # "right" and "abstention" have the right answer first, whether it was given or not.
    assert figures["risk_coverage"]["points"][-1] == [1.0, pytest.approx(8 / 10)]


def test_calibration_by_hand() -> None:
    """A bin holds its upper bound: 0.8 is in (0.7, 0.8], 0.81 is not."""
    probabilities = (0.75, 0.8, 0.81, 1.0)
    records = [
        {"probability": p, "best_is_right": right}
        for p, right in zip(probabilities, (True, False, True, True), strict=True)
    ]
    found = scoring.calibration(records)
    assert found["bins"] == [
        {"low": 0.7, "high": 0.8, "n": 2, "mean_probability": 0.775, "accuracy": 0.5},
        {"low": 0.8, "high": 0.9, "n": 1, "mean_probability": 0.81, "accuracy": 1.0},
        {"low": 0.9, "high": 1.0, "n": 1, "mean_probability": 1.0, "accuracy": 1.0},
    ]
    error = (2 * (0.775 - 0.5) + 1 * (1 - 0.81) + 1 * 0) / 4
    assert found["expected_calibration_error"] == pytest.approx(error)
    assert found["brier"] == pytest.approx((0.25**2 + 0.8**2 + 0.19**2 + 0) / 4)


def test_selective_answering_by_hand() -> None:
    records = [
        {"confidence": c, "best_is_right": right}
        for c, right in ((0.2, False), (0.9, True), (0.5, True), (0.7, False), (0.1, True))
    ]
    found = scoring.selective(records)  # by confidence: right, wrong, right, wrong, right
    risks = (0 / 1, 1 / 2, 1 / 3, 2 / 4, 2 / 5)
    assert found["points"] == [[(i + 1) / 5, pytest.approx(risk)] for i, risk in enumerate(risks)]
    assert found["area"] == pytest.approx(sum(risks) / 5)


@pytest.mark.parametrize(("n", "kept"), [(399, 399), (401, 201), (402, 202)])
def test_a_long_curve_is_thinned_and_keeps_its_end(n: int, kept: int) -> None:
    records = [{"confidence": -i, "best_is_right": i > 0} for i in range(n)]
    points = scoring.selective(records)["points"]
    assert len(points) == kept
    assert points[0] == [1 / n, 1.0]  # the surest is the one wrong answer
    assert points[-1] == [1.0, pytest.approx(1 / n)]


def test_probabilities_of_a_run_are_those_of_its_answers() -> None:
    """right: readings of 9 and 2 against none of 8; reader: one of 9 against 8, so surer."""
    found = evaluate_open(pipeline(), examples("right", "reader")).metrics
    right, wrong = 1 / (1 + math.exp(-7) + math.exp(-1)), 1 / (1 + math.exp(-1))
    assert found["risk_coverage"] == {"area": 0.75, "points": [[0.5, 1.0], [1.0, 0.5]]}
    (only,) = found["calibration"]["bins"]
    assert (only["n"], only["accuracy"]) == (2, 0.5)
    assert only["mean_probability"] == pytest.approx((right + wrong) / 2)
    assert found["calibration"]["brier"] == pytest.approx(((1 - right) ** 2 + wrong**2) / 2)


def test_latency_quantiles() -> None:
    mixed = [((8 * i) % 21) / 10 for i in range(21)]  # 0.0, 0.1, ... 2.0, out of order
    assert scoring.latency(mixed) == {
        "n": 21,
        "p50_seconds": pytest.approx(1.0),
        "p95_seconds": pytest.approx(1.9),
    }
    assert scoring.latency([1.0, 2.0])["p95_seconds"] == pytest.approx(1.95)  # between two


def test_record_holds_every_stage(evaluation: Evaluation) -> None:
    record = by_id(evaluation)["fusion"]
    assert record["answers"] == ["링컨"]
    assert (record["right_reading_rank"], record["right_answer_rank"]) == (2, 2)
    (candidate,) = record["candidates"]
    assert (candidate["passage_id"], candidate["rank"], candidate["holds_answer"]) == (
        "b#0",
        1,
        True,
    )
    first = record["predicted"][0]
    assert (first["text"], first["before"], first["passage_id"]) == ("미국", "그는 ", "b#0")
    assert record["seconds"] > 0


def test_batches_change_nothing() -> None:
    many = [
        Example(f"{name}-{i}", name, tuple(WORLD[name][0])) for i in range(12) for name in WORLD
    ]
    seen: list[tuple[str, int, int | None]] = []
    found = evaluate_open(pipeline(), many, batch_size=7, progress=lambda *said: seen.append(said))
    assert [record["id"] for record in found.records] == [example.question_id for example in many]
    assert found.metrics["exact_match"] == pytest.approx(100 * 2 / 10)
    assert found.metrics["latency"]["n"] == 50
    assert seen[-1] == ("answering", 120, 120)
    assert len(seen) == 51 + -(-(120 - 51) // 7)


def test_reading_task_needs_nothing_but_a_reader() -> None:
    names = ("right", "particle", "fusion", "boundary", "abstention", "unanswerable")
    found = evaluate_reading(TableReader(), examples(*names))
    assert found.metrics["n"] == 5
    assert found.metrics["n_left_out"] == 1  # neither an answer nor a passage
    assert found.metrics["exact_match"] == pytest.approx(100 * 2 / 5)
    stages = {name: record["stage"] for name, record in by_id(found).items()}
    assert stages == {
        "right": None,
        "particle": "particle",
        "fusion": "fusion",
        "boundary": "boundary",
        "abstention": None,  # no question here is without an answer: the best reading is given
    }
    assert found.metrics["questions_per_second"] > 0


def test_reading_task_with_unanswerable_passages() -> None:
    unanswerable = Example("none", "none", (), PASSAGES["a#0"], metadata={"question_type": 3})
    found = evaluate_reading(TableReader(), [*examples("right"), unanswerable])
    assert found.predictions == {"right": "세종", "none": ""}
    assert found.metrics["no_answer"]["auroc"] == 1.0
    assert found.metrics["by_question_type"]["3"]["klue_rouge_w"] == 100


def test_reading_task_without_gold_passages() -> None:
    with pytest.raises(UsageError, match="question 'x' has none"):
        evaluate_reading(TableReader(), [Example("x", "right", ("세종",))])


def test_no_question() -> None:
    with pytest.raises(UsageError, match="no question"):
        evaluate_open(pipeline(), [])
    with pytest.raises(UsageError, match="no question"):
        evaluate_reading(TableReader(), [Example("x", "none", ())])


def judged() -> RetrievalSet:
    return RetrievalSet(
        {"q1": "right", "q2": "rerank", "q3": "retrieval"},
        {"q1": {"a#1": 1}, "q2": {"d#0": 1, "x#0": 1}, "q3": {"c#0": 1}},
    )


def test_retrieval_by_passage() -> None:
    found = evaluate_retrieval(TableRetriever(), judged(), level="passage", tag="t")
    assert found.metrics["mrr@10"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert found.metrics["recall@100"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert found.metrics["hit@10"] == pytest.approx(2 / 3)
    assert found.metrics["hit@1"] == 0.0
    assert found.run[0] == "q1 Q0 a#0 1 10 t"
    assert len(found.run) == 2 + 3 + 2
    assert [record["stage"] for record in found.records] == [None, None, "retrieval"]
    assert found.records[0]["first_relevant_rank"] == 2


def test_a_run_tells_scores_apart_to_nine_digits() -> None:
    """Nine significant digits tell any two 32-bit numbers apart; more would be noise."""
    scores = (12.34567891234, 0.000123456789123, float(2**-24 + 1) * 2**-3, 1.0)
    candidates = [Candidate(PASSAGES["a#0"], s, i, "sparse") for i, s in enumerate(scores)]
    lines = [line.split() for line in trec_lines("q", candidates, "t")]
    assert [line[3] for line in lines] == ["1", "2", "3", "4"]
    assert [line[4] for line in lines] == ["12.3456789", "0.000123456789", "0.125000007", "1"]


def test_retrieval_by_article_and_reranked() -> None:
    found = evaluate_retrieval(TableRetriever(), judged(), level="article")
    assert found.metrics["hit@1"] == pytest.approx(1 / 3)  # a#0 stands for a
    turned = evaluate_retrieval(TableRetriever(), judged(), reranker=LastFirst())
    assert turned.metrics["mrr@10"] == pytest.approx((1 / 1 + 1 / 2 + 0) / 3)


def test_retrieval_answer_recall_where_answers_are_known() -> None:
    both = RetrievalSet({"q": "right"}, {"q": {"c#0": 1}}, {"q": ["임금"]})
    found = evaluate_retrieval(TableRetriever(), both)
    assert (found.metrics["hit@3"], found.metrics["answer_recall@1"]) == (0, 0)
    assert found.metrics["answer_recall@3"] == 1


def test_answer_recall_to_its_depth() -> None:
    """The cuts below the depth, and the depth itself, where fewer texts were found too."""
    texts = ["이순신이 거북선을 만들었다.", "세종대왕은 1446년에 훈민정음을 반포했다."]
    found = scoring.answer_recall(texts, ["세종", "1446"], 4)
    assert found == {"answer_recall@1": 0.0, "answer_recall@3": 1.0, "answer_recall@4": 1.0}
    assert scoring.answer_recall(texts, [], 1) == {"answer_recall@1": 0.0}


def test_score_answer_of_unanswerable_questions() -> None:
    assert set(score_answer("", []).values()) == {0.0, 1.0}
    assert score_answer("", [])["f1"] == 1.0
    assert score_answer("세종", [])["f1"] == 0.0
    assert score_answer("세종", [])["syllable_distance"] == 2.0


@pytest.mark.parametrize(
    ("prediction", "gold", "particle", "boundary"),
    [
        ("대통령인", "대통령", True, True),
        ("대통령", "대통령인", True, True),
        ("학교에서는", "학교", True, True),
        ("대통령제", "대통령", False, True),
        ("세종대왕", "세종", False, True),
        ("제2차 세계 대전", "2차 세계대전", False, True),
        ("1945년", "19", False, False),
        ("이순신", "세종", False, False),
        ("", "세종", False, False),
        ("세종", "세종", False, True),
    ],
)
def test_near_misses(prediction: str, gold: str, particle: bool, boundary: bool) -> None:
    assert differs_by_particle(prediction, gold) is particle
    assert differs_by_boundary(prediction, gold) is boundary


def test_retrieval_comes_before_boundary() -> None:
    """세종 is a part of 세종대왕, but no candidate could have given the whole."""
    stage = stage_of_loss(
        ["세종대왕"], "세종", "세종", candidates=["세종은"], retrieved=["세종은"], readings=["세종"]
    )
    assert stage == "retrieval"


# Files and comparison -------------------------------------------------------------------------


class Links(HTMLParser):
    """Everything in a page that a browser would fetch, and how its elements nest."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_files_of_an_open_run(evaluation: Evaluation, tmp_path: Path) -> None:
    write_evaluation(evaluation, tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"metrics.json", "records.jsonl", "report.html", "predictions.json"}
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert figures["exact_match"] == evaluation.metrics["exact_match"]
    lines = (tmp_path / "run" / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(WORLD)
    predictions = json.loads((tmp_path / "run" / "predictions.json").read_text(encoding="utf-8"))
    assert predictions == evaluation.predictions
    assert len(predictions) == 10


@pytest.mark.parametrize("task", ["open", "reading", "retrieval"])
def test_report_is_one_sound_page(task: str, tmp_path: Path) -> None:
    nasty = Example("<i>", "right", ("<script>alert(1)</script>",), PASSAGES["a#0"])
    found = {
        "open": lambda: evaluate_open(pipeline(), [nasty, *examples()]),
        "reading": lambda: evaluate_reading(TableReader(), [nasty, *examples("particle")]),
        "retrieval": lambda: evaluate_retrieval(TableRetriever(), judged()),
    }[task]()
    write_evaluation(found, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert links.open == []
    assert links.fetched == []
    assert not re.search(r"https?://|<script|@import|url\(", page)
    assert page.count("<svg") == {"open": 4, "reading": 2, "retrieval": 1}[task]
    assert (tmp_path / "run.trec").exists() is (task == "retrieval")


def test_report_escapes_whatever_comes_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nasty(what: str) -> str:
        return f'<script>&"{what}'

    given = ("said", "title", "doc", "before", "behind", "question", "gold", "id", "kind")
    said, title, doc, before, behind, question, gold, question_id, kind = map(nasty, given)
    text = before + said + behind
    passage = Passage(f"{doc}#0", doc, title, text, 0, len(text))
    monkeypatch.setitem(PASSAGES, passage.passage_id, passage)
    row = ([gold], [passage.passage_id], [(passage.passage_id, said, 9.0)])
    monkeypatch.setitem(WORLD, question, row)
    asked = Example(question_id, question, (gold,), passage, metadata={"question_type": kind})
    found = evaluate_open(pipeline(), [asked])
    assert found.predictions == {question_id: said}
    earlier = tmp_path / 'run <script>&"earlier'
    write_evaluation(found, earlier)
    page = render_report(found, compare_runs(found, earlier, seed=1))
    for what in (*given, "earlier"):
        assert f"&lt;script&gt;&amp;&quot;{what}" in page, what
    assert "<script" not in page
    # title and passage stand once with the answer and once among the candidates
    assert page.count(f"{escape(title)} {escape(doc)}#0") == 2


def test_report_of_a_ranking_escapes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    title, doc = '<script>&"title', '<script>&"doc'
    monkeypatch.setitem(PASSAGES, "n", Passage(f"{doc}#0", doc, title, "글", 0, 1))
    monkeypatch.setitem(WORLD, "<script>?", ([], ["n"], []))
    judged = RetrievalSet({"<script>q": "<script>?"}, {"<script>q": {"<script>r#1": 1}})
    page = render_report(evaluate_retrieval(TableRetriever(), judged))
    for what in (f"{title} {doc}#0", "<script>q", "<script>?", "<script>r#1"):
        assert escape(what) in page
    assert "<script" not in page


def test_a_folder_holds_one_run(evaluation: Evaluation, tmp_path: Path) -> None:
    write_evaluation(evaluate_retrieval(TableRetriever(), judged()), tmp_path)
    assert (tmp_path / "run.trec").exists()
    write_evaluation(evaluation, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "metrics.json", "predictions.json", "records.jsonl", "report.html",
    }  # fmt: skip


def test_compare(evaluation: Evaluation, tmp_path: Path) -> None:
    write_evaluation(evaluation, tmp_path)
    better = evaluate_open(pipeline(), examples())
    for record in better.records:
        if record["id"] in ("particle", "boundary", "reader"):
            record["scores"]["exact_match"] = 1.0
        if record["id"] == "right":
            record["scores"]["exact_match"] = 0.0
    found = compare_runs(better, tmp_path, seed=1)
    assert found["exact_match"]["ours"] == pytest.approx(40)
    assert found["exact_match"]["earlier"] == pytest.approx(20)
    assert found["exact_match"]["difference"] == pytest.approx(20)
    assert found["exact_match"]["low"] < 20 < found["exact_match"]["high"]
    assert found["f1"]["difference"] == pytest.approx(0)
    assert found["mcnemar"]["p_value"] == pytest.approx(2 * (1 + 4) / 2**4)
    assert (found["gained"], found["lost"]) == (["particle", "boundary", "reader"], ["right"])
    write_evaluation(better, tmp_path / "new", comparison=found)
    page = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert "Against the earlier run" in page
    figures = json.loads((tmp_path / "new" / "metrics.json").read_text(encoding="utf-8"))
    assert figures["comparison"]["mcnemar"]["only_ours"] == 3
    rows = dict(summary_rows(better, found))
    assert rows["McNemar"].startswith("3 : 1")
    assert rows["questions"] == "10"


def test_comparison_by_hand(tmp_path: Path) -> None:
    """Three of four questions gained, one lost; see the test of the paired bootstrap's p-value.

    A resample's difference is (2 * gains - 4) / 4, its gains binomial (4, 3/4): none has the chance
    1/256, none or one 13/256, so that 2.5 % end at one; all four have 81/256, so 97.5 % end there.
    """
    found = []
    others = {"xor_exact_match": 1.0, "xor_f1": 1.0}
    for right in ((0.0, 0.0, 0.0, 1.0), (1.0, 1.0, 1.0, 0.0)):
        records = [
            {"id": str(i), "scores": {"exact_match": r, "f1": 0.25} | others, "stage": None}
            for i, r in enumerate(right)
        ]
        examples = [Example(str(i), "right", ("세종",), PASSAGES["a#0"]) for i in range(4)]
        run = evaluate_reading(TableReader(), examples)
        found.append(dataclasses.replace(run, records=records))
    write_evaluation(found[0], tmp_path)
    compared = compare_runs(found[1], tmp_path, seed=1)
    p = 2 * (1 + 4 * 3 + 6 * 9) / 4**4
    assert compared["exact_match"] == {
        "ours": 75.0,
        "earlier": 25.0,
        "difference": 50.0,
        "low": -50.0,
        "high": 100.0,
        "p_value": pytest.approx(p, abs=0.03),
    }
    assert compared["f1"]["p_value"] == compared["xor_f1"]["p_value"] == 1.0
    row = dict(summary_rows(found[1], compared))["exact_match against earlier"]
    assert row.startswith("+50.00  [-50.00, +100.00]  p = 0.5")


def test_only_like_can_be_compared(evaluation: Evaluation, tmp_path: Path) -> None:
    write_evaluation(evaluation, tmp_path)
    with pytest.raises(UsageError, match="its task is 'open'"):
        compare_runs(evaluate_reading(TableReader(), examples("right")), tmp_path, seed=1)
    with pytest.raises(UsageError, match="10 questions, this run 1, and 1 are in both"):
        compare_runs(evaluate_open(pipeline(), examples("right")), tmp_path, seed=1)


def test_a_depth_without_the_figure_is_not_compared(tmp_path: Path) -> None:
    deep, shallow = (evaluate_retrieval(TableRetriever(), judged(), depth=k) for k in (10, 5))
    write_evaluation(deep, tmp_path / "deep")
    write_evaluation(shallow, tmp_path / "shallow")
    with pytest.raises(UsageError, match=r"ndcg@10, hit@10 cannot .* this run's depth is 5"):
        compare_runs(shallow, tmp_path / "deep", seed=1)
    with pytest.raises(UsageError, match=r"its depth is 5; give both runs --top-k 10"):
        compare_runs(deep, tmp_path / "shallow", seed=1)


def test_comparing_with_what_is_no_run(evaluation: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.json: no such file"):
        compare_runs(evaluation, tmp_path, seed=1)
    write_evaluation(evaluation, tmp_path)
    (tmp_path / "records.jsonl").write_text('{"id": "right"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"records\.jsonl:1: is no record"):
        compare_runs(evaluation, tmp_path, seed=1)
    (tmp_path / "metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not valid JSON"):
        compare_runs(evaluation, tmp_path, seed=1)


def test_output_place_that_is_a_file(evaluation: Evaluation, tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="is a file; --output"):
        write_evaluation(evaluation, place)


def test_a_wrong_yes_is_no_loss_of_the_retrieval() -> None:
    """The reading was there; and recall leaves out what no passage holds as a string."""
    passage = Passage("p#0", "p", "타조", "타조는 하늘을 날지 못한다.", 0, 15)
    answers = TableRetriever(), TableReader(), LogLinearFusion(FusionConfig())
    asked = Example("y", "타조는 하늘을 나는가?", ("yes",), passage)
    polar = Pipeline(*answers, n_passages=1, polar=PolarAnswerer())
    trace = polar.trace_passages([asked.question], [[passage]], k=5)[0]
    assert [answer.text for answer in trace.prediction.answers] == ["no", "yes"]
    record = open_record(
        asked, trace, trace.candidates, may_abstain=False, n_passages=1, seconds=0.0
    )
    assert record["stage"] == "fusion"
    assert "recall" not in record
    assert "first_stage_recall" not in record


@pytest.mark.parametrize(
    ("golds", "right"),
    [
        (("아니요",), True),
        (("아니오.",), True),
        (("아뇨",), True),
        (("No",), True),
        (("타조", "아니요"), True),
        (("예",), False),
        (("네",), False),
        (("yes",), False),
        (("아니",), False),
    ],
)
def test_a_no_in_the_words_of_the_data_set(golds: tuple[str, ...], right: bool) -> None:
    passage = Passage("p#0", "p", "타조", "타조는 하늘을 날지 못한다.", 0, 15)
    asked = Example("y", "타조는 하늘을 나는가?", golds, passage)
    answers = TableRetriever(), TableReader(), LogLinearFusion(FusionConfig())
    polar = Pipeline(*answers, n_passages=1, polar=PolarAnswerer())
    trace = polar.trace_passages([asked.question], [[passage]], k=5)[0]
    record = open_record(
        asked, trace, trace.candidates, may_abstain=False, n_passages=1, seconds=0.0
    )
    assert (record["prediction"], record["answers"]) == ("no", list(golds))  # as they are
    assert record["best_is_right"] is right
    assert (record["stage"] is None) is right
    assert record["scores"]["exact_match"] == record["scores"]["f1"] == float(right)
    assert record["scores"]["jamo_distance"] == 0 or not right
    # the other of the two answers is the right one, but for 아니, which is no answer
    assert record["right_answer_rank"] == (1 if right else None if golds == ("아니",) else 2)
    assert record["right_reading_rank"] == record["right_answer_rank"]


@pytest.mark.parametrize(
    ("question", "said", "gold", "right"),
    [
        ("식물은 광합성을 하나요?", "예", "yes", True),
        ("식물은 광합성을 하나요?", "네", "예", True),
        ("식물은 광합성을 하나요?", "아니요", "yes", False),
        ("식물은 광합성을 하나요?", "네덜란드", "네", False),
        ("고구려 옆에 살던 겨레는 누구인가?", "네", "예", False),
        ("고구려 옆에 살던 겨레는 누구인가?", "예", "예", True),
    ],
)
def test_yes_is_one_answer_in_yes_no_questions_alone(
    question: str, said: str, gold: str, right: bool
) -> None:
    passage = Passage("p#0", "p", "글", said, 0, len(said))
    reading = Reading(Candidate(passage, 0.0, 0, "given"), said, 1.0, 0, len(said))
    asked = Example("y", question, (gold,), passage)
    record = reading_record(asked, [reading], may_abstain=False, seconds=0.0)
    assert record["scores"]["exact_match"] == float(right)
    assert record["best_is_right"] is right
    assert (record["stage"] is None) is right
    assert record["right_reading_rank"] == (1 if right else None)


def test_what_is_right_was_not_lost_before_it_was_read() -> None:
    """Brackets do not count for the metric, so they must not for the search of the loss."""
    stage = stage_of_loss(
        ["《훈민정음》"],
        "세종",
        "세종",
        candidates=["훈민정음은 세종이 만들었다."],
        retrieved=None,
        readings=["세종", "훈민정음"],
    )
    assert stage == "fusion"


def test_docs_name_every_metric_and_stage() -> None:
    page = (Path(__file__).parent.parent / "docs" / "evaluation.md").read_text(encoding="utf-8")
    for name in (*ANSWER_METRICS, *STAGES, *(f"{name}@k" for name in RANKING_METRICS)):
        assert f"`{name}`" in page
