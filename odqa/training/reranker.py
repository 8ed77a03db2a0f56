"""Fine-tuning a cross-encoder: the positive passage of a question against its negatives."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from odqa.errors import ConfigError, OdqaError
from odqa.models.devices import pick_precision
from odqa.retrieval.cross_encoder import CrossEncoder
from odqa.training.loop_config import LoopConfig
from odqa.training.randomness import seed_everything
from odqa.training.ranking import (
    RankingExample,
    RankingGroups,
    check_best_by,
    ranking_digests,
    ranking_figures,
    with_both_kinds,
)
from odqa.training.record import DataFile
from odqa.training.runs import run

logger = logging.getLogger(__name__)


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
        self.examples, self.dev = with_both_kinds(examples, dev)
        self.groups = RankingGroups(self.examples, config.negatives, config.loop)
        logger.info("%d of %d questions have both kinds", len(self.examples), len(examples))

    def batches(self, epoch: int) -> list[list[tuple[int, int]]]:
        """(question, epoch) pairs of an epoch in batches."""
        return self.groups.batches(epoch)

    def loss(self, batch: list[tuple[int, int]], whole: Any = None) -> torch.Tensor:
        """Mean over the questions of -log softmax of the positive's logit within its group
        (the ListNet loss of one relevant passage, Cao et al. 2007)."""
        groups = [self.groups.drawn(row, epoch) for row, epoch in batch]
        encoder = self._encoder()
        pairs = [
            (self.examples[row].question, text)
            for (row, _), group in zip(batch, groups, strict=True)
            for text in group
        ]
        logits = encoder.logits(encoder.encode(pairs)).split([len(group) for group in groups])
        return torch.stack([-F.log_softmax(of_group, dim=0)[0] for of_group in logits]).mean()

    def evaluate(self) -> dict[str, float]:
        """How the dev questions' own passages are ranked, ``config.best_by`` first."""
        if not self.dev:
            return {}
        pairs = [(e.question, text) for e in self.dev for text in (*e.positives, *e.negatives)]
        return ranking_figures(self.dev, self._encoder().scores(pairs), self.config.best_by)

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
    check_best_by(config.best_by)
    if not dev:
        config.loop.check_unevaluated("give --dev")
    if config.negatives < 1:
        raise ConfigError(f"negatives must be 1 or more, got {config.negatives}")
    model, tokenizer = load_cross_encoder(config)
    task = RerankerTask(examples, config, model, tokenizer, dev)
    counts = {"n_questions": len(task.examples), "n_dev": len(task.dev)}
    data = ranking_digests(examples, dev)
    return run("reranker", task, config, output, data=data, files=files, counts=counts)
