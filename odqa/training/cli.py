"""``odqa train``: the options of each kind of training."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from odqa.config import merge, read_yaml, set_values
from odqa.errors import UsageError
from odqa.types import Example

if TYPE_CHECKING:
    from odqa.training.negatives import Wanted
    from odqa.training.record import DataFile

T = TypeVar("T")
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands, one for each kind of training and what goes with it."""
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
    reader.add_argument(
        "--dev", action="append", type=Path, default=[], metavar="FILE",
        help="questions to evaluate on while training; the best model is kept",
    )  # fmt: skip
    _add_run_options(reader, "runs/reader")
    reader.set_defaults(handler=_train_reader)
    _add_reranker(kinds)
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
    _add_run_options(encoder, "runs/encoder")
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
    asking.add_argument(
        "--reader", metavar="NAME",
        help="keep what this reader answers as made: reader-ko, a Hugging Face id or a folder",
    )  # fmt: skip
    asking.add_argument(
        "--index", help="keep what finds its passage in this index of the corpus: a name or folder"
    )
    asking.add_argument("--indexes-dir", type=Path, default=Path("indexes"), metavar="DIR")
    _add_settings(asking)
    asking.set_defaults(handler=_make_questions)
    vocabulary = kinds.add_parser(
        "tokenizer",
        help="learn a vocabulary of pieces from text",
        description="Learn sub-word pieces from a corpus and write a Hugging Face tokenizer.",
    )
    vocabulary.add_argument("--corpus", required=True, help="text: any source build-index reads")
    vocabulary.add_argument("--vocabulary", type=int, metavar="N", help="pieces (default: 32000)")
    vocabulary.add_argument(
        "--output", default=Path("runs/tokenizer"), type=Path,
        help="the folder to write (default: runs/tokenizer)",
    )  # fmt: skip
    _add_settings(vocabulary)
    vocabulary.set_defaults(handler=_train_tokenizer)
    pretraining = kinds.add_parser(
        "pretrain",
        help="teach an encoder a language from text",
        description="Masked language modelling: a new encoder, or one to go on from, guesses "
        "morphemes that are hidden from it.",
    )
    pretraining.add_argument("--corpus", required=True, help="text: any source build-index reads")
    pretraining.add_argument(
        "--model", help="a Hugging Face id or folder to go on from (default: a new model)"
    )
    pretraining.add_argument(
        "--tokenizer", help="id or folder of the vocabulary (default: the model's own)"
    )
    _add_run_options(pretraining, "runs/pretrain")
    pretraining.set_defaults(handler=_pretrain)
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


