"""Fine-tuning a cross-encoder: the positive passage of a question against its negatives."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from odqa.corpus.opening import read_lines
from odqa.errors import ConfigError, InputError, OdqaError, UsageError
from odqa.metrics import hit_at, mrr_at, ndcg_at
from odqa.models.devices import pick_precision
from odqa.retrieval.cross_encoder import CrossEncoder
from odqa.text.normalize import nfc
from odqa.training.loop_config import LoopConfig
from odqa.training.randomness import length_batches, seed_everything
from odqa.training.record import DataFile, digest_of
from odqa.training.runs import run

logger = logging.getLogger(__name__)

FIGURES = ("mrr@10", "ndcg@10", "hit@1")
"""Figures of an evaluation during training, over the passages given with each question."""


@dataclass(frozen=True, slots=True)
class RerankerTrainingConfig:
    """What to fine-tune and how."""

    model: str = ""  # a Hugging Face id or folder: an encoder or a cross-encoder
    max_length: int = 384  # of question and passage, in tokens
    negatives: int = 7  # passages set against a positive one at a time, drawn anew each epoch
    best_by: str = "mrr@10"  # figure on --dev that the best checkpoint is chosen by
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(batch_size=4, learning_rate=2e-5)
    )  # questions in a batch


@dataclass(frozen=True, slots=True)
class RankingExample:
    """A question with passages that answer it and passages that do not, titles included."""

    question: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]


def read_ranking_examples(path: Path) -> list[RankingExample]:
    """The lines of a ``.jsonl``: ``{"question", "positives": […], "negatives": […]}``.

    Raises:
        InputError: the file is missing, a line is no such object, or there is none.
    """
    examples = []
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError("is no valid JSON", path=path, line=number) from error
        if not isinstance(record, dict):
            raise InputError("must be a JSON object", path=path, line=number)
        question = record.get("question")
        if not isinstance(question, str) or not question.strip():
            raise InputError("must be a text", path=path, line=number, field="question")
        lists = []
        for name in ("positives", "negatives"):
            texts = record.get(name)
            if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
                raise InputError("must be a list of texts", path=path, line=number, field=name)
            lists.append(tuple(nfc(text) for text in texts))
        examples.append(RankingExample(nfc(question), lists[0], lists[1]))
    if not examples:
        raise InputError("holds no question", path=path)
    return examples


def write_ranking_examples(examples: Sequence[RankingExample], path: Path) -> None:
    """The inverse of ``read_ranking_examples``."""
    with path.open("w", encoding="utf-8") as file:
        for example in examples:
            file.write(json.dumps(dataclasses.asdict(example), ensure_ascii=False) + "\n")


class RerankerTask:
    """Groups of one positive and several negatives, and the listwise loss over them."""

    def __init__(
        self,
        examples: Sequence[RankingExample],
        config: RerankerTrainingConfig,
        model: Any,
        tokenizer: Any,
        dev: Sequence[RankingExample] = (),
    ) -> None:
        self.config, self.model, self._tokenizer = config, model, tokenizer
        self.examples = [e for e in examples if e.positives and e.negatives]
        self.dev = [e for e in dev if e.positives and e.negatives]
        if not self.examples or (dev and not self.dev):
            raise UsageError(
                f"no question of the {'dev' if self.examples else 'training'} data has both "
                "positives and negatives; odqa train negatives finds some"
            )
        self._lengths = [
            len(e.question) + max(map(len, (*e.positives, *e.negatives))) for e in self.examples
        ]
        logger.info("%d of %d questions have both kinds", len(self.examples), len(examples))

    def batches(self, epoch: int) -> list[list[tuple[int, int]]]:
        """(question, epoch) pairs of an epoch in batches."""
        loop = self.config.loop
        found = length_batches(self._lengths, loop.batch_size, loop.seed + epoch)
        return [[(row, epoch) for row in batch] for batch in found]

    def loss(self, batch: list[tuple[int, int]]) -> torch.Tensor:
        """Mean over the questions of -log softmax of the positive's logit within its group
        (the ListNet loss of one relevant passage, Cao et al. 2007)."""
        groups = [self._group(row, epoch) for row, epoch in batch]
        encoder = self._encoder()
        pairs = [
            (self.examples[row].question, text)
            for (row, _), group in zip(batch, groups, strict=True)
            for text in group
        ]
        logits = encoder.logits(encoder.encode(pairs)).split([len(group) for group in groups])
        return torch.stack([-F.log_softmax(of_group, dim=0)[0] for of_group in logits]).mean()

    def _group(self, row: int, epoch: int) -> list[str]:
        """A positive and ``config.negatives`` negatives, in a draw that the seed decides."""
        example = self.examples[row]
        random = np.random.default_rng([self.config.loop.seed, epoch, row])
        positive = example.positives[int(random.integers(len(example.positives)))]
        order = random.permutation(len(example.negatives))[: self.config.negatives]
        return [positive, *(example.negatives[int(i)] for i in order)]

    def evaluate(self) -> dict[str, float]:
        """How the dev questions' own passages are ranked, ``config.best_by`` first."""
        if not self.dev:
            return {}
        pairs = [(e.question, text) for e in self.dev for text in (*e.positives, *e.negatives)]
        scores = self._encoder().scores(pairs)
        rows, done = [], 0
        for example in self.dev:
            names = [f"p{i}" for i in range(len(example.positives))]
            names += [f"n{i}" for i in range(len(example.negatives))]
            own = dict(zip(names, scores[done : done + len(names)], strict=True))
            done += len(names)
            ranking = sorted(names, key=lambda name: (-own[name], name))  # ties: negatives first
            relevant = {name: 1 for name in names if name.startswith("p")}
            rows.append([mrr_at(10, ranking, relevant), ndcg_at(10, ranking, relevant),
                         hit_at(1, ranking, relevant)])  # fmt: skip
        means = dict(zip(FIGURES, np.mean(rows, axis=0).tolist(), strict=True))
        return {name: means[name] for name in dict.fromkeys([self.config.best_by, *FIGURES])}

    def save(self, folder: Path) -> None:
        """Write a Hugging Face folder that ``rerank.encoder`` can name."""
        self.model.save_pretrained(folder, max_shard_size="1TB")  # one file, model.safetensors
        self._tokenizer.save_pretrained(folder)

    def _encoder(self) -> CrossEncoder:
        config = self.config
        return CrossEncoder(
            self.model,
            self._tokenizer,
            max_length=config.max_length,
            batch_tokens=config.loop.eval_batch_size * config.max_length,
            precision=pick_precision(config.loop.precision, str(self.model.device)),
        )


