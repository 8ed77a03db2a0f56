"""``odqa search``: passages for a question, or a TREC run for a file of questions."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odqa.cli.options import (
    add_index_options,
    add_json_option,
    add_leg_options,
    configuration,
    positive,
)
from odqa.cli.output import Progress, ResultStream, open_output
from odqa.cli.questions import Question, batches, one_question, read_questions
from odqa.config import Config
from odqa.errors import UsageError
from odqa.types import Candidate

if TYPE_CHECKING:
    from odqa.protocols import Reranker
    from odqa.retrieval.ranking import RowRetriever

NAME = "search"
HELP = "find passages for a question"

_BATCH = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``odqa search``."""
    parser.add_argument("question", nargs="*", help="the question")
    parser.add_argument("--questions", type=Path, metavar="FILE", help=".tsv or .jsonl, a batch")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write a TREC run there")
    parser.add_argument(
        "--top-k",
        type=positive,
        metavar="K",
        help="passages a question (default: 100 in a run, 10 on the screen)",
    )
    add_leg_options(parser)
    add_index_options(parser)
    add_json_option(parser)


def run(arguments: argparse.Namespace, stream: ResultStream) -> None:
    """Search.

    Raises:
        UsageError: no question, or options that make no sense together.
        OdqaError: the index or a model cannot be used.
    """
    config = configuration(arguments)
    single = one_question(arguments.question, arguments.questions)
    if single is None and arguments.questions is None:
        raise UsageError("no question: odqa search '질의', or --questions FILE")
    questions = [single] if single else read_questions(arguments.questions)
    as_run = arguments.output is not None or (single is None and not arguments.json)
    if as_run:
        _check_run_ids(questions, arguments.questions)
    from odqa.evaluation.records import trec_lines

    k = arguments.top_k or (100 if single is None or as_run else 10)
    search = open_search(arguments, config)
    started = time.perf_counter()
    results = _results(search, questions, k)
    if arguments.output is not None:
        with open_output(arguments.output) as file:
            for question, candidates in results:
                file.writelines(
                    f"{line}\n" for line in trec_lines(question.question_id, candidates, search.tag)
                )
        if arguments.json:
            stream.json(_summary(arguments.output, questions, time.perf_counter() - started))
    elif arguments.json:
        records = [_record(question, candidates) for question, candidates in results]
        stream.json(records[0] if single else {"results": records})
    elif single:
        from odqa.cli.render import print_passages

        print_passages(stream.console(), next(results)[1])
    else:
        for question, candidates in results:
            for line in trec_lines(question.question_id, candidates, search.tag):
                stream.line(line)


class Search:
    """A first stage and, for the hybrid one, the configured second stage.

    ``tag`` names both in a TREC run.
    """

    def __init__(
        self, retriever: RowRetriever, reranker: Reranker | None, rerank_depth: int
    ) -> None:
        self.tag = run_tag(retriever, reranker)
        self._retriever = retriever
        self._reranker = reranker
        self._rerank_depth = rerank_depth

    def __call__(self, questions: Sequence[str], k: int) -> list[list[Candidate]]:
        """At most ``k`` candidates a question, best first."""
        from odqa.pipeline import prepare_questions, retrieve_and_rerank

        return retrieve_and_rerank(
            self._retriever,
            self._reranker,
            prepare_questions(questions),
            k=k,
            rerank_depth=self._rerank_depth,
        )[1]


def open_search(arguments: argparse.Namespace, config: Config) -> Search:
    """The retriever of the index that the arguments name.

    Raises:
        IndexNotUsableError: there is none, or it cannot be used.
    """
    from odqa.build import create_reranker, open_retriever
    from odqa.store import find_index

    index = find_index(arguments.index, arguments.indexes_dir)
    retriever = open_retriever(index, config, arguments.retriever)
    reranker = create_reranker(config.rerank, config.dense)
    return Search(retriever, reranker, config.rerank.depth)


def candidate_record(candidate: Candidate, rank: int) -> dict[str, Any]:
    """A candidate for JSON; ``rank`` counts from 1 there."""
    passage = candidate.passage
    return {
        "rank": rank,
        "passage_id": passage.passage_id,
        "doc_id": passage.doc_id,
        "title": passage.title,
        "heading": passage.heading,
        "text": passage.text,
        "score": float(candidate.score),
        "source": candidate.source,
    }


def run_tag(retriever: RowRetriever, reranker: Reranker | None) -> str:
    """The last column of a TREC run: the first stage, and whether a second followed."""
    return f"odqa-{retriever.source}" + ("" if reranker is None else "-rerank")


def _results(
    search: Search, questions: Sequence[Question], k: int
) -> Iterator[tuple[Question, list[Candidate]]]:
    with Progress() as progress:
        done = 0
        for batch in batches(questions, _BATCH):
            found = search([question.text for question in batch], k)
            yield from zip(batch, found, strict=True)
            done += len(batch)
            if len(questions) > 1:
                progress("searching", done, len(questions))


def _record(question: Question, candidates: Sequence[Candidate]) -> dict[str, Any]:
    return {
        "id": question.question_id,
        "question": question.text,
        "candidates": [candidate_record(c, rank) for rank, c in enumerate(candidates, start=1)],
    }


def _summary(path: Path, questions: Sequence[Question], seconds: float) -> dict[str, Any]:
    return {"output": str(path), "questions": len(questions), "seconds": round(seconds, 3)}


def _check_run_ids(questions: Sequence[Question], path: Path | None) -> None:
    for question in questions:
        if question.question_id.split() != [question.question_id]:
            raise UsageError(
                f"{path}: the id '{question.question_id}' holds white space, which a TREC run "
                "cannot; use --json for such ids"
            )
