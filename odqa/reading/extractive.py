"""The extractive reader: windows over passages, span logits, spans by character offsets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from odqa.config import ReaderConfig
from odqa.errors import ConfigError, MissingDependencyError, OdqaError
from odqa.models.pieces import Pieces, PieceTokenizer
from odqa.models.weights import WEIGHTS
from odqa.reading.spans import best_spans, decode_window
from odqa.reading.windows import Layout, Window, WindowLimits, make_windows
from odqa.types import Candidate, Reading

if TYPE_CHECKING:
    from odqa.reading.checkpoint import ReaderTokenizer

Floats = npt.NDArray[np.float32]

BUNDLED = "reader-ko"


class SpanModel(Protocol):
    """A model that reads windows, with the tokenizer and the layout it was trained on."""

    @property
    def layout(self) -> Layout: ...

    @property
    def max_length(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> list[Pieces]:
        """The pieces of each text, without special tokens."""
        ...

    def logits(self, windows: Sequence[Window]) -> list[Floats]:
        """Start and end logits of each window: (length, 2)."""
        ...


class OnnxSpanModel:
    """An exported reader (``odqa.training.export``), run without torch."""

    def __init__(self, folder: Path, precision: str = "auto") -> None:
        """
        Args:
            folder: of the export.
            precision: auto, fp32 or int8.

        Raises:
            OdqaError: the folder is no export of a reader, or damaged.
            ConfigError: there is no such precision, or not on this processor.
        """
        from odqa.models.devices import pick_exported_precision
        from odqa.models.onnx import INT8_GRAPH, TOKENIZER, OnnxTransformer, exported_file

        if not (folder / "odqa.json").is_file():
            raise OdqaError(f"{folder} is not an exported reader")
        settings = json.loads((folder / "odqa.json").read_text(encoding="utf-8"))
        self._tokenizer = PieceTokenizer.load(
            exported_file(folder, TOKENIZER), morphemes=settings["morphemes"]
        )
        self.layout = Layout.from_json(settings["layout"])
        has_int8 = (folder / INT8_GRAPH).is_file()
        self.precision = pick_exported_precision(precision, has_int8=has_int8)
        self._model = OnnxTransformer(folder, self.precision)
        self.max_length = self._model.max_length

    def encode(self, texts: Sequence[str]) -> list[Pieces]:
        """The pieces of each text, without special tokens."""
        return self._tokenizer.encode(texts)

    def logits(self, windows: Sequence[Window]) -> list[Floats]:
        """Start and end logits of each window: (length, 2)."""
        return self._model.run([window.ids for window in windows])


class TransformersSpanModel:
    """Any ``AutoModelForQuestionAnswering``, in batches of windows of similar length."""

    def __init__(
        self, model: Any, tokenizer: ReaderTokenizer, *, precision: str, batch_tokens: int
    ) -> None:
        """
        Args:
            model: on its device, in evaluation mode.
            tokenizer: its own.
            precision: fp32, bf16 or fp16.
            batch_tokens: in a batch, padding included.
        """
        self._model, self._tokenizer = model, tokenizer
        self._precision, self._batch_tokens = precision, batch_tokens
        self.layout = tokenizer.layout
        self.max_length = positions(model)

    @classmethod
    def load(cls, config: ReaderConfig) -> TransformersSpanModel:
        """The model that ``config.model`` names.

        Raises:
            OdqaError: it cannot be loaded.
            MissingDependencyError: transformers is not installed.
        """
        try:
            from transformers import AutoModelForQuestionAnswering
        except ImportError as error:
            raise MissingDependencyError("transformers", "hf", f"'{config.model}'") from error
        from odqa.models.devices import pick_device, pick_precision
        from odqa.reading.checkpoint import load_reader_tokenizer

        try:
            tokenizer = load_reader_tokenizer(config.model)
            model = AutoModelForQuestionAnswering.from_pretrained(config.model)
        except (OSError, ValueError) as error:
            raise OdqaError(f"reader.model '{config.model}' cannot be loaded: {error}") from error
        device = pick_device(config.device)
        precision = pick_precision(config.precision, device)
        model = model.to(device).eval()
        return cls(model, tokenizer, precision=precision, batch_tokens=config.batch_tokens)

    def encode(self, texts: Sequence[str]) -> list[Pieces]:
        """The pieces of each text, without special tokens."""
        return self._tokenizer.encode(texts)

    def logits(self, windows: Sequence[Window]) -> list[Floats]:
        """Start and end logits of each window: (length, 2)."""
        import torch

        found: list[Floats] = [np.zeros((0, 2), np.float32)] * len(windows)
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        device = self._model.device
        for batch in _batches([len(window.ids) for window in windows], self._batch_tokens):
            inputs = self._tokenizer.tensors([windows[i] for i in batch], device)
            half = self._precision != "fp32"
            with (
                torch.inference_mode(),
                torch.autocast(device.type, dtype=dtype[self._precision], enabled=half),
            ):
                output = self._model(**inputs)
            both = torch.stack([output.start_logits, output.end_logits], dim=-1)
            logits = both.float().cpu().numpy()
            for row, i in enumerate(batch):
                found[i] = logits[row, : len(windows[i].ids)]
        return found


def positions(model: Any) -> int:
    """How many tokens a model reads; RoBERTa's positions begin after the padding token's id."""
    n = int(getattr(model.config, "max_position_embeddings", 512))
    embeddings = getattr(model.base_model, "embeddings", None)
    padding = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return n if padding is None else n - padding - 1


def check_limits(config: ReaderConfig, most: int, *, section: str = "reader.") -> WindowLimits:
    """The limits of a reader's windows.

    Args:
        config: of the reader.
        most: tokens that its model reads.
        section: what stands before the settings' names where they are set.

    Raises:
        ConfigError: they do not fit each other or the model.
    """
    for name, least in (("max_question_length", 1), ("max_answer_chars", 1), ("n_best", 1),
                        ("stride", 0)):  # fmt: skip
        if getattr(config, name) < least:
            raise ConfigError(
                f"{section}{name} must be at least {least}, got {getattr(config, name)}"
            )
    limits = WindowLimits(config.max_length, config.stride, config.max_question_length)
    if limits.max_length > most:
        raise ConfigError(
            f"{section}max_length is {limits.max_length}, but the model '{config.model}' reads "
            f"at most {most} tokens; set it to {most} or less"
        )
    smallest = limits.max_question_length + limits.max_title_length + limits.stride + 8
    if limits.max_length < smallest:
        raise ConfigError(
            f"{section}max_length is {limits.max_length}; with its stride and question length it "
            f"must be {smallest} or more"
        )
    return limits


def _batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Indices in batches of similar length, of at most ``batch_tokens`` with their padding."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        longest = lengths[batches[-1][0]] if batches else 0
        if not batches or (len(batches[-1]) + 1) * longest > batch_tokens:
            batches.append([])
        batches[-1].append(i)
    return batches


class ExtractiveReader:
    """Reads every window of every candidate and decodes the best spans of each passage."""

    def __init__(self, model: SpanModel, config: ReaderConfig) -> None:
        self._limits = check_limits(config, model.max_length)
        self._model, self._config = model, config

    @classmethod
    def load(cls, config: ReaderConfig) -> ExtractiveReader:
        """The bundled reader, an exported one, or any Hugging Face question-answering model.

        Raises:
            OdqaError: the model cannot be loaded.
            MissingDependencyError: it needs transformers, which is not installed.
        """
        folder = WEIGHTS / BUNDLED if config.model == BUNDLED else Path(config.model)
        if (folder / "model.onnx").is_file():
            return cls(OnnxSpanModel(folder, config.precision), config)
        return cls(TransformersSpanModel.load(config), config)

    def read(
        self, questions: Sequence[str], candidates: Sequence[Sequence[Candidate]], *, k: int
    ) -> list[list[Reading]]:
        """At most k readings for each question, best first; ties by passage id, then offset.

        A reading's score is its start plus end logit less those of "no answer" in its window; each
        passage gives at most ``n_best`` readings.
        """
        jobs = self._windows(questions, candidates)
        logits = self._model.logits([window for _, _, _, window in jobs])
        spans: dict[tuple[int, int], list[Any]] = {}
        for (row, column, pieces, window), values in zip(jobs, logits, strict=True):
            if not np.isfinite(values).all():  # else it would pass for "no answer"
                passage_id = candidates[row][column].passage.passage_id
                raise OdqaError(
                    f"the reader's scores of passage '{passage_id}' are not finite; the model is "
                    "damaged or runs in too low a precision (try --set reader.precision=fp32)"
                )
            spans.setdefault((row, column), []).extend(
                decode_window(
                    values[:, 0],
                    values[:, 1],
                    window,
                    pieces,
                    max_answer_chars=self._config.max_answer_chars,
                    n_best=self._config.n_best,
                    length_penalty=self._config.length_penalty,
                )
            )
        readings: list[list[Reading]] = [[] for _ in questions]
        for (row, column), found in spans.items():
            candidate = candidates[row][column]
            text = candidate.passage.text
            for span in best_spans(found, n_best=self._config.n_best):
                answer = text[span.start : span.end]
                readings[row].append(Reading(candidate, answer, span.score, span.start, span.end))
        return [sorted(found, key=_order)[:k] for found in readings]

    def _windows(
        self, questions: Sequence[str], candidates: Sequence[Sequence[Candidate]]
    ) -> list[tuple[int, int, Pieces, Window]]:
        """(question, candidate, its passage's pieces, window) of everything there is to read."""
        texts = dict.fromkeys(
            text
            for row, found in enumerate(candidates)
            for candidate in found
            for text in (questions[row], candidate.passage.title, candidate.passage.text)
        )
        pieces = dict(zip(texts, self._model.encode(list(texts)), strict=True))
        return [
            (row, column, pieces[candidate.passage.text], window)
            for row, found in enumerate(candidates)
            for column, candidate in enumerate(found)
            for window in make_windows(
                pieces[questions[row]],
                pieces[candidate.passage.title],
                pieces[candidate.passage.text],
                self._model.layout,
                self._limits,
            )
        ]


def _order(reading: Reading) -> tuple[float, str, int, int]:
    passage = reading.candidate.passage
    return (-reading.score, passage.passage_id, reading.start or 0, reading.end or 0)