def load_cross_encoder(config: RerankerTrainingConfig) -> tuple[Any, Any]:
    """(model, tokenizer): a classifier of one logit, its head new where the model has none.

    Raises:
        OdqaError: the model cannot be loaded.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    seed_everything(config.loop.seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.model)
        model = AutoModelForSequenceClassification.from_pretrained(config.model, num_labels=1)
    except (OSError, ValueError, RuntimeError) as error:
        raise OdqaError(f"--model '{config.model}' cannot be loaded: {error}") from error
    return model.float(), tokenizer  # weights are trained in fp32, whatever they were stored in


def train_reranker(
    examples: Sequence[RankingExample],
    config: RerankerTrainingConfig,
    output: Path,
    *,
    dev: Sequence[RankingExample] = (),
    files: Sequence[DataFile] = (),
) -> dict[str, Any]:
    """Fine-tune and write a Hugging Face folder that is a second stage, with the run's record.

    Interrupted, it continues from the last checkpoint in ``output``. Arguments and result are those
    of ``odqa.training.reader.train_reader``.
    """
    if config.best_by not in FIGURES:
        raise ConfigError(f"best_by: unknown '{config.best_by}'; known: {', '.join(FIGURES)}")
    if config.negatives < 1:
        raise ConfigError(f"negatives must be 1 or more, got {config.negatives}")
    model, tokenizer = load_cross_encoder(config)
    task = RerankerTask(examples, config, model, tokenizer, dev)
    counts = {"n_questions": len(task.examples), "n_dev": len(task.dev)}
    data = digest_of(dataclasses.astuple(example) for example in examples)
    return run("reranker", task, config, output, data=data, files=files, counts=counts)
