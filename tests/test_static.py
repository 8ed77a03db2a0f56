"""The static encoder: sums worked by hand, index terms as text, and the bundled table."""

from __future__ import annotations

from math import log, sqrt
from pathlib import Path

import numpy as np
import pytest
from conformance import check_encoder, make_passage
from safetensors.numpy import save_file

from odqa.errors import OdqaError
from odqa.models.static import StaticEncoder, make_bags, sum_rows
from odqa.models.weights import read_tensors, write_tensors
from odqa.protocols import TermEncoder
from odqa.text.terms import passage_terms
from odqa.text.tokenizers import create_tokenizer
from odqa.types import Passage

TERMS = ["세종대왕", "훈민정음", "화산", "용암", "조선", "창제", "한강", "서울"]
PASSAGES = [
    make_passage("1#0", "세종대왕 훈민정음 창제 훈민정음", "조선"),
    make_passage("2#0", "화산 용암 용암 용암", "화산"),
    make_passage("3#0", "한강 서울", "한강"),
]
QUESTIONS = ["세종대왕 창제", "용암 화산", "서울 서울 조선"]


def write_table(path: Path, **metadata: str) -> Path:
    random = np.random.default_rng(7)
    tensors = {
        "table": random.normal(size=(len(TERMS), 32)).astype(np.float32),
        "question_weights": np.linspace(0.2, 2, len(TERMS), dtype=np.float32),
        "terms": np.frombuffer("\n".join(TERMS).encode(), dtype=np.uint8),
    }
    said = {"tokenizer_name": "whitespace", "tokenizer": "whitespace/1", "title_weight": "2"}
    write_tensors(path, tensors, said | metadata)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("static") / "table.safetensors")


@pytest.fixture(scope="module")
def encoder(table: Path) -> StaticEncoder:
    return StaticEncoder.load(table)


def test_static_encoder_conforms(encoder: StaticEncoder) -> None:
    check_encoder(encoder, QUESTIONS, PASSAGES, tolerance=0)
    assert isinstance(encoder, TermEncoder)
    assert encoder.terms_fingerprint == "whitespace/1"
    assert encoder.dim == 32
    assert encoder.title_weight == 2


def test_bags_by_hand() -> None:
    bags = make_bags([[3, 1, 3, 3], [], [0]])
    assert bags.ids.tolist() == [1, 3, 0]
    np.testing.assert_allclose(bags.weights, [1 + log(1), 1 + log(3), 1 + log(1)], rtol=1e-7)
    assert bags.starts.tolist() == [0, 2, 2, 3]
    assert make_bags([]).starts.tolist() == [0]


def test_sums_by_hand() -> None:
    rows = np.array([[1, 0], [0, 2], [3, 4], [-1, 0]], dtype=np.float32)
    unit = sum_rows(rows, make_bags([[0, 1, 1], [], [2], [0, 3], []]))
    x, y = 1.0, (1 + log(2)) * 2
    np.testing.assert_allclose(unit[0], [x / sqrt(x * x + y * y), y / sqrt(x * x + y * y)], 1e-6)
    np.testing.assert_array_equal(unit[1], [0, 0])  # no term
    np.testing.assert_allclose(unit[2], [3 / 5, 4 / 5], rtol=1e-6)
    np.testing.assert_array_equal(unit[3], [0, 0])  # 1 - 1 = 0: no direction
    np.testing.assert_array_equal(unit[4], [0, 0])
    assert sum_rows(rows, make_bags([])).shape == (0, 2)


def test_many_texts_are_summed_as_each_alone() -> None:
    random = np.random.default_rng(8)
    rows = random.normal(size=(50, 16)).astype(np.float32)
    texts = [random.integers(0, 50, random.integers(0, 30)).astype(np.int32) for _ in range(600)]
    together = sum_rows(rows, make_bags(texts))
    singly = np.concatenate([sum_rows(rows, make_bags([text])) for text in texts])
    np.testing.assert_array_equal(together, singly)


def test_a_question_term_counts_by_its_weight(encoder: StaticEncoder) -> None:
    table, weights = encoder._table, encoder._question_weights
    wanted = table[0] * weights[0] + table[5] * weights[5]
    found = encoder.encode_questions(["세종대왕 창제"])[0]
    np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted), atol=1e-6)
    wanted = table[4] * np.float32(1 + log(2)) + table[0] + table[1] * np.float32(1 + log(2))
    wanted += table[5]  # the title twice, 훈민정음 twice
    found = encoder.encode_passages(PASSAGES[:1])[0]
    np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted), atol=1e-6)


