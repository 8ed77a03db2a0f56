"""Models of random weights that are made in a moment, in Hugging Face folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from odqa.corpus.datasets import read_examples
from odqa.models.pieces import SPECIALS, build_tokenizer, write_tokenizer
from odqa.types import Example

HIDDEN = 64


def vocabulary(texts: Iterable[str], words: Sequence[str] = ()) -> list[tuple[str, float]]:
    """Unigram pieces that spell every text: its characters, with and without the space mark."""
    characters = sorted({character for text in texts for character in text if character.strip()})
    return [
        *((piece, 0.0) for piece in SPECIALS),
        ("▁", -4.0),
        *((word, -5.0) for word in words),
        *((character, -6.0) for character in characters),
        *((f"▁{character}", -7.0) for character in characters),
        ("<mask>", -20.0),
    ]


def sample_examples(n: int) -> list[Example]:
    """The first answerable questions of the sample's training split."""
    examples = [e for e in read_examples("sample", "train") if e.passage is not None and e.answers]
    return examples[:n]


def texts_of(examples: Iterable[Example]) -> list[str]:
    return [
        text
        for example in examples
        if example.passage is not None
        for text in (example.question, example.passage.title, example.passage.text)
    ]


def write_bert(
    folder: Path, texts: Iterable[str], *, reader: bool, layers: int = 2, seed: int = 3
) -> Any:
    """A BERT over unigram pieces, as ``scripts/make_base_model.py`` lays one out; returns it."""
    import torch
    import transformers

    pieces = vocabulary(texts)
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(pieces),
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=512,
        type_vocab_size=2,
        initializer_range=0.2,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    kind = transformers.BertForQuestionAnswering if reader else transformers.BertModel
    model = kind(config).eval()
    model.save_pretrained(folder)
    write_tokenizer(build_tokenizer(pieces), folder, positions=512)
    return model


def write_wordpiece_model(
    folder: Path, texts: Iterable[str], *, roberta: bool, head: str = "QuestionAnswering"
) -> None:
    """A WordPiece vocabulary under BERT, or under RoBERTa's model as KLUE's has it.

    ``head`` is transformers' word: a reader's "QuestionAnswering", "MaskedLM" of a model as it
    comes from pretraining, "SequenceClassification" with one logit.
    """
    import torch
    import transformers

    characters = sorted({character for text in texts for character in text if character.strip()})
    # klue/roberta has [CLS] 0, [PAD] 1, [SEP] 2
    names = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
    pieces = [*names, *(mark + c for c in characters for mark in ("", "##"))]
    tokenizer = transformers.BertTokenizerFast(
        vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=False
    )
    sizes = {
        "vocab_size": len(pieces),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "initializer_range": 0.3,
        "pad_token_id": 1,
    }
    if head == "SequenceClassification":
        sizes["num_labels"] = 1
    torch.manual_seed(4)
    if roberta:
        config = transformers.RobertaConfig(
            **sizes, max_position_embeddings=130, type_vocab_size=1, bos_token_id=0, eos_token_id=2
        )
    else:
        config = transformers.BertConfig(**sizes, max_position_embeddings=128, type_vocab_size=2)
    kind = getattr(transformers, f"{'Roberta' if roberta else 'Bert'}For{head}")
    kind(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def weights_of(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")
