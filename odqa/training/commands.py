"""What each kind of ``odqa train`` does; what is heavy is imported where it is needed."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from odqa.config import merge, read_yaml, set_values
from odqa.errors import UsageError
from odqa.types import Example, Passage

if TYPE_CHECKING:
    from odqa.training.negatives import Wanted
    from odqa.training.ranking import RankingExample
    from odqa.training.record import DataFile

T = TypeVar("T")
logger = logging.getLogger(__name__)


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
    minutes = getattr(arguments, "max_minutes", None)
    loop = {} if minutes is None else {"max_minutes": minutes}
    chosen = ("overwrite", "resume")
    loop |= {name: value for name in chosen if (value := getattr(arguments, name, None))}
    if loop:
        options["loop"] = loop
    return merge(config, options, where="the command line")


def reader(arguments: argparse.Namespace) -> None:
    """Fine-tune a reader."""
    from odqa.training.ranking import read_ranking_examples
    from odqa.training.reader import train_reader
    from odqa.training.reader_config import ReaderTrainingConfig
    from odqa.training.record import data_file

    _hide_progress_bars()
    config = _settings(ReaderTrainingConfig(), arguments, model=arguments.model)
    examples, files = _examples(arguments.train, "train")
    mined: list[RankingExample] = []
    for path in arguments.negatives:
        found = read_ranking_examples(path)
        mined += found
        files.append(data_file("negatives", path, len(found)))
    dev, dev_files = _examples(arguments.dev, "dev")
    train_reader(
        examples, config, arguments.output, dev=dev, mined=mined, files=[*files, *dev_files]
    )


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


def encoder(arguments: argparse.Namespace) -> None:
    """Fine-tune a sentence encoder (``--model``), or train a static one (``--corpus``)."""
    if (arguments.model is None) == (arguments.corpus is None):
        raise UsageError(
            "give --model to fine-tune a sentence encoder, or --corpus to train a static one"
        )
    if arguments.corpus is not None:
        if arguments.dev:
            raise UsageError("--dev is for --model; odqa evaluate measures a static encoder")
        _static_encoder(arguments)
        return
    if arguments.initial or arguments.judged_corpus:
        raise UsageError("--initial and --judged-corpus are for --corpus, not for --model")
    from odqa.training.encoder import EncoderTrainingConfig, train_encoder

    _hide_progress_bars()
    config = _settings(EncoderTrainingConfig(), arguments, model=arguments.model)
    examples, dev, files = _ranking_examples(arguments)
    train_encoder(examples, config, arguments.output, dev=dev, files=files)


def _ranking_examples(
    arguments: argparse.Namespace,
) -> tuple[list[RankingExample], list[RankingExample], list[DataFile]]:
    """Of --train, of --dev, and the files."""
    from odqa.training.ranking import read_ranking_examples
    from odqa.training.record import data_file

    examples: dict[str, list[RankingExample]] = {"train": [], "dev": []}
    files = []
    for role, paths in (("train", arguments.train), ("dev", arguments.dev)):
        for path in paths:
            found = read_ranking_examples(path)
            examples[role] += found
            files.append(data_file(role, path, len(found)))
    return examples["train"], examples["dev"], files


def _static_encoder(arguments: argparse.Namespace) -> None:
    from odqa.build import create_encoder
    from odqa.config import DenseConfig
    from odqa.training.pairs import judged_pairs, reading_pairs
    from odqa.training.static import StaticTrainingConfig, train_static

    config = _settings(StaticTrainingConfig(), arguments)
    pairs: list[tuple[str, Passage]] = []
    for path in arguments.train:
        if path.is_dir():
            from odqa.evaluation.judgements import read_retrieval_set

            judged = read_retrieval_set(path, "train").at_level("article")
            relevant = {
                topic: {doc_id for doc_id, grade in grades.items() if grade > 0}
                for topic, grades in judged.qrels.items()
            }
            corpus = arguments.judged_corpus or arguments.corpus
            pairs += judged_pairs(judged.topics, relevant, corpus, config.tokenizer)
        else:
            pairs += reading_pairs(path)
    initial = create_encoder(DenseConfig(encoder=arguments.initial)) if arguments.initial else None
    train_static(arguments.corpus, pairs, config, arguments.output, initial=initial)


def questions(arguments: argparse.Namespace) -> None:
    """Make questions from text."""
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
    tests = [example for name in arguments.without for example in read_examples(name)]
    titles = {e.passage.title for e in tests if e.passage is not None and e.passage.title}
    # of a question whose passage has no title, its words are all that names the article
    named = {e.question for e in tests if e.passage is None or not e.passage.title}
    index = find_index(arguments.index, arguments.indexes_dir) if arguments.index else None
    outcomes = Outcomes()
    kept = kept_questions(
        make_questions(
            read_documents(arguments.corpus), config, without=titles, without_named=named
        ),
        config,
        outcomes,
        reader=create_reader(config.reader) if config.reader.model else None,
        retriever=open_retriever(index, Config()) if index else None,
    )
    write_questions(kept, arguments.output)
    logger.info("%s: %s", arguments.output, outcomes)


def tokenizer(arguments: argparse.Namespace) -> None:
    """Learn a vocabulary."""
    from odqa.corpus import read_documents
    from odqa.training.vocabulary import VocabularyConfig, train_tokenizer

    given = {} if arguments.vocabulary is None else {"vocabulary": arguments.vocabulary}
    config = _settings(VocabularyConfig(), arguments, **given)
    train_tokenizer(read_documents(arguments.corpus), config, arguments.output)


def pretrain(arguments: argparse.Namespace) -> None:
    """Masked language modelling."""
    from odqa.training import pretraining

    _hide_progress_bars()
    named = {"model": arguments.model, "tokenizer": arguments.tokenizer}
    given = {name: value for name, value in named.items() if value is not None}
    pretraining.pretrain(
        arguments.corpus,
        _settings(pretraining.PretrainingConfig(), arguments, **given),
        arguments.output,
    )


def export(arguments: argparse.Namespace) -> None:
    """Write a model in the form that runs without torch."""
    from odqa.training import export as exporting

    for name in ("model.safetensors", "config.json"):
        if not (arguments.folder / name).is_file():
            raise UsageError(f"{arguments.folder} holds no {name}; give a trained model")
    shared = arguments.shared
    if shared is not None:
        _check_shared(shared, arguments.output)
    exporting.export(arguments.folder, arguments.output, shared=arguments.shared)


def _check_shared(shared: Path, output: Path) -> None:
    from odqa.models.onnx import WEIGHTS_FILE

    if shared.resolve() == output.resolve():
        raise UsageError(f"--shared {shared} is --output itself; name another export beside it")
    if shared.resolve().parent != output.resolve().parent:
        raise UsageError(
            f"--shared {shared} must lie beside --output {output}: the export looks for it there"
        )
    if not (shared / WEIGHTS_FILE).is_file():
        raise UsageError(f"--shared {shared} holds no {WEIGHTS_FILE}; give an export")


def reranker(arguments: argparse.Namespace) -> None:
    """Fine-tune a cross-encoder."""
    from odqa.training.reranker import RerankerTrainingConfig, train_reranker

    _hide_progress_bars()
    config = _settings(RerankerTrainingConfig(), arguments, model=arguments.model)
    examples, dev, files = _ranking_examples(arguments)
    train_reranker(examples, config, arguments.output, dev=dev, files=files)


def _wanted(path: Path) -> list[Wanted]:
    from odqa.corpus.datasets import has_ending, read_examples
    from odqa.evaluation.judgements import TOPICS, read_retrieval_set
    from odqa.training.negatives import wanted_of, wanted_of_judged

    if has_ending(path, [TOPICS]):
        judged = read_retrieval_set(path, path.name[: -len(TOPICS)])
        return wanted_of_judged(judged.at_level("article"))  # passages may be cut otherwise here
    return wanted_of(read_examples(path, "train"))


def negatives(arguments: argparse.Namespace) -> None:
    """Find passages that do not answer."""
    from odqa.build import open_retriever
    from odqa.config import Config
    from odqa.store import find_index, read_manifest
    from odqa.training.negatives import mine_negatives
    from odqa.training.ranking import write_ranking_examples

    if arguments.depth < 1 or arguments.per_question < 1:
        raise UsageError("--depth and --per-question must be 1 or more")
    if arguments.output.is_dir():
        raise UsageError(f"{arguments.output}: is a folder; --output needs the name of a file")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
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
    write_ranking_examples(found, arguments.output)
    n = sum(len(example.negatives) for example in found)
    logger.info("%d negatives for %d questions in %s", n, len(found), arguments.output)