def test_title_and_heading_are_seen(encoder: StaticEncoder) -> None:
    bare = Passage("4#0", "4", "", "한강", 0, 2)
    headed = Passage("4#0", "4", "", "한강", 0, 2, heading="서울")
    titled = Passage("4#0", "4", "서울", "한강", 0, 2)
    vectors = encoder.encode_passages([bare, headed, titled])
    assert len(np.unique(vectors.round(4), axis=0)) == 3


def test_numbered_terms_give_the_same_bits(encoder: StaticEncoder) -> None:
    random = np.random.default_rng(9)
    vocabulary = ["모르는", *TERMS[::-1], "낱말"]
    texts = [
        [vocabulary[i] for i in random.integers(0, len(vocabulary), random.integers(0, 25))]
        for _ in range(400)
    ]
    texts[3], texts[-1] = [], ["모르는"]
    counts = np.array([len(text) for text in texts], dtype=np.int32)
    numbers = {term: i for i, term in enumerate(vocabulary)}
    ids = np.array([numbers[term] for text in texts for term in text], dtype=np.int32)
    found = encoder.encode_numbered(vocabulary, ids, counts)
    np.testing.assert_array_equal(found, encoder.encode_terms(texts))
    assert not found[3].any()
    assert not found[-1].any()
    empty = np.zeros(0, np.int32)
    assert encoder.encode_numbered([], empty, empty).shape == (0, 32)
    nothing = encoder.encode_numbered([], empty, np.zeros(2, np.int32))
    np.testing.assert_array_equal(nothing, np.zeros((2, 32)))


def test_terms_of_passages_give_their_vectors(encoder: StaticEncoder) -> None:
    terms = passage_terms(PASSAGES, create_tokenizer("whitespace"), encoder.title_weight)
    found = encoder.encode_terms([passage.words for passage in terms])
    np.testing.assert_array_equal(found, encoder.encode_passages(PASSAGES))


def test_unknown_terms_give_a_zero_vector(encoder: StaticEncoder) -> None:
    assert not encoder.encode_questions(["모르는 낱말", "", " ?"]).any()
    assert not encoder.encode_passages([make_passage("9#0", "모르는 낱말")]).any()


def test_a_table_of_another_tokenizer_is_refused(table: Path, tmp_path: Path) -> None:
    other = write_table(tmp_path / "other.safetensors", tokenizer="whitespace/0")
    with pytest.raises(OdqaError, match="whitespace/0"):
        StaticEncoder.load(other)
    with pytest.raises(OdqaError, match=r"nothing\.safetensors"):
        StaticEncoder.load(tmp_path / "nothing.safetensors")


def test_another_models_file_is_refused_by_what_it_lacks(table: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": np.zeros((2, 2), np.float32)}, path, metadata={"format": "pt"})
    with pytest.raises(OdqaError, match="metadata lack tokenizer_name, tokenizer, title_weight;"):
        StaticEncoder.load(path)
    tensors, metadata = read_tensors(table)
    del tensors["question_weights"]
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(
        OdqaError, match=r"model\.safetensors is no .* tensors lack question_weights"
    ):
        StaticEncoder.load(path)


def test_the_fingerprint_is_of_the_content(table: Path, tmp_path: Path) -> None:
    (tmp_path / "same.safetensors").write_bytes(table.read_bytes())
    same = StaticEncoder.load(tmp_path / "same.safetensors")
    assert same.fingerprint == StaticEncoder.load(table).fingerprint
    other = StaticEncoder.load(write_table(tmp_path / "other.safetensors", title_weight="1"))
    assert other.fingerprint != same.fingerprint


def test_the_bundled_table_knows_what_belongs_together() -> None:
    encoder = StaticEncoder.load()
    question = encoder.encode_questions(["세종대왕이 만든 글자는 무엇인가?"])[0]
    right, wrong = encoder.encode_passages(
        [
            make_passage("1#0", "훈민정음은 백성을 위해 조선의 임금이 창제한 문자이다."),
            make_passage("2#0", "화산은 땅속의 마그마가 땅 위로 솟아 나와 이루어진 산이다."),
        ]
    )
    assert question @ right > question @ wrong + 0.1
