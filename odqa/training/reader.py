"""Fine-tuning an extractive reader: any encoder with two linear span heads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from odqa.config import ReaderConfig
from odqa.errors import ConfigError, OdqaError, UsageError
from odqa.evaluation.run import evaluate_reading
from odqa.evaluation.scoring import ANSWER_METRICS, DISTANCES
from odqa.models.devices import pick_precision
from odqa.reading.checkpoint import ReaderTokenizer, load_reader_tokenizer
from odqa.reading.extractive import ExtractiveReader, TransformersSpanModel, positions
from odqa.reading.windows import WindowLimits, make_windows
from odqa.training.dropout import set_dropout
from odqa.training.loop_config import LoopConfig
from odqa.training.randomness import length_batches, seed_everything
from odqa.training.record import DataFile, examples_digest
from odqa.training.runs import run
from odqa.types import Example, Passage

logger = logging.getLogger(__name__)

SHOWN = ("exact_match", "f1", "klue_exact_match", "klue_rouge_w")
"""Figures of an evaluation during training."""


@dataclass(frozen=True, slots=True)
class ReaderTrainingConfig:
    """What to fine-tune and how. Lengths are in pieces."""

    model: str = ""  # a Hugging Face id or folder: any encoder
    layers: int = 0  # keep only the lowest n layers; 0: all
    frozen_layers: int = -1  # the embeddings and the n lowest layers are not trained; -1: all are
    morphemes: bool | None = None  # cut text at morpheme boundaries first; None: as the model's is
    titles: bool = True  # put the passage's title in front of it
    max_length: int = 384
    stride: int = 128
    max_question_length: int = 64
    negatives: float = 0.2  # answerless passages of the same article, for each question
    empty_windows: float = 0.25  # share of a long passage's answerless windows that is kept
    hidden_dropout: float | None = None  # None: the model's own; on a CPU it takes half of a step
    attention_dropout: float | None = None  # likewise
    token_dropout: float = 0.0  # share of the pieces that are hidden behind the mask token
    max_answer_chars: int = 60  # in evaluation: a longer span is no answer
    n_best: int = 5  # in evaluation: readings kept of each passage
    best_by: str = "f1"  # figure on --dev that the best checkpoint is chosen by
    loop: LoopConfig = field(default_factory=LoopConfig)


@dataclass(frozen=True, slots=True)
class LabelledWindow:
    """A window's ids and the positions in it of the answer's first and last piece (0, 0: none)."""

    ids: np.ndarray[Any, np.dtype[np.int32]]
    segment: int
    start: int
    end: int


class ReaderTask:
    """Windows with their answer positions, and the span loss over them."""

    def __init__(
        self,
        examples: Sequence[Example],
        config: ReaderTrainingConfig,
        model: torch.nn.Module,
        dev: Sequence[Example] = (),
    ) -> None:
        self.config, self.model = config, model
        self.tokenizer = load_reader_tokenizer(
            config.model, morphemes=config.morphemes, titles=config.titles
        )
        self.dev = [example for example in dev if example.passage is not None]
        if dev and not self.dev:
            raise UsageError("the dev data has no passages to read; give --dev KorQuAD's form")
        check_lengths(config, model)
        self.windows = labelled_windows(examples, self.tokenizer, config)
        logger.info("%d questions, %d windows", len(examples), len(self.windows))

    def batches(self, epoch: int) -> list[list[int]]:
        """Indices of windows, an epoch's worth in batches."""
        lengths = [len(window.ids) for window in self.windows]
        loop = self.config.loop
        return length_batches(lengths, loop.batch_size, loop.seed + epoch)

    def loss(self, batch: list[int]) -> torch.Tensor:
        """Mean cross-entropy of start and end position (Devlin et al. 2019, section 4.2)."""
        windows = [self.windows[i] for i in batch]
        device = next(self.model.parameters()).device
        inputs = self.tokenizer.tensors(windows, device)
        if self.config.token_dropout:
            inputs["input_ids"] = self._with_masks(inputs["input_ids"])
        output = self.model(**inputs)
        starts = torch.tensor([window.start for window in windows], device=device)
        ends = torch.tensor([window.end for window in windows], device=device)
        mask = inputs["attention_mask"] == 0
        start_logits = output.start_logits.float().masked_fill(mask, -1e4)
        end_logits = output.end_logits.float().masked_fill(mask, -1e4)
        return (F.cross_entropy(start_logits, starts) + F.cross_entropy(end_logits, ends)) / 2

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
    """Refuse lengths that the model has no positions for, and a figure that there is not.

    Raises:
        ConfigError: ``max_length`` or ``best_by`` will not do.
    """
    if config.max_length > (most := positions(model)):
        raise ConfigError(
            f"max_length is {config.max_length}, but '{config.model}' reads at most {most} "
            f"tokens; give --set max_length={most} or less"
        )
    allowed = [name for name in ANSWER_METRICS if name not in DISTANCES]
    if config.best_by not in allowed:
        raise ConfigError(f"best_by: unknown '{config.best_by}'; known: {', '.join(allowed)}")


