"""Any Hugging Face encoder as an ``Encoder``: pooled token states, scaled to unit length."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from odqa.config import DenseConfig
from odqa.errors import ConfigError, MissingDependencyError, OdqaError
from odqa.models.devices import check_device, check_precision
from odqa.protocols import Vectors
from odqa.types import Passage

POOLING = "1_Pooling/config.json"  # beside a model, where sentence-transformers leaves it
POOLINGS = ("cls", "mean", "last")
_MODES = {  # sentence-transformers' names
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
_TOKENIZE_AT_ONCE = 4096  # texts whose token numbers are held in memory together

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Prescription:
    """How a model's authors say it is to be used."""

    pooling: str
    question_prefix: str = ""
    passage_prefix: str = ""


E5 = Prescription("mean", "query: ", "passage: ")
_QWEN3 = Prescription(
    "last",
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
)
PRESCRIPTIONS: dict[str, Prescription] = {
    "BAAI/bge-m3": Prescription("cls"),
    "nlpai-lab/KURE-v1": Prescription("cls"),
    "dragonkue/BGE-m3-ko": Prescription("cls"),
    "intfloat/multilingual-e5-small": E5,
    "intfloat/multilingual-e5-base": E5,
    "intfloat/multilingual-e5-large": E5,
    "Qwen/Qwen3-Embedding-0.6B": _QWEN3,
}


def prescription(config: DenseConfig) -> Prescription:
    """Pooling and prefixes: what ``config`` says, else the table, else the model's own files.

    A folder or model that the table does not name is asked for the settings that
    sentence-transformers leaves beside a model; where it has none, mean pooling without prefixes.

    Raises:
        ConfigError: the pooling is unknown.
    """
    known = PRESCRIPTIONS.get(config.encoder) or own_prescription(config.encoder)
    if config.pooling != "auto":
        known = replace(known, pooling=config.pooling)
    if config.question_prefix is not None:
        known = replace(known, question_prefix=config.question_prefix)
    if config.passage_prefix is not None:
        known = replace(known, passage_prefix=config.passage_prefix)
    if known.pooling not in POOLINGS:
        raise ConfigError(
            f"dense.pooling: unknown '{known.pooling}'; known: auto, {', '.join(POOLINGS)}"
        )
    return known


def own_prescription(model: str) -> Prescription:
    """What sentence-transformers left beside a model; mean pooling without prefixes if nothing."""
    pooling = model_json(model, POOLING)
    prompts = model_json(model, "config_sentence_transformers.json").get("prompts") or {}
    named = [name for mode, name in _MODES.items() if pooling.get(mode)]
    return Prescription(
        named[0] if len(named) == 1 else "mean",
        str(prompts.get("query", "")),
        str(prompts.get("passage", prompts.get("document", ""))),
    )


