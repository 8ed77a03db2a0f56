"""Masked language modelling: an encoder learns a language from text, whole morphemes hidden."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from odqa.corpus import read_documents
from odqa.errors import ConfigError, UsageError
from odqa.models.cut_tokenizer import CutTokenizer
from odqa.models.devices import pick_precision
from odqa.training.distributed import is_main
from odqa.training.loop_config import LoopConfig
from odqa.training.masked_model import load_model, surroundings
from odqa.training.masking import masking_of
from odqa.training.outputs import held
from odqa.training.packing import PackedCorpus, PackedText, Packing, packed_corpus
from odqa.training.record import DataFile, data_file, digest_of
from odqa.training.runs import run

logger = logging.getLogger(__name__)

KINDS = ("bert", "electra")
FIGURES = ("log_likelihood", "accuracy")
"""Figures of an evaluation: of a hidden piece, the mean log probability (nats), and how often it is
the first."""

TEXT = "text"  # the folder of the corpus in pieces, in the run's


@dataclass(frozen=True, slots=True)
class PretrainingConfig:
    """What to learn from, with what model, and how. Lengths are in pieces."""

    model: str = ""  # a Hugging Face id or folder to go on from; "": a new one of the sizes below
    tokenizer: str = ""  # likewise; "": the model's own
    morphemes: bool | None = None  # cut text at morpheme boundaries first; None: as the tokenizer's
    kind: str = "bert"  # of a new model: bert | electra
    layers: int = 6
    hidden_size: int = 384
    heads: int = 6
    intermediate_size: int = 1536
    embedding_size: int = 128  # of electra's embeddings
    positions: int = 512  # the longest text that a new model can read
    max_length: int = 256  # of a sequence
    hidden_dropout: float | None = None  # None: the model's own; on a CPU it takes half of a step
    attention_dropout: float | None = None  # likewise
    hidden_share: float = 0.15  # share of the pieces to be guessed
    every: int = 1  # take each n-th article of the corpus
    held_out: float = 0.01  # share of the articles to evaluate on, never learnt from
    held_out_sequences: int = 512  # at most so many are evaluated on
    best_by: str = "log_likelihood"  # figure that the best checkpoint is chosen by
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            epochs=1, batch_size=32, learning_rate=5e-4, save_every=1000, eval_every=1000,
            log_every=50,
        )
    )  # fmt: skip

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            ConfigError: a value is out of range or unknown.
            UsageError: neither a model nor a tokenizer is named, or the loop is to look at
                evaluations and nothing is held out.
        """
        if not self.model and not self.tokenizer:
            raise UsageError(
                "give --model to go on from one, or --tokenizer for a new one (odqa train "
                "tokenizer makes it)"
            )
        for name, known in (("kind", KINDS), ("best_by", FIGURES)):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name}: unknown '{getattr(self, name)}'; known: {', '.join(known)}"
                )
        if not 0 < self.hidden_share < 1 or not 0 <= self.held_out < 1:
            raise ConfigError("hidden_share must lie in (0, 1), held_out in [0, 1)")
        sizes = ("layers", "hidden_size", "heads", "intermediate_size", "embedding_size", "every")
        for name in (*sizes, "held_out_sequences"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more")
        if self.max_length < 8:
            raise ConfigError("max_length must be 8 or more")
        if self.hidden_size % self.heads:
            raise ConfigError(f"hidden_size must be a multiple of heads, {self.heads}")
        self.loop.check()  # before the corpus is read, which takes a while
        if not self.held_out:
            self.loop.check_unevaluated("give held_out above 0")


class PretrainingTask:
    """Sequences with hidden morphemes, drawn anew each epoch, and the loss over what is hidden."""

    def __init__(
        self, corpus: PackedCorpus, config: PretrainingConfig, model: Any, tokenizer: CutTokenizer
    ) -> None:
        self.corpus, self.config, self.model, self.tokenizer = corpus, config, model, tokenizer
        self.before, self.after = surroundings(tokenizer)
        self.n_held_out = min(len(corpus.held_out), config.held_out_sequences)
        self._masking = masking_of(tokenizer.backend, tokenizer.mask, config.hidden_share)
        logger.info(
            "%d articles in %d sequences to learn from, %d held out in %d",
            corpus.n_articles, len(corpus.train), corpus.n_held_out_articles, self.n_held_out,
        )  # fmt: skip

    def batches(self, epoch: int) -> list[list[tuple[int, int]]]:
        """(sequence, epoch) pairs of an epoch in batches."""
        loop = self.config.loop
        order = np.random.default_rng(loop.seed + epoch).permutation(len(self.corpus.train))
        cuts = range(0, len(order), loop.batch_size)
        return [[(int(row), epoch) for row in order[i : i + loop.batch_size]] for i in cuts]

    def loss(self, batch: Sequence[tuple[int, int]], whole: Any = None) -> torch.Tensor:
        """The mean over the sequences of the mean cross-entropy of their hidden pieces."""
        seeds = [[self.config.loop.seed, epoch, row] for row, epoch in batch]
        hidden = self._hide(self.corpus.train, [row for row, _ in batch], seeds)
        losses = F.cross_entropy(self._logits(hidden), hidden.labels, reduction="none")
        weights = 1 / torch.bincount(hidden.rows, minlength=len(batch))[hidden.rows]
        return (losses * weights).sum() / len(batch)

    def evaluate(self) -> dict[str, float]:
        """``FIGURES`` on what is held out, ``config.best_by`` first; what is hidden stays so."""
        if not self.n_held_out:
            return {}
        likelihood, n_right, n = 0.0, 0, 0
        size = self.config.loop.eval_batch_size
        for begin in range(0, self.n_held_out, size):
            rows = list(range(begin, min(begin + size, self.n_held_out)))
            hidden = self._hide(self.corpus.held_out, rows, [[row] for row in rows])
            with torch.inference_mode(), self._autocast():
                logits = self._logits(hidden)
            likelihood -= float(F.cross_entropy(logits, hidden.labels, reduction="sum"))
            n_right += int((logits.argmax(dim=-1) == hidden.labels).sum())
            n += len(hidden.labels)
        found = {"log_likelihood": likelihood / n, "accuracy": n_right / n}
        return {name: found[name] for name in dict.fromkeys([self.config.best_by, *FIGURES])}

    def save(self, folder: Path) -> None:
        """Write a Hugging Face folder that ``odqa train reader --model`` takes."""
        self.model.save_pretrained(folder, max_shard_size="1TB")  # one file, model.safetensors
        self.tokenizer.save(folder)

    def _hide(self, text: PackedText, rows: list[int], seeds: list[list[int]]) -> _Hidden:
        before, after = np.array(self.before, np.int32), np.array(self.after, np.int32)
        around = len(before) + len(after)
        length = around + max(int(text.bounds[row + 1] - text.bounds[row]) for row in rows)
        ids = np.full((len(rows), length), self.tokenizer.backend.pad_token_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        places, labels = [], []
        for i, (row, seed) in enumerate(zip(rows, seeds, strict=True)):
            whole, starts = text[row]
            random = np.random.default_rng(seed)
            changed, chosen = self._masking.apply(whole, starts, random)
            filled = np.concatenate([before, changed, after])
            ids[i, : len(filled)], mask[i, : len(filled)] = filled, 1
            places.append(np.stack([np.full(len(chosen), i), chosen + len(before)]))
            labels.append(whole[chosen])
        device = next(self.model.parameters()).device
        rows_of, columns = torch.from_numpy(np.concatenate(places, axis=1)).to(device)
        inputs = {"input_ids": ids, "attention_mask": mask}
        return _Hidden(
            {name: torch.from_numpy(array).to(device) for name, array in inputs.items()},
            rows_of,
            columns,
            torch.from_numpy(np.concatenate(labels)).long().to(device),
        )

    def _logits(self, hidden: _Hidden) -> torch.Tensor:
        """(hidden pieces, vocabulary), in fp32.

        The output layer is the larger part of a small model's work, so it is given only the states
        of what is hidden, wherever it is a module of its own.
        """

        def only_hidden(_: torch.nn.Module, states: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            return (states[0][hidden.rows, hidden.columns],)

        hook = self.model.get_output_embeddings().register_forward_pre_hook(only_hidden)
        try:
            logits: torch.Tensor = self.model(**hidden.inputs).logits
        finally:
            hook.remove()
        if logits.ndim == 3:
            logits = logits[hidden.rows, hidden.columns]
        return logits.float()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        device = next(self.model.parameters()).device
        precision = pick_precision(self.config.loop.precision, str(device))
        dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
        if precision not in dtypes:
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=dtypes[precision])


@dataclass(frozen=True, slots=True)
class _Hidden:
    """A batch: what the model is given, where pieces are hidden, and which they are."""

    inputs: dict[str, torch.Tensor]  # (batch, length)
    rows: torch.Tensor  # (hidden,)
    columns: torch.Tensor  # (hidden,)
    labels: torch.Tensor  # (hidden,)


def pretrain(corpus: str, config: PretrainingConfig, output: Path) -> dict[str, Any]:
    """Train on a corpus and write a Hugging Face folder, with the run's record.

    Interrupted, it continues from the last checkpoint in ``output``.

    Args:
        corpus: any source that ``read_documents`` takes.
        config: what and how.
        output: the run's folder; the corpus in pieces is kept in it.

    Returns:
        The record, as in ``run.json``.

    Raises:
        ConfigError, UsageError: a value is out of range, or another process is training into
            ``output``.
        OdqaError: a model cannot be loaded, or there is no text.
    """
    config.check()
    model, tokenizer = load_model(config)
    before, after = surroundings(tokenizer)
    packing = Packing(
        config.max_length - len(before) - len(after), after, config.held_out, config.every
    )
    file = data_file("train", Path(corpus), 0)
    key = {
        "corpus": file.name,
        "sha256": file.sha256,
        "vocabulary": digest_of(sorted(tokenizer.backend.get_vocab().items())),
        "morphemes": tokenizer.morphemes,
    }
    with held(output) if is_main() else contextlib.nullcontext():
        text = packed_corpus(
            read_documents(corpus), tokenizer, packing, output / TEXT, key=key, writes=is_main()
        )
    task = PretrainingTask(text, config, model, tokenizer)
    if not task.n_held_out:
        config.loop.check_unevaluated("raise held_out, which holds no article out")
    files = [DataFile("train", file.name, text.n_articles, file.sha256)]
    counts = {
        "n_articles": text.n_articles,
        "n_sequences": len(text.train),
        "n_pieces": int(text.train.bounds[-1]),
        "n_dev": task.n_held_out,
    }
    data = {"training data": text.digest}
    return run("pretrain", task, config, output, data=data, files=files, counts=counts)
