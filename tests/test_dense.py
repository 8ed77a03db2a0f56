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
from odqa.retrieval import five_bits
from odqa.retrieval.dense import DenseRetriever, recall_of, update_dense, write_dense
from odqa.retrieval.gpu import TorchVectors, on_device
from odqa.retrieval.storages import (
    STORAGES,
    bytes_per_vector,
    check_enough,
    check_storage,
    open_vectors,
)

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
    write_dense(tmp_path, vectors, DenseConfig(faiss="flat"))
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


@pytest.mark.parametrize("name", ["dense.json", "vectors.faiss", "signs.npy", "rest.npy"])
@pytest.mark.parametrize("damage", ["absent", "cut"])
def test_damaged_files_are_named(tmp_path: Path, name: str, damage: str) -> None:
    build(tmp_path, ["가", "나"] * 50, "flat" if name == "vectors.faiss" else "sq5")
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    if damage == "cut":
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    store = ListStore([make_passage(f"{i}#0", "가") for i in range(100)])
    with pytest.raises(IndexNotUsableError, match="build the index again"):
        DenseRetriever.open(tmp_path, store, LetterEncoder(), DenseConfig())


def test_bad_vectors_and_storages_are_refused(tmp_path: Path) -> None:
    vectors = np.ones((3, 2), dtype=np.float32)
    with pytest.raises(ConfigError, match=r"dense.faiss.*sq5, flat, fp16, sq8"):
        write_dense(tmp_path, vectors, DenseConfig(faiss="pq"))
    with pytest.raises(ConfigError, match="cannot be learnt from 3 vectors"):
        write_dense(tmp_path, vectors, DenseConfig(faiss="IVF16,Flat"))
    with pytest.raises(ValueError, match="matrix"):
        write_dense(tmp_path, vectors[0], DenseConfig())
    vectors[1, 1] = np.nan
    for storage in STORAGES:
        with pytest.raises(ValueError, match="not finite"):
            write_dense(tmp_path, vectors, DenseConfig(faiss=storage))


@pytest.mark.parametrize(
    "storage",
    ["", "unknown", "PQ7", "IVF0,Flat", "IVF1000000000,Flat", "HNSW0", "IDMap,Flat", "IDMap2,SQ8",
     "PCA16,IDMap,Flat", "NSG16,Flat", "IVF4,PQ8x4fs"],
)  # fmt: skip
def test_a_storage_that_cannot_work_is_told_by_its_name(storage: str) -> None:
    with pytest.raises(ConfigError, match=r"dense\.faiss: .*known: sq5, flat, fp16, sq8, and"):
        check_storage(storage, 32)


@pytest.mark.parametrize(
    ("storage", "least"),
    [("IVF64,SQ8", 64), ("PQ8", 256), ("PQ8x4", 16), ("IVF20,PQ8x4", 20), ("PCA16,Flat", 16),
     ("OPQ8,IVF4,PQ8", 256), ("HNSW16,PQ8", 256), ("IVF30,Flat,RFlat", 30), ("HNSW16", 1)],
)  # fmt: skip
def test_how_many_vectors_a_storage_takes_is_known_before(storage: str, least: int) -> None:
    check_storage(storage, 32)
    check_enough(storage, 32, least)
    with pytest.raises(ConfigError, match=f"from {least - 1} vectors: it needs {least} to"):
        check_enough(storage, 32, least - 1)


def test_of_many_vectors_only_so_many_are_shown_to_a_storage() -> None:
    check_enough("IVF70000,Flat", 8, 100_000)
    with pytest.raises(ConfigError, match="and 50001 are taken"):
        check_enough("IVF70000,Flat", 8, 100_001)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_memory_mapped_matrix_gives_the_same_files(tmp_path: Path, storage: str) -> None:
    _, vectors = build(tmp_path / "array", [f"글 {i}" for i in range(300)], storage)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    write_dense(
        tmp_path / "mapped", mapped, DenseConfig(faiss=storage), encoder_fingerprint="letters/1"
    )
    files = {
        name: {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("array", "mapped")
    }
    assert files["array"] == files["mapped"]


LEARNT = ("IVF8,Flat", "IVF4,SQ8", "HNSW16", "PQ8x4", "IVF4,PQ8x4")


@pytest.mark.parametrize("storage", LEARNT)
def test_any_index_of_faiss_can_be_the_storage(tmp_path: Path, storage: str) -> None:
    retriever, _ = build(tmp_path, [f"글 {i % 400}" for i in range(800)], storage)
    questions = [f"질문 {i}" for i in range(30)] + ["", "글 3"]
    check_retriever(retriever, questions, k=9)
    check_fewer_is_a_prefix(retriever, questions, k=6)


@pytest.mark.parametrize("storage", [*STORAGES, *LEARNT])
def test_an_update_keeps_adds_and_drops(tmp_path: Path, storage: str) -> None:
    texts = [f"글 {i}" for i in range(600)]
    build(tmp_path / "old", texts, storage)
    kept = np.arange(600) % 3 != 1
    new_rows = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)
    added = ["새 글", "또 다른 글"]
    encoder = LetterEncoder()
    update_dense(tmp_path / "new", tmp_path / "old", new_rows, encoder.encode_questions(added))
    now = [text for text, stays in zip(texts, kept, strict=True) if stays] + added
    store = ListStore([make_passage(f"{i}#0", text) for i, text in enumerate(now)])
    retriever = DenseRetriever.open(
        tmp_path / "new", store, encoder, DenseConfig(device="cpu", faiss=storage)
    )
    for text in ("글 0", "글 599", "새 글"):
        (found,) = retriever.retrieve([text], k=20)
        assert text in [c.passage.text for c in found]
    assert all(c.passage.text != "글 1" for c in retriever.retrieve(["글 1"], k=9)[0])


