"""``odqa train``: the options of each kind of training."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from odqa.config import merge, read_yaml, set_values
from odqa.errors import UsageError
from odqa.types import Example

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands ``reader``, ``encoder``, ``questions`` and ``export``."""
    kinds = parser.add_subparsers(title="what to train", metavar="KIND", required=True)
    reader = kinds.add_parser(
        "reader",
        help="fine-tune an extractive reader",
        description="Fine-tune an encoder with span heads on KorQuAD or KLUE-MRC questions.",
    )
    reader.add_argument("--model", required=True, help="encoder: a Hugging Face id or folder")
    reader.add_argument(
        "--train", required=True, action="append", type=Path, metavar="FILE",
        help="KorQuAD 1.0 or KLUE-MRC JSON; may be given several times",
    )  # fmt: skip
    _add_run_options(reader)
    reader.set_defaults(handler=_train_reader)
    encoder = kinds.add_parser(
        "encoder",
        help="train a static encoder",
        description="Train a table of term vectors on text, and on questions with their passages.",
    )
    encoder.add_argument("--corpus", required=True, help="text: any source build-index reads")
    encoder.add_argument(
        "--train", action="append", type=Path, default=[], metavar="FILE",
        help="questions with passages (KorQuAD 1.0, KLUE-MRC), or a folder with "
        "train.topics.tsv and train.qrels.tsv; may be given several times",
    )  # fmt: skip
    encoder.add_argument(
        "--judged-corpus", help="where the judged articles are (default: the --corpus)"
    )
    encoder.add_argument(
        "--initial", help="sentence encoder whose vectors of the terms are the start"
    )
    _add_run_options(encoder)
    encoder.set_defaults(handler=_train_encoder)
    asking = kinds.add_parser(
        "questions",
        help="make questions from text, to train a reader on",
        description="Take phrases out of a corpus's sentences and ask for them.",
    )
    asking.add_argument("corpus", help="text: any source build-index reads")
    asking.add_argument(
        "--without", action="append", default=[], metavar="SET",
        help="questions whose articles are left out, such as a test set; may be given several "
        "times",
    )  # fmt: skip
    asking.add_argument("--output", required=True, type=Path, help="the KorQuAD file to write")
    _add_settings(asking)
    asking.set_defaults(handler=_make_questions)
    exporting = kinds.add_parser(
        "export",
        help="write a trained BERT in the form that runs without torch",
        description="Write graph, weights and tokenizer of a Hugging Face BERT folder.",
    )
    exporting.add_argument("folder", type=Path, help="the trained model")
    exporting.add_argument("--output", required=True, type=Path, help="the folder to write")
    exporting.add_argument(
        "--shared", type=Path, help="an export beside it whose equal tensors are not stored again"
    )
    exporting.add_argument("--debug", action="store_true", help="show the traceback of an error")
    exporting.set_defaults(handler=_export)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, type=Path, help="the run's folder")
    parser.add_argument("--max-minutes", type=float, help="stop in time; the rate decays with it")
    _add_settings(parser)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="YAML file of settings")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="one setting, such as loop.learning_rate=1e-4",
    )  # fmt: skip
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run(arguments: argparse.Namespace) -> None:
    """Train what the command line says; progress goes to the log."""
    logging.getLogger("odqa").setLevel(logging.DEBUG if arguments.debug else logging.INFO)
    arguments.handler(arguments)


def _settings(default: T, arguments: argparse.Namespace, **options: Any) -> T:
    """The defaults, then the file, then --set, then the options of their own."""
    config = default
    if arguments.config is not None:
        config = merge(config, read_yaml(arguments.config), where=str(arguments.config))
    config = set_values(config, arguments.overrides)
    if getattr(arguments, "max_minutes", None) is not None:
        options["loop"] = {"max_minutes": arguments.max_minutes}
    return merge(config, options, where="the command line")


def _train_reader(arguments: argparse.Namespace) -> None:
    from odqa.training.reader import ReaderTrainingConfig, train_reader

    config = _settings(ReaderTrainingConfig(), arguments, model=arguments.model)
    train_reader(_examples(arguments.train), config, arguments.output)


def _examples(paths: Sequence[Path]) -> list[Example]:
    from odqa.corpus.datasets import read_examples

    return [example for path in paths for example in read_examples(path, "train")]


def _train_encoder(arguments: argparse.Namespace) -> None:
    from odqa.build import create_encoder
    from odqa.config import DenseConfig
    from odqa.training.pairs import judged_pairs, reading_pairs
    from odqa.training.static import StaticTrainingConfig, train_static

    config = _settings(StaticTrainingConfig(), arguments)
    pairs: list[tuple[str, str]] = []
    for path in arguments.train:
        if path.is_dir():
            from odqa.evaluation.judgements import read_retrieval_set

            judged = read_retrieval_set(path, "train").at_level("article")
            relevant = {
                topic: {doc_id for doc_id, grade in grades.items() if grade > 0}
                for topic, grades in judged.qrels.items()
            }
            corpus = arguments.judged_corpus or arguments.corpus
            pairs += judged_pairs(
                judged.topics, relevant, corpus, config.tokenizer, config.title_weight
            )
        else:
            pairs += reading_pairs(path, config.title_weight)
    teacher = create_encoder(DenseConfig(encoder=arguments.initial)) if arguments.initial else None
    train_static(arguments.corpus, pairs, config, arguments.output, teacher=teacher)


def _make_questions(arguments: argparse.Namespace) -> None:
    from odqa.corpus import read_documents
    from odqa.corpus.datasets import read_examples
    from odqa.training.synthetic import QuestionConfig, make_questions, write_questions

    config = _settings(QuestionConfig(), arguments)
    titles = {
        example.passage.title
        for name in arguments.without
        for example in read_examples(name)
        if example.passage is not None
    }
    articles = make_questions(read_documents(arguments.corpus), config, without=titles)
    write_questions(articles, arguments.output)


def _export(arguments: argparse.Namespace) -> None:
    from odqa.training.export import export

    if not (arguments.folder / "model.safetensors").is_file():
        raise UsageError(f"{arguments.folder} holds no model.safetensors; give a trained model")
    export(arguments.folder, arguments.output, shared=arguments.shared)
