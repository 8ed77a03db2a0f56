"""Fine-tuning a sentence encoder: questions and passages apart, and what belongs together near.

The loss is that of DPR (V. Karpukhin et al., Dense Passage Retrieval for Open-Domain Question
Answering, EMNLP 2020): each question's positive passage against the hard negatives and the other
questions' passages of the batch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from odqa.config import DenseConfig
from odqa.errors import ConfigError, OdqaError, UsageError
from odqa.models.devices import pick_precision
from odqa.retrieval.transformers_encoder import (
    Prescription,
    fitting_length,
    length_sorted_batches,
    pool,
    prescription,
    write_prescription,
)
from odqa.training.distributed import world_size
from odqa.training.dropout import set_dropout
from odqa.training.layers import set_layers
from odqa.training.loop_config import LoopConfig
from odqa.training.randomness import seed_everything
from odqa.training.ranking import (
    RankingExample,
    RankingGroups,
    check_best_by,
    mined_passage,
    ranking_digests,
    ranking_figures,
    with_both_kinds,
)
from odqa.training.record import DataFile
from odqa.training.runs import run
from odqa.training.similarity import SimilarityTeacherConfig, divergence, load_teacher

logger = logging.getLogger(__name__)

_MASKED = -1e4


@dataclass(frozen=True, slots=True)
class EncoderTrainingConfig:
    """What to fine-tune and how."""

    model: str = ""  # a Hugging Face id or folder: any encoder
    layers: int = 0  # keep only n layers; 0: all
    keep: str = "lowest"  # which ones: lowest, or spread (evenly over the depth)
    frozen_layers: int = -1  # the embeddings and the n lowest layers are not trained; -1: all are
    pooling: str = "auto"  # as dense.pooling: what the model's authors say
    question_prefix: str | None = None  # as dense.question_prefix; None: likewise
    passage_prefix: str | None = None
    max_length: int = 256  # of a question or a passage, in tokens
    negatives: int = 1  # hard negatives of each question, drawn anew each epoch
    temperature: float = 0.02  # what the cosines are divided by
    hidden_dropout: float | None = None  # None: the model's own
    attention_dropout: float | None = None  # likewise
    best_by: str = "mrr@10"  # figure on --dev that the best checkpoint is chosen by
    teacher: SimilarityTeacherConfig = field(default_factory=SimilarityTeacherConfig)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(batch_size=32, learning_rate=2e-5)
    )  # questions in a batch


class EncoderTask:
    """Questions with their passages, and the contrastive loss over a batch of them."""

    def __init__(
        self,
        examples: Sequence[RankingExample],
        config: EncoderTrainingConfig,
        model: Any,
        tokenizer: Any,
        dev: Sequence[RankingExample] = (),
    ) -> None:
        self.config, self.model, self._tokenizer = config, model, tokenizer
        self.examples, self.dev = with_both_kinds(examples, dev)
        self.how = how_used(config)
        self.teacher = load_teacher(config.teacher)
        self._max_length = fitting_length(config.max_length, tokenizer, model)
        self.groups = RankingGroups(self.examples, config.negatives, config.loop)
        logger.info("%d of %d questions have both kinds", len(self.examples), len(examples))

    def batches(self, epoch: int) -> list[list[tuple[int, int]]]:
        """(question, epoch) pairs of an epoch in batches."""
        return self.groups.batches(epoch)

    def loss(self, batch: list[tuple[int, int]], whole: Any = None) -> torch.Tensor:
        """Mean of -log softmax of the positive's cosine over the temperature, within the batch.

        A passage that is a positive of a question in another's place does not count against it.
        With a teacher, its weighted mean with the divergence from that one's similarities.
        """
        groups = [self.groups.drawn(row, epoch) for row, epoch in batch]
        questions = [self.examples[row].question for row, _ in batch]
        passages = [group[0] for group in groups] + [t for group in groups for t in group[1:]]
        vectors = self._vectors(
            [self.how.question_prefix + text for text in questions]
            + [self.how.passage_prefix + text for text in passages]
        )
        asked, given = vectors[: len(questions)], vectors[len(questions) :]
        device = vectors.device
        labels = torch.arange(len(questions), device=device)
        also_right = torch.tensor(
            [[text in self.examples[row].positives for text in passages] for row, _ in batch],
            device=device,
        )
        also_right[labels, labels] = False
        logits = (asked @ given.T / self.config.temperature).masked_fill(also_right, _MASKED)
        loss = F.cross_entropy(logits, labels)
        if self.teacher is None:
            return loss
        right = self._taught(questions, passages).to(device) / self.config.teacher.temperature
        weight = self.config.teacher.weight
        distance = divergence(logits, right.masked_fill(also_right, _MASKED))
        return (1 - weight) * loss + weight * distance

    def _taught(self, questions: Sequence[str], passages: Sequence[str]) -> torch.Tensor:
        """(questions, passages) the teacher's similarities."""
        assert self.teacher is not None
        asked = self.teacher.encode_questions(questions)
        given = self.teacher.encode_passages([mined_passage(text) for text in passages])
        return torch.from_numpy(asked @ given.T)

    def _vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """(texts, dim) rows of unit length, through the model in one batch."""
        inputs = self._tokenizer(
            list(texts), truncation=True, max_length=self._max_length, padding=True,
            padding_side="right", return_tensors="pt",
        ).to(self.model.device)  # fmt: skip
        states = self.model(**inputs).last_hidden_state.float()
        return F.normalize(pool(states, inputs["attention_mask"], self.how.pooling), dim=-1)

    def evaluate(self) -> dict[str, float]:
        """How the dev questions' own passages are ranked, ``config.best_by`` first."""
        if not self.dev:
            return {}
        asked = self._evaluated([self.how.question_prefix + e.question for e in self.dev])
        texts = [text for e in self.dev for text in (*e.positives, *e.negatives)]
        given = self._evaluated([self.how.passage_prefix + text for text in texts])
        counts = [len(e.positives) + len(e.negatives) for e in self.dev]
        scores = (np.repeat(asked, counts, axis=0) * given).sum(axis=1)
        return ranking_figures(self.dev, scores, self.config.best_by)

    def _evaluated(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """As ``_vectors``, in batches of like length and without gradients."""
        config = self.config
        device = self.model.device
        precision = pick_precision(config.loop.precision, str(device))
        dtype = torch.bfloat16 if precision == "bf16" else torch.float16
        vectors = np.zeros((len(texts), self.model.config.hidden_size), dtype=np.float32)
        batch_tokens = config.loop.eval_batch_size * self._max_length
        for batch in length_sorted_batches([len(text) for text in texts], batch_tokens):
            with (
                torch.inference_mode(),
                torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32"),
            ):
                vectors[batch] = self._vectors([texts[i] for i in batch]).cpu().numpy()
        return vectors

    def save(self, folder: Path) -> None:
        """Write a folder that ``dense.encoder`` and ``rerank.encoder`` can name.

        sentence-transformers loads it too, with the same pooling and prefixes.
        """
        self.model.save_pretrained(folder, max_shard_size="1TB")  # one file, model.safetensors
        self._tokenizer.save_pretrained(folder)
        write_prescription(folder, self.how, dim=self.model.config.hidden_size)


def how_used(config: EncoderTrainingConfig) -> Prescription:
    """Pooling and prefixes: what ``config`` says, else what the model's authors do.

    Raises:
        ConfigError: the pooling is unknown.
    """
    return prescription(
        DenseConfig(
            encoder=config.model,
            pooling=config.pooling,
            question_prefix=config.question_prefix,
            passage_prefix=config.passage_prefix,
        )
    )


def load_encoder(config: EncoderTrainingConfig) -> tuple[Any, Any]:
    """(model, tokenizer), cut to ``config.layers`` and partly frozen.

    Raises:
        OdqaError: the model cannot be loaded.
        ConfigError: it has not so many layers.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    seed_everything(config.loop.seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.model)
        settings = AutoConfig.from_pretrained(config.model)
        set_dropout(settings, config)
        model = AutoModel.from_pretrained(config.model, config=settings)
    except (OSError, ValueError) as error:
        raise OdqaError(f"--model '{config.model}' cannot be loaded: {error}") from error
    model.float()  # weights are trained in fp32, whatever they were stored in
    set_layers(model, config)
    if getattr(model, "pooler", None) is not None:
        model.pooler.requires_grad_(False)  # it has no part in a vector
    return model, tokenizer


def train_encoder(
    examples: Sequence[RankingExample],
    config: EncoderTrainingConfig,
    output: Path,
    *,
    dev: Sequence[RankingExample] = (),
    files: Sequence[DataFile] = (),
) -> dict[str, Any]:
    """Fine-tune and write a Hugging Face folder that is an encoder, with the run's record.

    Interrupted, it continues from the last checkpoint in ``output``. Arguments and result are those
    of ``odqa.training.reader.train_reader``.
    """
    if world_size() > 1:
        raise UsageError(
            "an encoder is trained by one process: its loss sets each passage of a batch against "
            "all questions; leave torchrun out"
        )
    check_best_by(config.best_by)
    if not dev:
        config.loop.check_unevaluated("give --dev")
    if config.negatives < 0:
        raise ConfigError(f"negatives must be 0 or more, got {config.negatives}")
    if config.temperature <= 0:
        raise ConfigError(f"temperature must be above 0, got {config.temperature}")
    model, tokenizer = load_encoder(config)
    task = EncoderTask(examples, config, model, tokenizer, dev)
    counts = {"n_questions": len(task.examples), "n_dev": len(task.dev)}
    data = ranking_digests(examples, dev)
    return run("encoder", task, config, output, data=data, files=files, counts=counts)
