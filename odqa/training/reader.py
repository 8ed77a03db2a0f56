"""Fine-tuning an extractive reader: any encoder with two linear span heads."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from odqa.config import ReaderConfig
from odqa.errors import ConfigError, OdqaError, UsageError
from odqa.evaluation.run import evaluate_reading
from odqa.evaluation.scoring import ANSWER_METRICS, DISTANCES
from odqa.models.devices import pick_precision
from odqa.reading.checkpoint import ReaderTokenizer, load_reader_tokenizer
from odqa.reading.extractive import (
    ExtractiveReader,
    TransformersSpanModel,
    check_limits,
    positions,
)
from odqa.training.distillation import Teacher
from odqa.training.dropout import set_dropout
from odqa.training.labels import labelled_windows, negative_windows
from odqa.training.layers import set_layers
from odqa.training.negatives import answerless
from odqa.training.randomness import length_batches, seed_everything
from odqa.training.ranking import RankingExample
from odqa.training.reader_config import ReaderTrainingConfig
from odqa.training.record import DataFile, digest_of, examples_digest
from odqa.training.runs import run
from odqa.training.span_loss import span_loss
from odqa.types import Example

logger = logging.getLogger(__name__)

SHOWN = ("exact_match", "f1", "klue_exact_match", "klue_rouge_w")
"""Figures of an evaluation during training."""


class ReaderTask:
    """Windows with their answer positions, and the span loss over them."""

    def __init__(
        self,
        examples: Sequence[Example],
        config: ReaderTrainingConfig,
        model: torch.nn.Module,
        dev: Sequence[Example] = (),
        mined: Sequence[RankingExample] = (),
    ) -> None:
        self.config, self.model = config, model
        self.tokenizer = load_reader_tokenizer(
            config.model, morphemes=config.morphemes, titles=config.titles
        )
        self.dev = [example for example in dev if example.passage is not None]
        if dev and not self.dev:
            raise UsageError("the dev data has no passages to read; give --dev KorQuAD's form")
        check_lengths(config, model)
        self.teacher = _teacher(config, self.tokenizer, model)
        self.windows = labelled_windows(examples, self.tokenizer, config)
        self._n_own = len(self.windows)  # behind them: what competes with them
        self._rivals: dict[int, list[int]] = {}
        if config.group_negatives:
            found = negative_windows(examples, mined, self.tokenizer, config)
            for number, rivals in found.items():
                first = len(self.windows)
                self._rivals[number] = list(range(first, first + len(rivals)))
                self.windows += rivals
            if not self._rivals:
                raise UsageError(
                    "group_negatives: no mined passage belongs to a training question; give "
                    "--negatives what odqa train negatives found for the same questions"
                )
            logger.info("mined passages compete in %d questions", len(self._rivals))
        logger.info("%d questions, %d windows", len(examples), len(self.windows))

    def batches(self, epoch: int) -> list[list[list[int]]]:
        """Groups of windows' indices, an epoch's worth in batches.

        The first window of a group is one of a question's own passage; behind it stand some of the
        mined passages that compete with it, drawn anew each epoch.
        """
        config = self.config
        seed = config.loop.seed + epoch
        random = np.random.default_rng(seed)
        groups = [[i, *self._drawn(i, random)] for i in range(self._n_own)]
        lengths = [max(len(self.windows[i].ids) for i in group) for group in groups]
        size = max(config.loop.batch_size // (1 + config.group_negatives), 1)
        batches = length_batches(lengths, size, seed)
        return [[groups[i] for i in batch] for batch in batches]

    def _drawn(self, first: int, random: np.random.Generator) -> list[int]:
        window = self.windows[first]
        rivals = self._rivals.get(window.question, []) if window.start else []
        return [int(i) for i in random.permutation(rivals)[: self.config.group_negatives]]

    def loss(
        self, batch: list[list[int]], whole: Sequence[list[int]] | None = None
    ) -> torch.Tensor:
        """``span_loss`` of the groups.

        With a teacher, its weighted mean with the distance from that one, who sees all pieces; it
        is a mean over windows and over pieces, of which not every group has as many.
        """
        windows = [self.windows[i] for group in batch for i in group]
        device = next(self.model.parameters()).device
        unmasked = self.tokenizer.tensors(windows, device, longest=self.config.max_length)
        inputs = dict(unmasked)
        if self.config.token_dropout:
            inputs["input_ids"] = self._with_masks(inputs["input_ids"])
        teacher = self.teacher
        output = self.model(**inputs, output_hidden_states=bool(teacher and teacher.hidden))
        loss = span_loss(
            (output.start_logits, output.end_logits),
            (
                torch.tensor([window.start for window in windows], device=device),
                torch.tensor([window.end for window in windows], device=device),
            ),
            inputs["attention_mask"] == 1,
            [len(group) for group in batch],
            self.config.group_weight,
        )
        if teacher is None:
            return loss
        weight = self.config.teacher.weight
        counts = self._counts(batch, whole) if whole else None
        return (1 - weight) * loss + weight * teacher.distance(unmasked, output, counts)

    def _counts(
        self, batch: Sequence[list[int]], whole: Sequence[list[int]]
    ) -> tuple[float, float]:
        """Windows and pieces that so many groups as in ``batch`` have in ``whole``, on average.

        A mean over these, and then over the shares by their groups, is the mean over ``whole``.
        """
        lengths = [len(self.windows[i].ids) for group in whole for i in group]
        share = len(batch) / len(whole)
        return len(lengths) * share, sum(lengths) * share

    def _with_masks(self, ids: torch.Tensor) -> torch.Tensor:
        """``ids`` with a random share masked, never the tokens of the layout.

        What was seen often before is then seen anew (word dropout: Iyyer et al. 2015).
        """
        layout = self.tokenizer.layout
        fixed = torch.tensor(
            [*layout.before, *layout.between, *layout.after, layout.pad], device=ids.device
        )
        hidden = torch.rand(ids.shape, device=ids.device) < self.config.token_dropout
        return ids.masked_fill(hidden & ~torch.isin(ids, fixed), self.tokenizer.mask)

    def evaluate(self) -> dict[str, float]:
        """Figures of the reading task on the dev questions, ``config.best_by`` first."""
        if not self.dev:
            return {}
        device = next(self.model.parameters()).device
        model = TransformersSpanModel(
            self.model,
            self.tokenizer,
            precision=pick_precision(self.config.loop.precision, str(device)),
            batch_tokens=self.config.loop.eval_batch_size * self.config.max_length,
        )
        reader = ExtractiveReader(model, reading_config(self.config))
        found = evaluate_reading(reader, self.dev, seed=self.config.loop.seed).metrics
        names = dict.fromkeys([self.config.best_by, *SHOWN])
        return {name: float(found[name]) for name in names}

    def save(self, folder: Path) -> None:
        """Write a Hugging Face folder that ``reader.model`` can name."""
        model: Any = self.model
        model.save_pretrained(folder, max_shard_size="1TB")  # one file, model.safetensors
        self.tokenizer.save(folder)


def reading_config(config: ReaderTrainingConfig) -> ReaderConfig:
    """How a trained reader is evaluated: with the lengths it was trained with."""
    return ReaderConfig(
        model=config.model,
        max_length=config.max_length,
        stride=config.stride,
        max_question_length=config.max_question_length,
        max_answer_chars=config.max_answer_chars,
        n_best=config.n_best,
    )


def check_lengths(config: ReaderTrainingConfig, model: torch.nn.Module) -> None:
    """Refuse lengths that the model or an evaluation could not read with, and unknown figures.

    Raises:
        ConfigError: a length, a share or ``best_by`` will not do.
    """
    check_limits(reading_config(config), positions(model), section="")
    for name in ("negatives", "empty_windows", "token_dropout"):
        if not 0 <= getattr(config, name) <= 1:
            raise ConfigError(f"{name} must lie in [0, 1], got {getattr(config, name)}")
    allowed = [name for name in ANSWER_METRICS if name not in DISTANCES]
    if config.best_by not in allowed:
        raise ConfigError(f"best_by: unknown '{config.best_by}'; known: {', '.join(allowed)}")


def _teacher(
    config: ReaderTrainingConfig, tokenizer: ReaderTokenizer, student: torch.nn.Module
) -> Teacher | None:
    wanted = config.teacher
    if not 0 <= wanted.weight <= 1:
        raise ConfigError(f"teacher.weight must lie in [0, 1], got {wanted.weight}")
    if not wanted.model or not wanted.weight:
        return None
    teacher = Teacher(wanted.model, tokenizer, temperature=wanted.temperature, hidden=wanted.hidden)
    teacher.check(student)
    return teacher


def load_model(config: ReaderTrainingConfig) -> torch.nn.Module:
    """The encoder with new span heads, cut to ``layers`` and partly frozen."""
    from transformers import AutoConfig, AutoModelForQuestionAnswering

    seed_everything(config.loop.seed)
    try:
        settings = AutoConfig.from_pretrained(config.model)
        set_dropout(settings, config)
        model: torch.nn.Module = AutoModelForQuestionAnswering.from_pretrained(
            config.model, config=settings
        )
    except (OSError, ValueError) as error:
        raise OdqaError(f"--model '{config.model}' cannot be loaded: {error}") from error
    model.float()  # weights are trained in fp32, whatever they were stored in
    set_layers(model, config)
    return model


def train_reader(
    examples: Sequence[Example],
    config: ReaderTrainingConfig,
    output: Path,
    *,
    dev: Sequence[Example] = (),
    mined: Sequence[RankingExample] = (),
    files: Sequence[DataFile] = (),
) -> dict[str, Any]:
    """Fine-tune and write a Hugging Face folder that is a reader, with the run's record.

    Interrupted, it continues from the last checkpoint in ``output``.

    Args:
        examples: to learn from.
        config: what and how.
        output: the run's folder.
        dev: to evaluate on; the model written is then the best checkpoint's.
        mined: passages that do not answer, by question, as ``odqa train negatives`` finds them:
            ``config.mined_negatives`` of them are read alone, or ``config.group_negatives`` of
            them beside each question's own passage.
        files: where both come from, for the record.

    Returns:
        The record, as in ``run.json``.
    """
    if not dev:
        config.loop.check_unevaluated("give --dev")
    if config.group_negatives < 0 or not 0 <= config.group_weight <= 1:
        raise ConfigError(
            "group_negatives must be 0 or more and group_weight lie in [0, 1], got "
            f"{config.group_negatives} and {config.group_weight}"
        )
    if not config.group_negatives:
        examples = [*examples, *answerless(mined, config.mined_negatives, config.loop.seed)]
    task = ReaderTask(examples, config, load_model(config), dev, mined)
    counts = {"n_questions": len(examples), "n_windows": len(task.windows), "n_dev": len(task.dev)}
    learnt = examples_digest(examples)
    if config.group_negatives:
        learnt += digest_of(dataclasses.astuple(one) for one in mined)
    data = {"training data": learnt, "evaluation data": examples_digest(dev)}
    return run("reader", task, config, output, data=data, files=files, counts=counts)
