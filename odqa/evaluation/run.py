"""Run a data set through the system: three tasks, a record a question, the figures of the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import odqa
from odqa.errors import UsageError
from odqa.evaluation import scoring
from odqa.evaluation.judgements import RetrievalSet
from odqa.evaluation.records import (
    N_ANSWERS,
    open_record,
    reading_record,
    retrieval_record,
    trec_lines,
)
from odqa.pipeline import Pipeline, Trace, given_candidates, retrieve_and_rerank
from odqa.protocols import Reader, Reranker, Retriever
from odqa.types import Candidate, Example, Reading

Progress = Callable[[str, int, int | None], None]
Result = TypeVar("Result")

N_ALONE = 50
"""So many questions are asked one by one, for their latency; the rest in batches."""

_N_READINGS = 20  # readings asked of a reader on its own


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A run's figures (``metrics.json``) and its records, a question each, in the set's order.

    ``predictions`` is KorQuAD's own form ``{question id: text}``, for "open" and "reading";
    ``run`` the lines of a TREC run, for "retrieval".
    """

    task: str
    metrics: dict[str, Any]
    records: list[dict[str, Any]]
    predictions: dict[str, str] = field(default_factory=dict)
    run: list[str] = field(default_factory=list)


def evaluate_open(
    pipeline: Pipeline,
    examples: Sequence[Example],
    *,
    batch_size: int = 16,
    seed: int = 13,
    progress: Progress | None = None,
) -> Evaluation:
    """The open task: retrieve, read and fuse for every question.

    Where the data set has questions without an answer, none is given (the prediction is "") when
    "no answer" is more probable than the best answer; where it has none, the best answer always
    is. The first stage's answer recall is taken down to rank 100 in a search of its own that is
    not timed.

    Raises:
        UsageError: no question, or the pipeline has no retriever.
    """
    if pipeline.retriever is None:
        raise UsageError("the task 'open' needs an index")
    retriever = pipeline.retriever
    may_abstain = _has_unanswerable(examples)

    def trace(batch: Sequence[Example]) -> list[Trace]:
        return pipeline.trace([example.question for example in batch], k=N_ANSWERS)

    records: list[dict[str, Any]] = []
    clock = _Clock()
    for batch, traces, seconds in _timed(examples, trace, batch_size, clock, "answering", progress):
        deep = retriever.retrieve([trace.question for trace in traces], k=scoring.CUTS[-1])
        for example, one, first_stage in zip(batch, traces, deep, strict=True):
            records.append(
                open_record(
                    example,
                    one,
                    first_stage,
                    may_abstain=may_abstain,
                    n_passages=pipeline.n_passages,
                    seconds=seconds,
                )
            )
    figures = _answer_figures("open", records, clock, seed) | _retrieval_part(records, pipeline)
    figures["calibration"] = scoring.calibration(records)
    return _answers("open", figures, records)


def evaluate_reading(
    reader: Reader,
    examples: Sequence[Example],
    *,
    batch_size: int = 32,
    seed: int = 13,
    progress: Progress | None = None,
) -> Evaluation:
    """The reading task: the reader alone on each question's gold passage.

    The prediction is the best reading. Where some of the questions have no answer in their
    passage, it is "" when the best reading's score is 0 or less ("no answer here" scores 0).
    Questions that have neither an answer nor a passage are left out.

    Raises:
        UsageError: no question, or one with an answer has no gold passage.
    """
    asked = [example for example in examples if example.passage is not None or example.answers]
    for example in asked:
        if example.passage is None:
            raise UsageError(
                f"the task 'reading' needs gold passages, but question '{example.question_id}' "
                "has none; use --task open"
            )
    may_abstain = _has_unanswerable(asked)

    def read(batch: Sequence[Example]) -> list[list[Reading]]:
        given = [given_candidates([e.passage] if e.passage else []) for e in batch]
        return reader.read([example.question for example in batch], given, k=_N_READINGS)

    records: list[dict[str, Any]] = []
    clock = _Clock()
    for batch, readings, seconds in _timed(asked, read, batch_size, clock, "reading", progress):
        for example, found in zip(batch, readings, strict=True):
            records.append(reading_record(example, found, may_abstain=may_abstain, seconds=seconds))
    figures = _answer_figures("reading", records, clock, seed)
    figures["n_left_out"] = len(examples) - len(asked)
    return _answers("reading", figures, records)


