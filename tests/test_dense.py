"""Dense retrieval against numpy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import (
    ListStore,
    check_fewer_is_a_prefix,
    check_retriever,
    ids,
    make_passage,
)

from odqa.config import DenseConfig
from odqa.errors import ConfigError, IndexNotUsableError
from odqa.retrieval.dense import STORAGES, DenseRetriever, write_dense

DIM = 16


class LetterEncoder:
    """A unit vector that hangs on the text alone; zeros for an empty text."""

    fingerprint = "letters/1"
    dim = DIM

    def encode_questions(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), DIM), dtype=np.float32)
        for row, text in enumerate(texts):
            if text:
                seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
                vectors[row] = np.random.default_rng(seed).standard_normal(DIM)
                vectors[row] /= np.linalg.norm(vectors[row])
        return vectors

    def encode_passages(self, passages: Sequence[Any]) -> np.ndarray:
        return self.encode_questions([passage.text for passage in passages])


def build(
    directory: Path, texts: Sequence[str], storage: str = "flat"
) -> tuple[DenseRetriever, np.ndarray]:
    encoder = LetterEncoder()
    store = ListStore([make_passage(f"{i}#0", text) for i, text in enumerate(texts)])
    vectors = encoder.encode_passages([store[i] for i in range(len(store))])
    config = DenseConfig(faiss=storage, device="cpu")
    write_dense(directory, vectors, config, encoder_fingerprint=encoder.fingerprint)
    return DenseRetriever.open(directory, store, encoder, config), vectors


def test_cosines_worked_by_hand(tmp_path: Path) -> None:
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1], [-0.8, 0.6]], dtype=np.float32)
    write_dense(tmp_path, vectors, DenseConfig())
    store = ListStore([make_passage(f"{i}#0", "가") for i in range(4)])
    encoder = LetterEncoder()
    encoder.dim = 2
    retriever = DenseRetriever.open(tmp_path, store, encoder, DenseConfig(device="cpu"))
    (found,) = retriever.rank_vectors(np.array([[0.8, 0.6]], dtype=np.float32), k=3)
    assert [row for row, _ in found] == [1, 0, 2]
    expected = [0.8 * 0.6 + 0.6 * 0.8, 0.8, 0.6]
    assert [score for _, score in found] == pytest.approx(expected, abs=1e-6)


def test_flat_is_exact(tmp_path: Path) -> None:
    texts = [f"글 {i}" for i in range(500)]
    retriever, vectors = build(tmp_path, texts)
    questions = [f"질문 {i}" for i in range(30)]
    asked = LetterEncoder().encode_questions(questions).astype(np.float64)
    for found, question in zip(retriever.retrieve(questions, k=10), asked, strict=True):
        cosines = vectors.astype(np.float64) @ question
        best = np.argsort(-cosines)[:10]
        assert ids(found) == [f"{row}#0" for row in best]
        np.testing.assert_allclose([c.score for c in found], cosines[best], atol=1e-6)


# fp16 keeps 11 bits of a number below 1; sq8 cuts a range of about 1.5 into 255 steps.
@pytest.mark.parametrize(("storage", "error"), [("fp16", 2**-11 * 4), ("sq8", 1.5 / 255 * 4)])
def test_compressed_storages_are_close(tmp_path: Path, storage: str, error: float) -> None:
    texts = [f"글 {i}" for i in range(500)]
    retriever, vectors = build(tmp_path, texts, storage)
    (found,) = retriever.retrieve(["질문"], k=500)
    assert len(found) == 500
    exact = vectors @ LetterEncoder().encode_questions(["질문"])[0]
    by_row = {int(c.passage.doc_id): c.score for c in found}
    np.testing.assert_allclose([by_row[row] for row in range(500)], exact, atol=error)


@pytest.mark.parametrize("storage", STORAGES)
def test_conformance(tmp_path: Path, storage: str) -> None:
    retriever, _ = build(tmp_path, [f"글 {i % 60}" for i in range(100)], storage)
    # More than 20 questions: from there on FAISS multiplies matrices, in another order of sums.
    questions = [f"질문 {i}" for i in range(30)] + ["", "글 3"]
    check_retriever(retriever, questions, k=9)
    check_retriever(retriever, questions[:3], k=1000)
    check_fewer_is_a_prefix(retriever, questions, k=6)


@pytest.mark.parametrize("storage", STORAGES)
def test_ties_go_by_passage_id_however_many(tmp_path: Path, storage: str) -> None:
    retriever, _ = build(tmp_path, ["같은 글"] * 300, storage)
    (found,) = retriever.retrieve(["같은 글"], k=4)
    assert ids(found) == ["0#0", "1#0", "10#0", "100#0"]
    assert len({c.score for c in found}) == 1


def test_a_question_without_a_token_finds_nothing(tmp_path: Path) -> None:
    retriever, _ = build(tmp_path, ["가", "나"])
    empty, full = retriever.retrieve(["", "가"], k=2)
    assert empty == []
    assert ids(full) == ["0#0", "1#0"]
    assert retriever.retrieve([""], k=2) == [[]]


def test_an_index_of_another_encoder_or_store_is_refused(tmp_path: Path) -> None:
    build(tmp_path, ["가", "나"])
    store = ListStore([make_passage(f"{i}#0", "가") for i in range(2)])
    encoder = LetterEncoder()
    with pytest.raises(IndexNotUsableError, match="1 passages in the store"):
        DenseRetriever.open(tmp_path, ListStore([store[0]]), encoder, DenseConfig())
    encoder.fingerprint = "letters/2"
    with pytest.raises(IndexNotUsableError, match=r"'letters/1'.*'letters/2'"):
        DenseRetriever.open(tmp_path, store, encoder, DenseConfig())
    encoder.fingerprint, encoder.dim = "letters/1", 3
    with pytest.raises(IndexNotUsableError, match="vector length 16"):
        DenseRetriever.open(tmp_path, store, encoder, DenseConfig())


@pytest.mark.parametrize("name", ["dense.json", "vectors.faiss"])
@pytest.mark.parametrize("damage", ["absent", "cut"])
def test_damaged_files_are_named(tmp_path: Path, name: str, damage: str) -> None:
    build(tmp_path, ["가", "나"] * 50)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    if damage == "cut":
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    store = ListStore([make_passage(f"{i}#0", "가") for i in range(100)])
    with pytest.raises(IndexNotUsableError, match="build the index again"):
        DenseRetriever.open(tmp_path, store, LetterEncoder(), DenseConfig())


def test_bad_vectors_and_storages_are_refused(tmp_path: Path) -> None:
    vectors = np.ones((3, 2), dtype=np.float32)
    with pytest.raises(ConfigError, match=r"dense.faiss.*flat, fp16, sq8"):
        write_dense(tmp_path, vectors, DenseConfig(faiss="pq"))
    with pytest.raises(ValueError, match="matrix"):
        write_dense(tmp_path, vectors[0], DenseConfig())
    vectors[1, 1] = np.nan
    for storage in STORAGES:
        with pytest.raises(ValueError, match="not finite"):
            write_dense(tmp_path, vectors, DenseConfig(faiss=storage))


@pytest.mark.parametrize("storage", STORAGES)
def test_a_memory_mapped_matrix_gives_the_same_file(tmp_path: Path, storage: str) -> None:
    _, vectors = build(tmp_path / "array", [f"글 {i}" for i in range(300)], storage)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    write_dense(tmp_path / "mapped", mapped, DenseConfig(faiss=storage))
    files = [(tmp_path / name / "vectors.faiss").read_bytes() for name in ("array", "mapped")]
    assert files[0] == files[1]


@pytest.mark.gpu
def test_a_gpu_gives_what_a_cpu_gives(tmp_path: Path) -> None:
    import faiss

    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        pytest.skip("FAISS has no GPU here")
    on_cpu, _ = build(tmp_path, [f"글 {i}" for i in range(5000)])
    config = DenseConfig(device="cuda")
    on_gpu = DenseRetriever.open(tmp_path, on_cpu._store, LetterEncoder(), config)
    questions = [f"질문 {i}" for i in range(50)]
    assert on_gpu.retrieve(questions, k=20) == on_cpu.retrieve(questions, k=20)
