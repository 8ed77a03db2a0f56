"""``odqa train``: the options of each kind of training."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from odqa.training import commands


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
    reader.add_argument(
        "--negatives", action="append", type=Path, default=[], metavar="FILE",
        help="what train negatives has found: passages that the reader learns to refuse",
    )  # fmt: skip
    _add_run_options(reader, "runs/reader")
    reader.set_defaults(handler=commands.reader)
    _add_reranker(kinds)
    encoder = kinds.add_parser(
        "encoder",
        help="fine-tune a sentence encoder, or train a static one",
        description="With --model: fine-tune a sentence encoder on questions with passages that do "
        "and do not answer them. With --corpus: train a table of term vectors on text, and on "
        "questions with their passages.",
    )
    encoder.add_argument("--model", help="a Hugging Face id or folder, to fine-tune")
    encoder.add_argument(
        "--corpus", help="text to train a static encoder on: any source build-index reads"
    )
    encoder.add_argument(
        "--train", action="append", type=Path, default=[], metavar="FILE",
        help="may be given several times; with --model JSONL of question, positives and negatives; "
        "with --corpus questions with passages (KorQuAD 1.0, KLUE-MRC), or a folder with "
        "train.topics.tsv and train.qrels.tsv",
    )  # fmt: skip
    encoder.add_argument(
        "--dev", action="append", type=Path, default=[], metavar="FILE",
        help="with --model: JSONL to evaluate on while training; the best model is kept",
    )  # fmt: skip
    encoder.add_argument(
        "--judged-corpus", help="where the judged articles are (default: the --corpus)"
    )
    encoder.add_argument(
        "--initial", help="sentence encoder whose vectors of the terms are the start"
    )
    _add_run_options(encoder, "runs/encoder")
    encoder.set_defaults(handler=commands.encoder)
    asking = kinds.add_parser(
        "questions",
        help="make questions from text, to train a reader on",
        description="Take phrases out of a corpus's sentences and ask for them.",
    )
    asking.add_argument("corpus", help="text: any source build-index reads")
    asking.add_argument(
        "--without", action="append", default=[], metavar="SET",
        help="questions whose articles are left out, such as a test set (those it asks from, or "
        "names); may be given several times",
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
    asking.set_defaults(handler=commands.questions)
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
    vocabulary.set_defaults(handler=commands.tokenizer)
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
    pretraining.set_defaults(handler=commands.pretrain)
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
    exporting.set_defaults(handler=commands.export)


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
    reranker.set_defaults(handler=commands.reranker)
    negatives = kinds.add_parser(
        "negatives",
        help="find passages that do not answer, for train reranker and reader",
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
    negatives.set_defaults(handler=commands.negatives)


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
