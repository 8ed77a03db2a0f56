"""The record of a question: gold, prediction, what every stage said, and where it was lost.

Ranks count from 1 here, as in everything that is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from odqa import metrics
from odqa.evaluation import scoring
from odqa.evaluation.judgements import RetrievalSet
from odqa.evaluation.losses import stage_of_loss
from odqa.pipeline import Trace
from odqa.reading.polar import NO, YES
from odqa.text.question_types import is_polar
from odqa.types import Candidate, Example, Reading

N_ANSWERS = 10
"""So many answers, readings or candidates are kept where the whole list would be too long."""

_MARGIN = 60  # characters of the passage shown on each side of an answer
_VERDICTS = dict.fromkeys(("yes", "예", "네"), YES) | dict.fromkeys(
    ("no", "아니요", "아니오", "아뇨"), NO
)


def open_record(
    example: Example,
    trace: Trace,
    first_stage: Sequence[Candidate],
    *,
    may_abstain: bool,
    n_passages: int,
    seconds: float,
) -> dict[str, Any]:
    """The record of the open task; ``first_stage`` is its ranking to the depth looked at."""
    answers = trace.prediction.answers
    best = answers[0].text if answers else ""
    probability = answers[0].probability if answers else 0.0
    none = trace.prediction.no_answer_probability
    prediction = "" if may_abstain and none > probability else best
    texts = [candidate.passage.text for candidate in trace.candidates]
    readings = [_as_gold_says(reading.text, example) for reading in trace.readings]
    ranked = [_as_gold_says(answer.text, example) for answer in answers]
    golds = example.answers
    record = _answer_record(example, prediction, best, probability, none) | {
        "probability": probability,
        "no_answer_probability": none,
        "stage": stage_of_loss(
            golds,
            _as_gold_says(prediction, example),
            _as_gold_says(best, example),
            candidates=texts,
            retrieved=[c.passage.text for c in trace.retrieved[: len(texts)]],
            readings=[*readings, *ranked],
        ),
        "right_answer_rank": _first_right(ranked, golds),
        "right_reading_rank": _first_right(readings, golds),
        "predicted": [_predicted(a.text, a.probability, a.evidence[0]) for a in answers],
        "candidates": [_candidate(candidate, golds) for candidate in trace.candidates],
        "seconds": seconds,
    }
    if golds and best not in (YES, NO):  # no passage holds these as a string
        deep = [candidate.passage.text for candidate in first_stage]
        record["recall"] = scoring.answer_recall(texts, golds, n_passages)
        record["first_stage_recall"] = scoring.answer_recall(deep, golds, scoring.CUTS[-1])
    return record


def reading_record(
    example: Example, readings: Sequence[Reading], *, may_abstain: bool, seconds: float
) -> dict[str, Any]:
    """The record of the reading task; readings best first."""
    best = readings[0].text if readings else ""
    score = readings[0].score if readings else -1e9
    prediction = "" if may_abstain and score <= 0 else best
    texts = [_as_gold_says(reading.text, example) for reading in readings]
    return _answer_record(example, prediction, best, score, -score) | {
        "stage": stage_of_loss(
            example.answers,
            _as_gold_says(prediction, example),
            _as_gold_says(best, example),
            candidates=None,
            retrieved=None,
            readings=texts,
        ),
        "right_reading_rank": _first_right(texts, example.answers),
        "predicted": [_predicted(r.text, None, r) for r in readings[:N_ANSWERS]],
        "seconds": seconds,
    }


def _answer_record(
    example: Example, prediction: str, best: str, confidence: float, no_answer_score: float
) -> dict[str, Any]:
    gold = example.passage.passage_id if example.passage is not None else None
    return {
        "id": example.question_id,
        "question": example.question,
        "answers": list(example.answers),
        "gold_passage_id": gold,
        "question_type": example.metadata.get("question_type"),
        "prediction": prediction,
        "best_answer": best,
        "best_is_right": metrics.korquad_em(_as_gold_says(best, example), example.answers) == 1.0,
        "confidence": confidence,
        "no_answer_score": no_answer_score,
        "scores": scoring.score_answer(_as_gold_says(prediction, example), example.answers),
    }


def _as_gold_says(text: str, example: Example) -> str:
    """``text``, but for the yes or no to a yes/no question the gold answer's word: 예 for "yes".

    To any other question 예 and "yes" are answers as all others: a people, a band.
    """
    verdict = _verdict(text)
    if verdict is None or not is_polar(example.question):
        return text
    return next((gold for gold in example.answers if _verdict(gold) == verdict), text)


def _verdict(text: str) -> str | None:
    return _VERDICTS.get(metrics.normalize_korquad(text))


def retrieval_record(
    question_id: str, judged: RetrievalSet, candidates: Sequence[Candidate], level: str, depth: int
) -> dict[str, Any]:
    """The record of the retrieval task; a question is lost when nothing is in the first ten."""
    relevance = judged.qrels[question_id]
    ranking = [candidate.passage.passage_id for candidate in candidates]
    if level == "article":
        ranking = metrics.collapse_to_articles(ranking)
    scores = scoring.score_ranking(ranking, relevance, depth)
    golds = judged.answers.get(question_id, ())
    if golds:
        texts = [candidate.passage.text for candidate in candidates]
        scores |= scoring.answer_recall(texts, golds, depth)
    cut = max(k for k in scoring.CUTS if k <= min(depth, 10))
    ranks = {item: rank for rank, item in enumerate(ranking, start=1)}
    relevant = [item for item, grade in relevance.items() if grade > 0]
    found = {item: ranks.get(item) for item in relevant}
    return {
        "id": question_id,
        "question": judged.topics[question_id],
        "answers": list(golds),
        "relevant": found,
        "first_relevant_rank": min((rank for rank in found.values() if rank), default=None),
        "stage": None if scores[f"hit@{cut}"] else "retrieval",
        "scores": scores,
        "candidates": [_candidate(candidate, golds) for candidate in candidates[:N_ANSWERS]],
    }


def _candidate(candidate: Candidate, golds: Sequence[str]) -> dict[str, Any]:
    passage = candidate.passage
    return {
        "passage_id": passage.passage_id,
        "title": passage.title,
        "score": float(candidate.score),
        "rank": candidate.rank + 1,
        "source": candidate.source,
        "holds_answer": metrics.holds_answer(passage.text, golds),
    }


def _predicted(text: str, probability: float | None, reading: Reading) -> dict[str, Any]:
    """An answer with its best reading and the words around it."""
    passage, start, end = reading.candidate.passage, reading.start, reading.end
    around = {}
    if start is not None and end is not None:
        around = {
            "before": passage.text[max(0, start - _MARGIN) : start],
            "after": passage.text[end : end + _MARGIN],
        }
    return {
        "text": text,
        "probability": probability,
        "reader_score": float(reading.score),
        "passage_id": passage.passage_id,
        "title": passage.title,
        "start": start,
        "end": end,
        **around,
    }


def _first_right(texts: Sequence[str], golds: Sequence[str]) -> int | None:
    """The rank, from 1, of the first text that KorQuAD's EM calls right."""
    ranked = enumerate(texts, start=1)
    return next((rank for rank, text in ranked if metrics.korquad_em(text, golds)), None)


def trec_lines(question_id: str, candidates: Sequence[Candidate], tag: str) -> Iterator[str]:
    """``qid Q0 PASSAGE_ID RANK SCORE TAG``, ranks from 1."""
    for rank, candidate in enumerate(candidates, start=1):
        yield f"{question_id} Q0 {candidate.passage.passage_id} {rank} {candidate.score:.9g} {tag}"
