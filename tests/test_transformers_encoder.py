"""The transformers encoder, with a tiny model of random weights that is made here."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import check_encoder, make_passage

from odqa.config import DenseConfig
from odqa.errors import ConfigError, OdqaError
from odqa.retrieval.transformers_encoder import (
    PRESCRIPTIONS,
    TransformersEncoder,
    length_sorted_batches,
    prescription,
)

PASSAGES = [
    make_passage("1#0", "세종대왕은 훈민정음을 만들었다.", "세종"),
    make_passage("1#1", "그는 조선의 임금이다. " * 20, "세종"),
    make_passage("2#0", "한강은 서울을 흐른다.", "한강"),
]
QUESTIONS = ["훈민정음은 누가 만들었나?", "한강", "서울을 흐르는 강은 " * 12]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with a vocabulary of the syllables above, random weights."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("model")
    letters = sorted(set("".join([*QUESTIONS, *(p.title + p.text for p in PASSAGES), "queryasg:"])))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += [mark + letter for letter in letters if letter.strip() for mark in ("", "##")]
    tokenizer = transformers.BertTokenizerFast(
        vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=False
    )
    torch.manual_seed(5)
    config = transformers.BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def load(folder: Path, **changes: Any) -> TransformersEncoder:
    config = DenseConfig(encoder=str(folder), device="cpu", **changes)
    return TransformersEncoder.load(config)


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_transformers_encoder_conforms(model_folder: Path, pooling: str) -> None:
    check_encoder(load(model_folder, pooling=pooling, batch_tokens=90), QUESTIONS, PASSAGES)


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_pooling_is_what_its_name_says(model_folder: Path, pooling: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(model_folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    tokens = tokenizer("query: 한강", return_tensors="pt")
    assert tokenizer.unk_token_id not in tokens["input_ids"]
    with torch.no_grad():
        states = model(**tokens).last_hidden_state[0]  # (length, dim), nothing padded
    state = {"cls": states[0], "mean": states.mean(dim=0), "last": states[-1]}[pooling].numpy()
    encoder = load(model_folder, pooling=pooling, question_prefix="query: ")
    padded = encoder.encode_questions(["한강", QUESTIONS[2]])[0]
    np.testing.assert_allclose(padded, state / sqrt((state**2).sum()), atol=1e-5)


def test_the_title_and_the_prefixes_are_seen(model_folder: Path) -> None:
    encoder = load(model_folder, pooling="mean")
    other_title = [replace(PASSAGES[0], title="한강")]
    assert not np.allclose(
        encoder.encode_passages(PASSAGES[:1]), encoder.encode_passages(other_title)
    )
    prefixed = load(model_folder, pooling="mean", passage_prefix="query: ")
    assert not np.allclose(encoder.encode_passages(PASSAGES), prefixed.encode_passages(PASSAGES))
    np.testing.assert_allclose(
        encoder.encode_questions(QUESTIONS), prefixed.encode_questions(QUESTIONS), atol=1e-6
    )


def test_fingerprints_tell_apart_what_gives_other_vectors(
    model_folder: Path, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    encoder = load(model_folder)
    assert encoder.fingerprint == load(model_folder).fingerprint
    assert encoder.fingerprint == load(model_folder, precision="bf16").fingerprint
    model = transformers.AutoModel.from_pretrained(model_folder)
    with torch.no_grad():
        model.encoder.layer[1].output.dense.bias[0] += 0.1
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(model_folder).save_pretrained(tmp_path)
    others = [
        load(tmp_path),
        load(model_folder, pooling="cls"),
        load(model_folder, passage_prefix="passage: "),
        load(model_folder, max_length=20),
    ]
    prints = {encoder.fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == 1 + len(others)


def test_long_texts_are_cut_to_what_the_model_takes(model_folder: Path) -> None:
    encoder = load(model_folder, max_length=512)  # the model has 64 positions
    long, longer = encoder.encode_questions(["한강 " * 100, "한강 " * 5000])
    np.testing.assert_allclose(long, longer, atol=1e-5)


def test_progress_counts_passages(model_folder: Path) -> None:
    told: list[tuple[int, int]] = []
    config = DenseConfig(encoder=str(model_folder), device="cpu", batch_tokens=64)
    encoder = TransformersEncoder.load(
        config, progress=lambda done, total: told.append((done, total))
    )
    encoder.encode_passages(PASSAGES)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (3, 3)


def test_known_models_are_used_as_their_authors_say() -> None:
    e5 = prescription(DenseConfig(encoder="intfloat/multilingual-e5-small"))
    assert (e5.pooling, e5.question_prefix, e5.passage_prefix) == ("mean", "query: ", "passage: ")
    assert prescription(DenseConfig(encoder="BAAI/bge-m3")).pooling == "cls"
    qwen = PRESCRIPTIONS["Qwen/Qwen3-Embedding-0.6B"]
    assert qwen.pooling == "last"
    assert qwen.question_prefix.startswith("Instruct: ")
    changed = prescription(DenseConfig(encoder="BAAI/bge-m3", pooling="mean", question_prefix="Q "))
    assert (changed.pooling, changed.question_prefix) == ("mean", "Q ")


def test_a_folder_may_prescribe_its_own_use(model_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    assert prescription(DenseConfig(encoder=str(model_folder))).pooling == "mean"
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (tmp_path / "config_sentence_transformers.json").write_text('{"prompts": {"query": "질문: "}}')
    own = prescription(DenseConfig(encoder=str(tmp_path)))
    assert (own.pooling, own.question_prefix, own.passage_prefix) == ("cls", "질문: ", "")


def test_what_cannot_be_loaded_is_said(model_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(OdqaError, match=r"dense\.encoder"):
        load(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"dense\.pooling"):
        load(model_folder, pooling="max")
    with pytest.raises(ConfigError, match=r"dense\.precision"):
        load(model_folder, precision="int8")
    with pytest.raises(ConfigError, match=r"dense\.device"):
        TransformersEncoder.load(DenseConfig(encoder=str(model_folder), device="tpu"))


def test_batches_hold_at_most_their_tokens() -> None:
    lengths = [3, 9, 1, 4, 4, 20, 2]
    batches = list(length_sorted_batches(lengths, 10))
    assert batches == [[5], [1], [3, 4], [0, 6, 2]]
    assert list(length_sorted_batches([], 10)) == []
