"""``odqa evaluate``: a data set's questions asked, scored and recorded."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odqa.cli.options import (
    add_index_options,
    add_json_option,
    add_leg_options,
    configuration,
    positive,
)
from odqa.cli.output import Progress, ResultStream
from odqa.config import Config, CorpusConfig
from odqa.errors import InputError

if TYPE_CHECKING:
    from odqa.evaluation.judgements import RetrievalSet
    from odqa.evaluation.run import Evaluation

NAME = "evaluate"
HELP = "score a data set"

_TASKS = ("open", "reading", "retrieval")
_LEVELS = ("passage", "article")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``odqa evaluate``."""
    parser.add_argument(
        "--dataset",
        default="sample",
        metavar="DATASET",
        help="sample (default); KorQuAD 1.0 or KLUE-MRC .json; .jsonl; or a folder with "
        "SPLIT.json, SPLIT.jsonl, or SPLIT.topics.tsv and SPLIT.qrels.tsv",
    )
    parser.add_argument("--split", default="dev", help="which part of it (default: dev)")
    parser.add_argument(
        "--task",
        choices=_TASKS,
        default="open",
        help="open: retrieve, read and fuse over an index (default); reading: gold passage given; "
        "retrieval: topics and judgements",
    )
    parser.add_argument(
        "--level",
        choices=_LEVELS,
        default="passage",
        help="what retrieval is judged by (default: passage)",
    )
    parser.add_argument(
        "--top-k",
        type=positive,
        default=100,
        metavar="K",
        help="passages a question in the task retrieval (default: 100)",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="write the run's files there")
    parser.add_argument(
        "--compare", type=Path, metavar="DIR", help="test against the run of that folder"
    )
    add_leg_options(parser)
    add_index_options(parser)
    add_json_option(parser)


def run(arguments: argparse.Namespace, stream: ResultStream) -> None:
    """Evaluate.

    Raises:
        UsageError: options or data that make no sense together.
        InputError: a bad data set, or an earlier run that is none.
        OdqaError: the index or a model cannot be used.
    """
    from odqa.evaluation.compare import compare_runs
    from odqa.evaluation.output import all_figures, summary_rows, write_evaluation

    config = configuration(arguments)
    _check_folders(arguments)
    tasks = {"open": _open, "reading": _reading, "retrieval": _retrieval}
    with Progress() as progress:
        evaluation = tasks[arguments.task](arguments, config, progress)
    evaluation = _with_settings(evaluation, arguments, config)
    comparison = None
    try:
        if arguments.compare is not None:
            comparison = compare_runs(evaluation, arguments.compare, seed=config.seed)
    finally:  # a run that cannot be compared is not lost
        if arguments.output is not None:
            write_evaluation(evaluation, arguments.output, comparison=comparison)
    if arguments.json:
        stream.json(all_figures(evaluation, comparison))
    else:
        _show(stream, summary_rows(evaluation, comparison))


def _open(arguments: argparse.Namespace, config: Config, progress: Progress) -> Evaluation:
    from odqa.build import open_pipeline
    from odqa.corpus.datasets import read_examples
    from odqa.evaluation.run import evaluate_open

    index, corpus = _index(arguments)
    examples = read_examples(arguments.dataset, arguments.split, corpus=corpus)
    pipeline = open_pipeline(index, config)
    return evaluate_open(pipeline, examples, seed=config.seed, progress=progress)


def _reading(arguments: argparse.Namespace, config: Config, progress: Progress) -> Evaluation:
    from odqa.build import create_reader
    from odqa.corpus.datasets import read_examples
    from odqa.evaluation.run import evaluate_reading

    examples = read_examples(arguments.dataset, arguments.split, corpus=config.corpus)
    reader = create_reader(config.reader)
    return evaluate_reading(reader, examples, seed=config.seed, progress=progress)