def labelled_windows(
    examples: Sequence[Example], tokenizer: ReaderTokenizer, config: ReaderTrainingConfig
) -> list[LabelledWindow]:
    """All windows to train on, in a seeded choice.

    Each question gives the windows of its passage that hold the answer, some of those that do not,
    and with a chance of ``config.negatives`` a window of another passage of the same article in
    which no answer stands; an answerless window's label is its first token.
    """
    random = np.random.default_rng(config.loop.seed)
    siblings = _passages_by_title(examples)
    windows: list[LabelledWindow] = []
    for example in examples:
        if example.passage is None:
            continue
        span = _first_span(example)
        for window in _windows_of(example.question, example.passage, span, tokenizer, config):
            if window.start or not example.answers or random.random() < config.empty_windows:
                windows.append(window)
        if random.random() < config.negatives:
            other = _negative(example, siblings, random)
            if other is not None:
                windows += _windows_of(example.question, other, None, tokenizer, config)[:1]
    if not windows:
        raise OdqaError("the training data holds no question with a passage; nothing to learn")
    return windows


def _first_span(example: Example) -> tuple[int, int] | None:
    if not example.answers or example.passage is None:
        return None
    answer = example.answers[0]
    starts = example.answer_starts or (example.passage.text.find(answer),)
    start = starts[0]
    return (start, start + len(answer)) if start >= 0 else None


def _passages_by_title(examples: Sequence[Example]) -> dict[str, list[Passage]]:
    found: dict[str, dict[str, Passage]] = {}
    for example in examples:
        if example.passage is not None:
            found.setdefault(example.passage.title, {})[example.passage.text] = example.passage
    return {title: list(passages.values()) for title, passages in found.items()}


def _negative(
    example: Example, siblings: dict[str, list[Passage]], random: np.random.Generator
) -> Passage | None:
    """Another passage of the article in which no answer stands (so no false negative)."""
    if example.passage is None:
        return None
    others = [
        passage
        for passage in siblings[example.passage.title]
        if passage.text != example.passage.text
        and not any(answer in passage.text for answer in example.answers)
    ]
    return others[int(random.integers(len(others)))] if others else None


def _windows_of(
    question: str,
    passage: Passage,
    span: tuple[int, int] | None,
    tokenizer: ReaderTokenizer,
    config: ReaderTrainingConfig,
) -> list[LabelledWindow]:
    question_pieces, title, text = tokenizer.encode([question, passage.title, passage.text])
    limits = WindowLimits(config.max_length, config.stride, config.max_question_length)
    windows = []
    for window in make_windows(question_pieces, title, text, tokenizer.layout, limits):
        start = end = 0
        if span is not None:
            inside = slice(window.first, window.first + window.count)
            # every piece that shares a character with the answer
            hit = np.flatnonzero((text.ends[inside] > span[0]) & (text.starts[inside] < span[1]))
            whole = len(hit) > 0 and text.starts[inside][hit[0]] <= span[0]
            if whole and text.ends[inside][hit[-1]] >= span[1]:
                start, end = window.offset + int(hit[0]), window.offset + int(hit[-1])
        windows.append(LabelledWindow(window.ids, window.segment, start, end))
    return windows


def load_model(config: ReaderTrainingConfig) -> torch.nn.Module:
    """The encoder with new span heads, cut to ``layers`` and partly frozen."""
    from transformers import AutoConfig, AutoModelForQuestionAnswering

    seed_everything(config.loop.seed)
    try:
        settings = AutoConfig.from_pretrained(config.model)
        if config.layers:
            settings.num_hidden_layers = config.layers
        set_dropout(settings, config)
        model: torch.nn.Module = AutoModelForQuestionAnswering.from_pretrained(
            config.model, config=settings
        )
    except (OSError, ValueError) as error:
        raise OdqaError(f"--model '{config.model}' cannot be loaded: {error}") from error
    model.float()  # weights are trained in fp32, whatever they were stored in
    freeze(model, config.frozen_layers)
    return model


def freeze(model: torch.nn.Module, n_layers: int) -> None:
    """Stop training the embeddings and the lowest ``n_layers`` layers (-1: nothing)."""
    if n_layers < 0:
        return
    base: Any = getattr(model, str(model.base_model_prefix))
    layers = list(base.encoder.layer[:n_layers])
    for module in [base.embeddings, *layers]:
        module.requires_grad_(False)


def train_reader(
    examples: Sequence[Example],
    config: ReaderTrainingConfig,
    output: Path,
    *,
    dev: Sequence[Example] = (),
    files: Sequence[DataFile] = (),
) -> dict[str, Any]:
    """Fine-tune and write a Hugging Face folder that is a reader, with the run's record.

    Interrupted, it continues from the last checkpoint in ``output``.

    Args:
        examples: to learn from.
        config: what and how.
        output: the run's folder.
        dev: to evaluate on; the model written is then the best checkpoint's.
        files: where both come from, for the record.

    Returns:
        The record, as in ``run.json``.
    """
    task = ReaderTask(examples, config, load_model(config), dev)
    counts = {"n_questions": len(examples), "n_windows": len(task.windows), "n_dev": len(task.dev)}
    data = examples_digest(examples)
    return run("reader", task, config, output, data=data, files=files, counts=counts)