def _add_reranker(kinds: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    reranker = kinds.add_parser(
        "reranker",
        help="fine-tune a cross-encoder, a second stage",
        description="Fine-tune a cross-encoder on questions with passages that do and do not "
        "answer them.",
    )
    reranker.add_argument("--model", required=True, help="a Hugging Face id or folder")
    for name, needed, purpose in (("--train", True, ""), ("--dev", False, ", to evaluate on")):
        reranker.add_argument(
            name, required=needed, action="append", type=Path, default=None if needed else [],
            metavar="FILE", help="JSONL of question, positives and negatives" + purpose,
        )  # fmt: skip
    _add_run_options(reranker, "runs/reranker")
    reranker.set_defaults(handler=_train_reranker)
    negatives = kinds.add_parser(
        "negatives",
        help="find passages that do not answer, for train reranker",
        description="Search an index for each question and write the best passages that do not "
        "answer it.",
    )
    negatives.add_argument(
        "--train", required=True, action="append", type=Path, metavar="FILE",
        help="questions with passages (KorQuAD 1.0, KLUE-MRC, .jsonl), or NAME.topics.tsv with "
        "NAME.qrels.tsv beside it; may be given several times",
    )  # fmt: skip
    negatives.add_argument("--output", required=True, type=Path, metavar="FILE.jsonl")
    negatives.add_argument("--index", help="a name under --indexes-dir or an index folder")
    negatives.add_argument("--indexes-dir", type=Path, default=Path("indexes"), metavar="DIR")
    negatives.add_argument(
        "--depth", type=int, default=50, help="candidates of each leg looked at (default: 50)"
    )
    negatives.add_argument(
        "--per-question", type=int, default=8, help="negatives a question (default: 8)"
    )
    negatives.add_argument("--debug", action="store_true", help="show the traceback of an error")
    negatives.set_defaults(handler=_mine_negatives)


def _add_run_options(parser: argparse.ArgumentParser, output: str) -> None:
    parser.add_argument(
        "--output", default=Path(output), type=Path, help=f"the run's folder (default: {output})"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="begin anew where the folder holds a run"
    )
    parser.add_argument(
        "--resume", metavar="CHECKPOINT", help="go on from this one, not from the newest"
    )
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
    main = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
    level = logging.DEBUG if arguments.debug else logging.INFO if main else logging.ERROR
    logging.getLogger("odqa").setLevel(level)
    arguments.handler(arguments)


def _hide_progress_bars() -> None:
    """Those of transformers, which draw one for every file it reads or writes."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _settings(default: T, arguments: argparse.Namespace, **options: Any) -> T:
    """The defaults, then the file, then --set, then the options of their own."""
    config = default
    if arguments.config is not None:
        config = merge(config, read_yaml(arguments.config), where=str(arguments.config))
    config = set_values(config, arguments.overrides)
    chosen = ("max_minutes", "overwrite", "resume")
    loop = {name: value for name in chosen if (value := getattr(arguments, name, None))}
    if loop:
        options["loop"] = loop
    return merge(config, options, where="the command line")


def _train_reader(arguments: argparse.Namespace) -> None:
    from odqa.training.reader import ReaderTrainingConfig, train_reader

    _hide_progress_bars()
    config = _settings(ReaderTrainingConfig(), arguments, model=arguments.model)
    examples, files = _examples(arguments.train, "train")
    dev, dev_files = _examples(arguments.dev, "dev")
    train_reader(examples, config, arguments.output, dev=dev, files=[*files, *dev_files])


def _examples(paths: Sequence[Path], split: str) -> tuple[list[Example], list[DataFile]]:
    from odqa.corpus.datasets import SAMPLE, file_of, read_examples
    from odqa.training.record import data_file

    examples: list[Example] = []
    files: list[DataFile] = []
    for path in paths:
        found = read_examples(path, split)
        examples += found
        sample = str(path) == SAMPLE
        file = path if sample else file_of(path, split, (".json", ".jsonl"))
        files.append(data_file(split, file, len(found)))
    return examples, files


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
    from odqa.build import create_reader, open_retriever
    from odqa.config import Config
    from odqa.corpus import read_documents
    from odqa.corpus.datasets import read_examples
    from odqa.store import find_index
    from odqa.training.questions import QuestionConfig, make_questions, write_questions
    from odqa.training.roundtrip import Outcomes, kept_questions

    reader = {"reader": {"model": arguments.reader}} if arguments.reader else {}
    config = _settings(QuestionConfig(), arguments, **reader)
    config.check()
    titles = {
        example.passage.title
        for name in arguments.without
        for example in read_examples(name)
        if example.passage is not None
    }
    index = find_index(arguments.index, arguments.indexes_dir) if arguments.index else None
    outcomes = Outcomes()
    kept = kept_questions(
        make_questions(read_documents(arguments.corpus), config, without=titles),
        config,
        outcomes,
        reader=create_reader(config.reader) if config.reader.model else None,
        retriever=open_retriever(index, Config()) if index else None,
    )
    write_questions(kept, arguments.output)
    logger.info("%s: %s", arguments.output, outcomes)


def _train_tokenizer(arguments: argparse.Namespace) -> None:
    from odqa.corpus import read_documents
    from odqa.training.vocabulary import VocabularyConfig, train_tokenizer

    given = {} if arguments.vocabulary is None else {"vocabulary": arguments.vocabulary}
    config = _settings(VocabularyConfig(), arguments, **given)
    train_tokenizer(read_documents(arguments.corpus), config, arguments.output)


def _pretrain(arguments: argparse.Namespace) -> None:
    from odqa.training.pretraining import PretrainingConfig, pretrain

    _hide_progress_bars()
    named = {"model": arguments.model, "tokenizer": arguments.tokenizer}
    given = {name: value for name, value in named.items() if value is not None}
    pretrain(arguments.corpus, _settings(PretrainingConfig(), arguments, **given), arguments.output)


def _export(arguments: argparse.Namespace) -> None:
    from odqa.training.export import export

    if not (arguments.folder / "model.safetensors").is_file():
        raise UsageError(f"{arguments.folder} holds no model.safetensors; give a trained model")
    export(arguments.folder, arguments.output, shared=arguments.shared)


def _train_reranker(arguments: argparse.Namespace) -> None:
    from odqa.training.record import data_file
    from odqa.training.reranker import (
        RankingExample,
        RerankerTrainingConfig,
        read_ranking_examples,
        train_reranker,
    )

    _hide_progress_bars()
    config = _settings(RerankerTrainingConfig(), arguments, model=arguments.model)
    examples: dict[str, list[RankingExample]] = {"train": [], "dev": []}
    files = []
    for role, paths in (("train", arguments.train), ("dev", arguments.dev)):
        for path in paths:
            found = read_ranking_examples(path)
            examples[role] += found
            files.append(data_file(role, path, len(found)))
    train_reranker(examples["train"], config, arguments.output, dev=examples["dev"], files=files)


def _wanted(path: Path) -> list[Wanted]:
    from odqa.corpus.datasets import read_examples
    from odqa.evaluation.judgements import TOPICS, read_retrieval_set
    from odqa.training.negatives import wanted_of, wanted_of_judged

    if path.name.endswith(TOPICS):
        judged = read_retrieval_set(path, path.name.removesuffix(TOPICS))
        return wanted_of_judged(judged.at_level("article"))  # passages may be cut otherwise here
    return wanted_of(read_examples(path, "train"))


def _mine_negatives(arguments: argparse.Namespace) -> None:
    from odqa.build import open_retriever
    from odqa.config import Config
    from odqa.store import find_index, read_manifest
    from odqa.training.negatives import mine_negatives
    from odqa.training.reranker import write_ranking_examples

    if arguments.depth < 1 or arguments.per_question < 1:
        raise UsageError("--depth and --per-question must be 1 or more")
    wanted = [one for path in arguments.train for one in _wanted(path)]
    if not wanted:
        raise UsageError("no question has both an answer and a passage")
    index = find_index(arguments.index, arguments.indexes_dir)
    legs = [open_retriever(index, Config(), leg) for leg in read_manifest(index).legs]
    found = mine_negatives(
        wanted,
        legs,
        per_question=arguments.per_question,
        depth=arguments.depth,
        progress=lambda done, of: logger.info("%d of %d questions", done, of),
    )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_ranking_examples(found, arguments.output)
    n = sum(len(example.negatives) for example in found)
    logger.info("%d negatives for %d questions in %s", n, len(found), arguments.output)