def _retrieval(arguments: argparse.Namespace, config: Config, progress: Progress) -> Evaluation:
    from odqa.build import create_reranker, open_retriever
    from odqa.cli.search import run_tag
    from odqa.evaluation.judgements import read_retrieval_set
    from odqa.evaluation.run import evaluate_retrieval

    index, corpus = _index(arguments)
    judged = read_retrieval_set(arguments.dataset, arguments.split, corpus=corpus)
    counts = _count_relevant(judged, arguments, index)
    retriever = open_retriever(index, config, arguments.retriever)
    reranker = create_reranker(config.rerank, config.dense)
    evaluation = evaluate_retrieval(
        retriever,
        judged,
        level=arguments.level,
        depth=arguments.top_k,
        reranker=reranker,
        rerank_depth=config.rerank.depth,
        tag=run_tag(retriever, reranker),
        seed=config.seed,
        progress=progress,
    )
    return dataclasses.replace(evaluation, metrics=evaluation.metrics | counts)


def _count_relevant(
    judged: RetrievalSet, arguments: argparse.Namespace, index: Path
) -> dict[str, int]:
    """How much is judged relevant, and how much of it the index does not hold, which is said.

    Raises:
        UsageError: as ``RetrievalSet.at_level``.
        InputError: the index holds nothing of it, so that every figure would be 0.
    """
    from odqa.store import PassageStore

    judged = judged.at_level(arguments.level)
    n_relevant = len(judged.relevant())
    absent = judged.absent_from(PassageStore.open(index / "passages"), arguments.level)
    if absent:
        question_id, item = absent[0]
        what = f"{arguments.level}s judged relevant"
        example = f"(such as '{item}' for the question '{question_id}')"
        if len(absent) == n_relevant:
            cut = ", or if that was cut into other passages, judge with --level article"
            otherwise = cut if arguments.level == "passage" else ""
            raise InputError(
                f"the index '{index.name}' holds none of the {n_relevant} {what} {example}; "
                f"give --index the one of the corpus that was judged{otherwise}",
                path=arguments.dataset,
            )
        with contextlib.suppress(OSError):  # nobody reads stderr: the work goes on
            print(
                f"odqa: the index '{index.name}' does not hold {len(absent)} of the {n_relevant} "
                f"{what} {example}; they count as not found",
                file=sys.stderr,
            )
    return {"n_relevant": n_relevant, "n_relevant_not_in_index": len(absent)}


def _index(arguments: argparse.Namespace) -> tuple[Path, CorpusConfig]:
    """The index's folder, and how its articles were cut (gold passages are cut alike)."""
    from odqa.store import find_index, read_manifest

    index = find_index(arguments.index, arguments.indexes_dir)
    built = read_manifest(index).config.get("corpus", {})
    known = {field.name for field in dataclasses.fields(CorpusConfig)}
    return index, CorpusConfig(**{key: value for key, value in built.items() if key in known})


def _check_folders(arguments: argparse.Namespace) -> None:
    """What would spoil the end of a long run, found before it."""
    if arguments.output is not None:
        from odqa.evaluation.output import check_writable

        check_writable(arguments.output)
    if arguments.compare is not None and not (arguments.compare / "metrics.json").is_file():
        raise InputError(
            "is no finished run (no metrics.json in it); give --compare the --output of one",
            path=arguments.compare,
        )


def _with_settings(
    evaluation: Evaluation, arguments: argparse.Namespace, config: Config
) -> Evaluation:
    """The figures with what they are the figures of."""
    index = None if arguments.task == "reading" else _index(arguments)[0].name
    settings: dict[str, Any] = {
        "dataset": arguments.dataset,
        "split": arguments.split,
        "index": arguments.index or index,
        "config": dataclasses.asdict(config),
    }
    return dataclasses.replace(evaluation, metrics=evaluation.metrics | settings)


def _show(stream: ResultStream, rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        stream.line(f"{name:<{width}}  {value}")