def write_prescription(folder: Path, how: Prescription, *, dim: int) -> None:
    """Leave beside a model the settings that ``prescription`` reads, as sentence-transformers does.

    Args:
        folder: the model's.
        how: pooling and prefixes.
        dim: length of the vectors.
    """
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    pooling = {mode: name == how.pooling for mode, name in _MODES.items()}
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(modules)
        ],
        POOLING: {"word_embedding_dimension": dim, **pooling},
        "config_sentence_transformers.json": {
            "prompts": {"query": how.question_prefix, "passage": how.passage_prefix},
            "similarity_fn_name": "cosine",
        },
    }
    for _, path in modules:
        (folder / path).mkdir(parents=True, exist_ok=True)
    for name, record in files.items():
        (folder / name).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def model_json(model: str, name: str) -> dict[str, Any]:
    """A JSON file of a Hugging Face model or folder; {} where it has none."""
    from transformers.utils.hub import cached_file

    path = cached_file(
        model,
        name,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return {}
    record = json.loads(Path(path).read_text(encoding="utf-8"))
    return record if isinstance(record, dict) else {}


class TransformersEncoder:
    """A transformer whose pooled last hidden states are the vectors.

    Texts are sorted by length and put into batches of at most ``batch_tokens`` tokens, padding
    included. A passage is given as its prefix, its title, a line break and its text.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        config: DenseConfig,
        how: Prescription,
        *,
        progress: Progress | None = None,
    ) -> None:
        """
        Args:
            model: a ``PreTrainedModel`` that returns ``last_hidden_state``, on its device.
            tokenizer: its fast tokenizer.
            config: ``max_length`` and ``batch_tokens`` are used.
            how: pooling and prefixes.
            progress: called with (texts done, texts in all) after every batch of passages.
        """
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._how = how
        self._max_length = fitting_length(config.max_length, tokenizer, model)
        self._batch_tokens = config.batch_tokens
        self._progress = progress
        self._fingerprint = (
            f"transformers/1;weights={_weights_digest(model)};pooling={how.pooling};"
            f"question={how.question_prefix!r};passage={how.passage_prefix!r};"
            f"max_length={self._max_length}"
        )

    @classmethod
    def load(cls, config: DenseConfig, *, progress: Progress | None = None) -> TransformersEncoder:
        """The model ``config.encoder`` (a Hugging Face id or a folder).

        Raises:
            MissingDependencyError: torch or transformers is not installed.
            ConfigError: pooling, precision or device is unknown or absent.
            OdqaError: the model cannot be found or loaded.
        """
        try:
            import torch
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise MissingDependencyError(
                str(error.name), "hf", f"the encoder {config.encoder}"
            ) from error
        device = _device(config.device)
        dtype = getattr(torch, _precision(config.precision, device))
        try:
            tokenizer = AutoTokenizer.from_pretrained(config.encoder)
            model = AutoModel.from_pretrained(config.encoder, dtype="auto")
        except (OSError, ValueError) as error:
            raise OdqaError(
                f"dense.encoder: '{config.encoder}' cannot be loaded: {error}. Give a bundled "
                "encoder's name, a Hugging Face id, or a folder with a model and its tokenizer"
            ) from error
        # The fingerprint is taken of the weights as they are stored, before they are converted.
        encoder = cls(model, tokenizer, config, prescription(config), progress=progress)
        model.to(device=device, dtype=dtype)
        return encoder

    @property
    def fingerprint(self) -> str:
        """Weights, pooling, prefixes and length; not the precision, which moves vectors little."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        return int(self._model.config.hidden_size)

    def encode_questions(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32 unit rows; a row of zeros for a text of nothing but space."""
        return self._encode([self._prefixed(self._how.question_prefix, text) for text in texts])

    def encode_passages(self, passages: Sequence[Passage]) -> Vectors:
        """As ``encode_questions``, for passages with their titles."""
        texts = [
            self._prefixed(self._how.passage_prefix, f"{passage.title}\n{passage.text}".strip())
            for passage in passages
        ]
        return self._encode(texts, progress=self._progress)

    @staticmethod
    def _prefixed(prefix: str, text: str) -> str:
        return prefix + text if text.strip() else ""

    def _encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        done = 0
        for start in range(0, len(texts), _TOKENIZE_AT_ONCE):
            block = texts[start : start + _TOKENIZE_AT_ONCE]
            token_ids: list[list[int]] = self._tokenizer(
                list(block), truncation=True, max_length=self._max_length
            )["input_ids"]
            present = [i for i, text in enumerate(block) if text]
            for batch in length_sorted_batches(
                [len(token_ids[i]) for i in present], self._batch_tokens
            ):
                rows = [present[i] for i in batch]
                vectors[[start + row for row in rows]] = self._forward([token_ids[r] for r in rows])
                done += len(rows)
                if progress is not None:
                    progress(done, len(texts))
        return vectors

    def _forward(self, token_ids: Sequence[Sequence[int]]) -> Vectors:
        import torch

        inputs = self._tokenizer.pad(
            {"input_ids": [list(ids) for ids in token_ids]},
            padding_side="right",
            return_tensors="pt",
        ).to(self._model.device)
        with torch.inference_mode():
            states = self._model(**inputs).last_hidden_state.float()  # (batch, length, dim)
            pooled = pool(states, inputs["attention_mask"], self._how.pooling)
            vectors: Vectors = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return vectors


def pool(states: Any, attention_mask: Any, pooling: str) -> Any:
    """Token states to one vector a text.

    Args:
        states: (batch, length, dim) last hidden states.
        attention_mask: (batch, length), 1 for a token, 0 for padding, which stands on the right.
        pooling: "cls" (the first token), "mean" (of all tokens) or "last" (the last token).

    Returns:
        (batch, dim).
    """
    if pooling == "cls":
        return states[:, 0]
    lengths = attention_mask.sum(dim=1)  # (batch,)
    if pooling == "last":
        return states[range(len(states)), lengths - 1]
    summed = (states * attention_mask.unsqueeze(-1)).sum(dim=1)
    return summed / lengths.clamp(min=1).unsqueeze(-1)


def length_sorted_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Places of ``lengths``, longest first, in batches of at most ``batch_tokens`` with padding.

    The longest come first so that a batch that does not fit into memory fails at once. A text that
    is longer than ``batch_tokens`` is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batch: list[int] = []
    for place in order:
        if batch and lengths[batch[0]] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def fitting_length(max_length: int, tokenizer: Any, model: Any) -> int:
    """``max_length``, or less where the model has fewer positions."""
    limits = [max_length, tokenizer.model_max_length]
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None:
        # RoBERTa's positions are counted from pad_token_id + 1, so it has that many fewer.
        offset = model.config.pad_token_id + 1 if "roberta" in model.config.model_type else 0
        limits.append(positions - offset)
    return int(min(limits))


def _weights_digest(model: Any) -> str:
    """A digest of every parameter's name, shape and first numbers: 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for name, parameter in sorted(model.named_parameters()):
        head = parameter.detach().flatten()[:256].float().cpu().numpy()
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(head.tobytes())
    return digest.hexdigest()


def _device(device: str) -> str:
    import torch

    check_device(device, "dense.device")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"dense.device is '{device}', but torch finds no GPU; use cpu or auto")
    return device


def _precision(precision: str, device: str) -> str:
    """The name of a torch dtype: on a CPU float32, on a GPU bfloat16 where it has it."""
    import torch

    check_precision(precision, "dense.precision")
    names = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    if precision != "auto":
        return names[precision]
    if device == "cpu":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