def evaluate_retrieval(
    retriever: Retriever,
    judged: RetrievalSet,
    *,
    level: str = "passage",
    depth: int = 100,
    reranker: Reranker | None = None,
    rerank_depth: int = 20,
    tag: str = "odqa",
    batch_size: int = 64,
    seed: int = 13,
    progress: Progress | None = None,
) -> Evaluation:
    """The retrieval task: ``depth`` passages a question against the judgements.

    At the level "article" passages are collapsed to their article, the first of each kept.

    Raises:
        UsageError: unknown level, or it does not fit the judgements.
    """
    judged = judged.at_level(level)

    def search(batch: Sequence[str]) -> list[list[Candidate]]:
        questions = [judged.topics[question_id] for question_id in batch]
        return retrieve_and_rerank(
            retriever, reranker, questions, k=depth, rerank_depth=rerank_depth
        )[1]

    records: list[dict[str, Any]] = []
    run: list[str] = []
    clock = _Clock()
    ids = list(judged.topics)
    for batch, found, seconds in _timed(ids, search, batch_size, clock, "searching", progress):
        for question_id, candidates in zip(batch, found, strict=True):
            record = retrieval_record(question_id, judged, candidates, level, depth)
            records.append(record | {"seconds": seconds})
            run += trec_lines(question_id, candidates, tag)
    figures = _common("retrieval", records, clock, seed) | {
        "level": level,
        "depth": depth,
        "n_unjudged": judged.n_unjudged,
        **scoring.mean_scores(records),
    }
    return Evaluation("retrieval", figures, records, run=run)


# Figures --------------------------------------------------------------------------------------


def _common(
    task: str, records: Sequence[dict[str, Any]], clock: _Clock, seed: int
) -> dict[str, Any]:
    return {
        "task": task,
        "odqa_version": odqa.__version__,
        "n": len(records),
        "confidence_intervals": scoring.intervals(records, task, seed=seed),
        "latency": scoring.latency(clock.alone),
        "first_question_seconds": clock.first,
        "seconds": clock.total,
        "questions_per_second": len(records) / clock.total if clock.total > 0 else 0.0,
    }


def _answer_figures(
    task: str, records: Sequence[dict[str, Any]], clock: _Clock, seed: int
) -> dict[str, Any]:
    figures = _common(task, records, clock, seed) | scoring.mean_scores(records)
    answerable = [record for record in records if record["answers"]]
    unanswerable = [record for record in records if not record["answers"]]
    figures["n_answerable"], figures["n_unanswerable"] = len(answerable), len(unanswerable)
    if unanswerable:
        figures["answerable"] = scoring.mean_scores(answerable)
        figures["unanswerable"] = scoring.mean_scores(unanswerable)
    figures["no_answer"] = scoring.no_answer(records)
    if types := sorted({str(t) for r in records if (t := r["question_type"]) is not None}):
        figures["by_question_type"] = {
            kind: scoring.mean_scores([r for r in records if str(r["question_type"]) == kind])
            for kind in types
        }
    figures["lost"] = scoring.losses(records)
    figures["risk_coverage"] = scoring.selective(records)
    right = [record["right_reading_rank"] is not None for record in answerable]
    figures["right_reading_present"] = scoring.mean(float(value) for value in right)
    return figures


def _retrieval_part(records: Sequence[dict[str, Any]], pipeline: Pipeline) -> dict[str, Any]:
    asked_a_span = [record for record in records if "recall" in record]
    return {
        "n_passages": pipeline.n_passages,
        "answer_recall": scoring.mean_scores(asked_a_span, key="recall"),
        "first_stage_answer_recall": scoring.mean_scores(asked_a_span, key="first_stage_recall"),
    }


def _answers(task: str, figures: dict[str, Any], records: list[dict[str, Any]]) -> Evaluation:
    predictions = {record["id"]: record["prediction"] for record in records}
    return Evaluation(task, figures, records, predictions=predictions)


def _has_unanswerable(examples: Sequence[Example]) -> bool:
    if not examples:
        raise UsageError("the data set holds no question for this task")
    return any(not example.answers for example in examples)


# Time -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Clock:
    """Seconds of the first question (it loads what is lazily loaded), of questions asked alone,
    and of all."""

    first: float = 0.0
    alone: list[float] = field(default_factory=list)
    total: float = 0.0


Item = TypeVar("Item")


def _timed(
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], list[Result]],
    batch_size: int,
    clock: _Clock,
    stage: str,
    progress: Progress | None,
) -> Iterator[tuple[Sequence[Item], list[Result], float]]:
    """(batch, its results, seconds a question): the first ``N_ALONE`` + 1 items one by one."""
    done = 0
    while done < len(items):
        batch = items[done : done + (1 if done <= N_ALONE else batch_size)]
        begin = time.perf_counter()
        results = work(batch)
        seconds = time.perf_counter() - begin
        clock.total += seconds
        if done == 0:
            clock.first = seconds
        if 0 < done <= N_ALONE or len(items) == 1:
            clock.alone.append(seconds)
        done += len(batch)
        yield batch, results, seconds / len(batch)
        if progress is not None:
            progress(stage, done, len(items))
