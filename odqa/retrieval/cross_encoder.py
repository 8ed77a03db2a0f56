"""A second stage that reads question and passage together: any sequence classifier of one logit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from odqa.config import DenseConfig, RerankConfig
from odqa.errors import MissingDependencyError, OdqaError
from odqa.retrieval.hybrid import min_max
from odqa.retrieval.ranking import rerank_candidates
from odqa.retrieval.rerank import check_rerank, mixed_scores
from odqa.retrieval.transformers_encoder import (
    fitting_length,
    length_sorted_batches,
    model_json,
)
from odqa.types import Candidate, Passage

Pair = tuple[str, str]
"""A question and a passage with its title (``passage_text``)."""


def passage_text(passage: Passage) -> str:
    """What a cross-encoder reads of a passage: its title, a line break and its text."""
    return f"{passage.title}\n{passage.text}".strip()


def is_cross_encoder(name_or_path: str) -> bool:
    """Whether a model's own settings say that it classifies texts, rather than encodes them."""
    try:
        architectures = model_json(name_or_path, "config.json").get("architectures") or []
    except ImportError:  # whoever loads the model says what is missing
        return False
    return any(str(name).endswith("ForSequenceClassification") for name in architectures)


class CrossEncoder:
    """Scores of pairs; the higher, the likelier the passage answers the question."""

    def __init__(
        self, model: Any, tokenizer: Any, *, max_length: int, batch_tokens: int, precision: str
    ) -> None:
        """
        Args:
            model: a sequence classifier with one output, on its device.
            tokenizer: its own.
            max_length: of a pair, in tokens; what is too long is cut.
            batch_tokens: in a batch, padding included.
            precision: fp32, bf16 or fp16.

        Raises:
            OdqaError: the model has more outputs than one.
        """
        if model.config.num_labels != 1:
            raise OdqaError(
                f"a cross-encoder has one output, but '{model.config.name_or_path}' has "
                f"{model.config.num_labels}; it is a classifier of another kind"
            )
        self.model, self._tokenizer = model, tokenizer
        self._max_length = fitting_length(max_length, tokenizer, model)
        self._batch_tokens, self._precision = batch_tokens, precision
        # klue/roberta has BERT's tokenizer, which gives token types that the model has no rows for
        self._typed = getattr(model.config, "type_vocab_size", 0) > 1

    @classmethod
    def load(cls, name_or_path: str, config: DenseConfig) -> CrossEncoder:
        """A Hugging Face id or folder; lengths, device and precision are those of ``config``.

        Raises:
            MissingDependencyError: torch or transformers is not installed.
            OdqaError: the model cannot be loaded, or has more outputs than one.
        """
        try:
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
        except ImportError as error:
            raise MissingDependencyError(
                str(error.name), "hf", f"the second stage {name_or_path}"
            ) from error
        from odqa.models.devices import pick_device, pick_precision

        try:
            tokenizer = AutoTokenizer.from_pretrained(name_or_path)
            model = AutoModelForSequenceClassification.from_pretrained(name_or_path)
        except (OSError, ValueError) as error:
            raise OdqaError(
                f"rerank.encoder: '{name_or_path}' cannot be loaded: {error}"
            ) from error
        device = pick_device(config.device)
        return cls(
            model.float().to(device).eval(),
            tokenizer,
            max_length=config.max_length,
            batch_tokens=config.batch_tokens,
            precision=pick_precision(config.precision, device),
        )

    def encode(self, pairs: Sequence[Pair]) -> list[dict[str, list[int]]]:
        """The inputs of each pair, not padded."""
        if not pairs:
            return []
        found: Mapping[str, list[list[int]]] = self._tokenizer(
            [question for question, _ in pairs],
            [text for _, text in pairs],
            truncation="longest_first",
            max_length=self._max_length,
            return_attention_mask=False,
            return_token_type_ids=self._typed,
            verbose=False,
        )
        return [{name: found[name][i] for name in found} for i in range(len(pairs))]

    def logits(self, encoded: Sequence[Mapping[str, list[int]]]) -> Any:
        """(pairs,) one batch through the model."""
        inputs = self._tokenizer.pad(
            [dict(one) for one in encoded], padding_side="right", return_tensors="pt"
        ).to(self.model.device)
        return self.model(**inputs).logits[:, 0].float()

    def scores(self, pairs: Sequence[Pair]) -> npt.NDArray[np.float64]:
        """(pairs,) logits."""
        import torch

        encoded = self.encode(pairs)
        scores = np.zeros(len(pairs))
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        lengths = [len(one["input_ids"]) for one in encoded]
        for batch in length_sorted_batches(lengths, self._batch_tokens):
            with (
                torch.inference_mode(),
                torch.autocast(
                    self.model.device.type,
                    dtype=dtype[self._precision],
                    enabled=self._precision != "fp32",
                ),
            ):
                scores[batch] = self.logits([encoded[i] for i in batch]).cpu().numpy()
        return scores


class CrossEncoderReranker:
    """Orders the first ``config.depth`` candidates by logit mixed with the first stage's score.

    The logits of one question's candidates are stretched to [0, 1] first, for they have no scale of
    their own.
    """

    def __init__(self, encoder: CrossEncoder, config: RerankConfig) -> None:
        """
        Raises:
            ConfigError: weight or depth is out of range.
        """
        check_rerank(config)
        self._encoder, self._config = encoder, config

    def rerank(
        self, questions: Sequence[str], candidates: Sequence[Sequence[Candidate]]
    ) -> list[list[Candidate]]:
        """The same candidates in a better order."""
        seen = [found[: self._config.depth] for found in candidates]
        scores = self._encoder.scores([
            (question, passage_text(candidate.passage))
            for question, head in zip(questions, seen, strict=True)
            for candidate in head
        ])  # fmt: skip
        reranked, done = [], 0
        for found, head in zip(candidates, seen, strict=True):
            own = min_max(dict(enumerate(scores[done : done + len(head)].tolist())))
            done += len(head)
            mixed = mixed_scores(
                [own[i] for i in range(len(head))],
                [candidate.score for candidate in found],
                weight=self._config.weight,
            )
            reranked.append(rerank_candidates(zip(found, mixed, strict=True), "rerank"))
        return reranked