def random_vectors(n: int, dim: int, seed: int = 1) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_lloyds_levels_are_those_in_the_tables() -> None:
    levels = five_bits._levels()
    np.testing.assert_allclose(levels, -levels[::-1], atol=1e-5)
    # J. Max, Quantizing for Minimum Distortion (1960), table I, N = 32
    np.testing.assert_allclose(levels[16:20], [0.0659, 0.1981, 0.3314, 0.4668], atol=3e-3)
    np.testing.assert_allclose(levels[-1], 3.263, atol=1e-2)


@pytest.mark.parametrize("dim", [256, 100, 1100])
def test_five_bits_lose_what_theory_says(tmp_path: Path, dim: int) -> None:
    """Lloyd's 32 levels leave .0025 of the variance; a known length takes some of that away."""
    rotation = five_bits.rotation(dim)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(dim), atol=1e-5)
    vectors = random_vectors(200, dim)
    vectors[7] = 0
    vectors[9] = np.eye(1, dim)  # the rotation spreads it
    five_bits.write_five_bits(tmp_path, 200, dim, [five_bits.encode(vectors)])
    stored = five_bits.FiveBitVectors.open(tmp_path, dim)
    back = stored.reconstruct_batch(np.arange(200))
    errors = np.square(back - vectors).sum(axis=1)
    assert not back[7].any()
    assert errors.max() < 0.008
    assert errors.mean() < 0.0028
    files = sum(path.stat().st_size - 128 for path in tmp_path.iterdir())
    assert files == 200 * five_bits.bytes_per_vector(dim)


def test_five_bits_find_what_an_exact_search_finds(tmp_path: Path) -> None:
    centres, near = random_vectors(50, 64), random_vectors(5000, 64, seed=2)
    vectors = near + centres.repeat(100, axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    write_dense(tmp_path, vectors, DenseConfig(), probes=centres)
    record = recall_of(tmp_path)
    assert record["storage"] == "sq5"
    assert record["probes"] == 50
    stored = five_bits.FiveBitVectors.open(tmp_path, 64)
    rows = stored.search(centres, 20)[1]
    exact = np.argsort(-(centres @ vectors.T), axis=1)[:, :20]
    by_hand = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(rows, exact, strict=True)])
    assert record["recall_at_20"] == pytest.approx(by_hand, abs=1e-3)
    assert by_hand > 0.9


def test_the_effort_is_the_least_that_finds_enough(tmp_path: Path) -> None:
    vectors = random_vectors(4000, 32)
    write_dense(tmp_path, vectors, DenseConfig(faiss="IVF256,Flat"), probes=vectors[:40])
    record = recall_of(tmp_path)
    assert record["effort"] in (32, 64, 128, 256)
    assert record["recall_at_20"] >= 0.97
    fewer = open_vectors(tmp_path, "IVF256,Flat", 32, record["effort"] // 2)
    exact = np.sort(vectors[:40] @ vectors.T, axis=1)[:, -20]
    scores, _ = fewer.search(vectors[:40], 20)
    assert np.mean(scores >= exact[:, np.newaxis] - 1e-5) < 0.97


def test_bytes_that_are_planned_are_those_of_the_file(tmp_path: Path) -> None:
    vectors = random_vectors(5000, 64)
    for storage in (*STORAGES, "IVF16,SQ8", "HNSW16"):
        directory = tmp_path / storage
        write_dense(directory, vectors, DenseConfig(faiss=storage))
        size = sum(path.stat().st_size for path in directory.iterdir())
        planned = 5000 * bytes_per_vector(storage, 5000, 64)
        assert planned == pytest.approx(size, rel=0.25), storage


def test_torch_finds_what_faiss_flat_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    vectors = random_vectors(3000, 48)
    write_dense(tmp_path, vectors, DenseConfig(faiss="flat"))
    flat = open_vectors(tmp_path, "flat", 48)
    monkeypatch.setattr("odqa.retrieval.gpu._SCORES", 4096)  # many chunks
    exact = TorchVectors(flat, 48, "cpu")
    questions = random_vectors(30, 48, seed=3)
    scores, rows = exact.search(questions, 50)
    wanted, wanted_rows = flat.search(questions, 50)
    np.testing.assert_array_equal(rows, wanted_rows)
    np.testing.assert_allclose(scores, wanted, atol=1e-5)
    assert exact.search(questions[:1], 5000)[1].shape == (1, 3000)
    half = TorchVectors(flat, 48, "cpu", half=True)
    overlap = [
        len(set(a) & set(b)) for a, b in zip(half.search(questions, 50)[1], rows, strict=True)
    ]
    assert np.mean(overlap) > 49


def test_without_a_gpu_the_cpu_searches(tmp_path: Path) -> None:
    vectors = random_vectors(10, 8)
    write_dense(tmp_path, vectors, DenseConfig(faiss="flat"))
    flat = open_vectors(tmp_path, "flat", 8)
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert on_device(flat, 8, "cuda") == (flat, 10)
    assert on_device(flat, 8, "auto") == (flat, 10)


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
