"""BM25 against scores worked by hand, bm25s's own index, and a plain loop over passages."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import pytest
from conformance import ListStore, check_fewer_is_a_prefix, check_retriever, ids, make_passage
from hypothesis import given, settings
from hypothesis import strategies as st

from odqa.config import SparseConfig
from odqa.errors import ConfigError, IndexNotUsableError
from odqa.retrieval import bm25_files
from odqa.retrieval.bm25 import Bm25Retriever, Bm25sEngine, RankBm25Engine, write_bm25
from odqa.retrieval.bm25_files import stored_postings
from odqa.retrieval.postings import UNITS, Field, Postings
from odqa.retrieval.ranking import rows_reaching_kth
from odqa.retrieval.vocabulary import MappedVocabulary, write_vocabulary
from odqa.types import Terms

CONFIG = SparseConfig(k1=1.2, b=0.5, discount_question_words=False)
ENGINES = ("bm25s", "rank-bm25")

# Lengths 3, 1, 5, 3: the mean is 3.
TEXTS = ["서울 한강 서울", "부산", "한강 다리 다리 서울 남산", "남산 탑 부산"]


class SpaceTokenizer:
    fingerprint = "space/1"

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        return [text.split() for text in texts]

    def terms(self, texts: Sequence[str]) -> list[Terms]:
        """A word with a hyphen is a compound, and what stands before it a part."""
        return [
            Terms(words, [word.partition("-")[0] for word in words if "-" in word], [])
            for words in self.tokenize(texts)
        ]


def number_terms(texts: Sequence[str]) -> tuple[list[list[int]], list[str]]:
    vocabulary: dict[str, int] = {}
    numbered = [[vocabulary.setdefault(t, len(vocabulary)) for t in text.split()] for text in texts]
    return numbered, list(vocabulary)


def in_shards(passages: Sequence[Sequence[int]], size: int) -> list[Postings]:
    arrays = [np.array(passage, dtype=np.int32) for passage in passages]
    starts = range(0, len(arrays), size)
    return [Postings.of([Field.of(arrays[start : start + size])], start) for start in starts]


def build(
    directory: Path, texts: Sequence[str], config: SparseConfig = CONFIG, shard_size: int = 2
) -> Bm25Retriever:
    numbered, vocabulary = number_terms(texts)
    # A generator: the shards can be walked through only once.
    shards = (shard for shard in in_shards(numbered, shard_size))
    write_bm25(directory, shards, vocabulary, config, tokenizer_fingerprint="space/1")
    store = ListStore([make_passage(f"{i}#0", text) for i, text in enumerate(texts)])
    return Bm25Retriever.open(directory, store, SpaceTokenizer(), config)


def plain_scores(texts: Sequence[str], question: str, k1: float, b: float) -> dict[str, float]:
    """The formula of the module, read aloud."""
    passages = [text.split() for text in texts]
    mean = sum(map(len, passages)) / len(passages)
    scores = {}
    for i, passage in enumerate(passages):
        score = 0.0
        for term in question.split():
            df = sum(term in other for other in passages)
            tf = passage.count(term)
            if tf:
                idf = log(1 + (len(passages) - df + 0.5) / (df + 0.5))
                score += idf * tf / (tf + k1 * (1 - b + b * len(passage) / mean))
        if score:
            scores[f"{i}#0"] = score
    return scores


@pytest.mark.parametrize("engine", ENGINES)
def test_scores_worked_by_hand(tmp_path: Path, engine: str) -> None:
    retriever = build(tmp_path, TEXTS, replace(CONFIG, engine=engine))
    (found,) = retriever.retrieve(["서울 한강"], k=10)
    # N = 4; 서울 and 한강 each stand in two passages; k1 = 1.2, b = 0.5.
    idf = log(1 + (4 - 2 + 0.5) / (2 + 0.5))
    expected = [
        (
            "0#0",
            idf * 2 / (2 + 1.2 * (0.5 + 0.5 * 3 / 3)) + idf * 1 / (1 + 1.2 * (0.5 + 0.5 * 3 / 3)),
        ),
        ("2#0", 2 * idf * 1 / (1 + 1.2 * (0.5 + 0.5 * 5 / 3))),
    ]
    assert ids(found) == [passage_id for passage_id, _ in expected]
    assert [c.score for c in found] == pytest.approx([score for _, score in expected], rel=1e-6)
    assert [c.rank for c in found] == [0, 1]
    assert {c.source for c in found} == {"sparse"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_term_asked_twice_counts_twice(tmp_path: Path, engine: str) -> None:
    retriever = build(tmp_path, TEXTS, replace(CONFIG, engine=engine))
    once, twice = retriever.retrieve(["부산", "부산 부산"], k=10)
    idf = log(1 + (4 - 2 + 0.5) / (2 + 0.5))
    assert once[0].score == pytest.approx(idf * 1 / (1 + 1.2 * (0.5 + 0.5 * 1 / 3)), rel=1e-6)
    assert [c.score for c in twice] == pytest.approx([2 * c.score for c in once], rel=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_term_in_every_passage_still_scores_above_zero(tmp_path: Path, engine: str) -> None:
    retriever = build(tmp_path, ["가", "가", "가 나"], replace(CONFIG, engine=engine))
    (found,) = retriever.retrieve(["가"], k=10)
    idf = log(1 + (3 - 3 + 0.5) / (3 + 0.5))  # BM25Okapi's own would be log(0.5 / 3.5) < 0
    shorter = idf / (1 + 1.2 * (0.5 + 0.5 * 1 / (4 / 3)))
    longer = idf / (1 + 1.2 * (0.5 + 0.5 * 2 / (4 / 3)))
    assert ids(found) == ["0#0", "1#0", "2#0"]
    assert [c.score for c in found] == pytest.approx([shorter, shorter, longer], rel=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_unknown_terms_are_ignored_and_alone_find_nothing(tmp_path: Path, engine: str) -> None:
    retriever = build(tmp_path, TEXTS, replace(CONFIG, engine=engine))
    known, mixed, unknown, empty = retriever.retrieve(["남산", "남산 금강", "금강", ""], k=10)
    assert known == mixed
    assert known
    assert unknown == []
    assert empty == []


@pytest.mark.parametrize("engine", ENGINES)
def test_conformance(tmp_path: Path, engine: str) -> None:
    retriever = build(tmp_path, TEXTS * 5, replace(CONFIG, engine=engine))
    questions = ["서울 한강", "부산", "없는말", "", "남산 다리 남산", "탑"]
    check_retriever(retriever, questions, k=7)
    check_retriever(retriever, questions, k=1000)
    check_fewer_is_a_prefix(retriever, questions, k=12)


@pytest.mark.parametrize("engine", ENGINES)
def test_ties_go_by_passage_id_as_a_string(tmp_path: Path, engine: str) -> None:
    retriever = build(tmp_path, ["가 나"] * 12, replace(CONFIG, engine=engine), shard_size=5)
    (found,) = retriever.retrieve(["가"], k=5)
    assert ids(found) == ["0#0", "1#0", "10#0", "11#0", "2#0"]


@given(
    texts=st.lists(
        st.lists(st.sampled_from("가나다라마바사"), max_size=8).map(" ".join),
        min_size=1,
        max_size=9,
    ),
    question=st.lists(st.sampled_from("가나다라마바사아"), max_size=5).map(" ".join),
    k1=st.floats(0.1, 2),
    b=st.floats(0, 1),
    shard_size=st.integers(1, 10),
)
@settings(max_examples=40, deadline=None)
def test_both_engines_give_the_formula_on_any_text(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    question: str,
    k1: float,
    b: float,
    shard_size: int,
) -> None:
    expected = plain_scores(texts, question, k1, b)
    for engine in ENGINES:
        config = replace(CONFIG, engine=engine, k1=k1, b=b)
        retriever = build(tmp_path_factory.mktemp("index"), texts, config, shard_size)
        (found,) = retriever.retrieve([question], k=len(texts))
        scores = {c.passage.passage_id: c.score for c in found}
        assert scores == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_weighted_fields_worked_by_hand(tmp_path: Path, engine: str) -> None:
    words = [[0, 1], [2], [2, 0]]  # 대한-민국 산, 대한, 대한 대한-민국
    parts = [[2], [], [2]]  # 대한
    shard = Postings.of(
        [
            Field.of([np.array(p, np.int32) for p in words]),
            Field.of([np.array(p, np.int32) for p in parts], 0.5),
        ]
    )
    config = replace(CONFIG, engine=engine, part_weight=0.5)
    write_bm25(tmp_path, [shard], ["대한-민국", "산", "대한"], config)
    store = ListStore([make_passage(f"{i}#0", "글") for i in range(3)])
    retriever = Bm25Retriever.open(tmp_path, store, SpaceTokenizer(), config)
    compound, word = retriever.retrieve(["대한-민국", "대한"], k=10)

    # Lengths 2.5, 1 and 2.5: the mean is 2. 대한 has the frequencies 0.5, 1 and 1.5.
    def norm(length: float) -> float:
        return 1.2 * (0.5 + 0.5 * length / 2)

    idf_word = log(1 + (3 - 3 + 0.5) / (3 + 0.5))
    idf_compound = log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    expected = {
        "0#0": idf_word * 0.5 / (0.5 + norm(2.5)),
        "1#0": idf_word * 1 / (1 + norm(1)),
        "2#0": idf_word * 1.5 / (1.5 + norm(2.5)),
    }
    assert {c.passage.passage_id: c.score for c in word} == pytest.approx(expected, rel=1e-6)
    # In the question, too, the part counts half beside the compound.
    expected = {i: 0.5 * score for i, score in expected.items()}
    for i in ("0#0", "2#0"):
        expected[i] += idf_compound / (1 + norm(2.5))
    assert {c.passage.passage_id: c.score for c in compound} == pytest.approx(expected, rel=1e-6)


@given(
    frequencies=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    weights=st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0]), min_size=1, max_size=12),
    k=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_the_search_leaves_nothing_out(
    tmp_path_factory: pytest.TempPathFactory,
    frequencies: list[int],
    weights: list[float],
    k: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    passages: list[list[int]] = [[] for _ in range(n)]
    for term, frequency in enumerate(frequencies):
        for row in rng.choice(n, frequency, replace=False):
            passages[row] += [term] * int(rng.integers(1, 4))
    directory = tmp_path_factory.mktemp("index")
    vocabulary = [str(term) for term in range(len(frequencies))]
    write_bm25(directory, in_shards(passages, 25), vocabulary, CONFIG)
    engine = Bm25sEngine(directory)
    terms = dict(enumerate(weights[: len(frequencies)]))
    matrix = np.zeros((len(frequencies), n))
    for term in terms:
        column = engine._column(term, 1.0)
        matrix[term, column.rows] = column.entries
    exact = sum(weight * matrix[term] for term, weight in terms.items())
    for _ in range(2):  # the second time with what the first has left behind
        rows, scores = engine.top_rows(terms, k)
        kth = np.sort(exact)[-min(k, n)]
        assert set(np.flatnonzero((exact > kth + 1e-5) & (exact > 0))) <= set(rows.tolist())
        assert len(rows) >= min(k, np.count_nonzero(exact))
        np.testing.assert_allclose(scores, exact[rows], rtol=1e-5)


def random_texts(n: int, seed: int = 1) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(f"t{t}" for t in rng.zipf(1.5, rng.integers(0, 30)) % 200) for _ in range(n)]


def test_the_matrix_is_what_bm25s_itself_would_build(tmp_path: Path) -> None:
    import bm25s

    texts = random_texts(120)
    build(tmp_path, texts, shard_size=17)
    numbered, vocabulary = number_terms(texts)
    theirs = bm25s.BM25(k1=CONFIG.k1, b=CONFIG.b, method="lucene")
    theirs.index((numbered, {t: i for i, t in enumerate(vocabulary)}), show_progress=False)
    ours = bm25s.BM25.load(tmp_path, load_vocab=False)  # its own reader opens our files
    assert ours.scores["num_docs"] == len(texts)
    np.testing.assert_array_equal(ours.scores["indptr"], theirs.scores["indptr"])
    np.testing.assert_array_equal(ours.scores["indices"], theirs.scores["indices"])
    np.testing.assert_allclose(ours.scores["data"], theirs.scores["data"], rtol=1e-6)
    assert ours.scores["data"].dtype == np.float32
    assert ours.get_scores_from_ids([vocabulary.index("t1")]).shape == (len(texts),)


def test_bm25s_itself_finds_the_same_in_our_files(tmp_path: Path) -> None:
    import bm25s

    texts = random_texts(300)
    retriever = build(tmp_path, texts, shard_size=50)
    theirs = bm25s.BM25.load(tmp_path, mmap=True, load_vocab=False)
    _, vocabulary = number_terms(texts)
    for question in random_texts(20, seed=4):
        terms = [vocabulary.index(term) for term in question.split() if term in vocabulary]
        if not terms:
            continue
        scores = theirs.get_scores_from_ids(terms)
        (found,) = retriever.retrieve([question], k=10)
        rows = [int(candidate.passage.passage_id.partition("#")[0]) for candidate in found]
        assert [c.score for c in found] == pytest.approx(scores[rows].tolist(), rel=1e-5)
        assert found[-1].score == pytest.approx(float(np.sort(scores)[-10]), rel=1e-5)


def test_searching_loads_neither_bm25s_nor_a_compiler(tmp_path: Path) -> None:
    build(tmp_path, TEXTS)
    code = (
        "import sys; from pathlib import Path; from odqa.retrieval.bm25 import Bm25sEngine; "
        "rows, _ = Bm25sEngine(Path(sys.argv[1])).top_rows({0: 1.0}, 1); "
        "assert len(rows) == 1; print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {"bm25s", "numba", "scipy"} & set(run.stdout.split())


def test_both_engines_rank_alike_on_the_same_terms(tmp_path: Path) -> None:
    texts = random_texts(300)
    questions = random_texts(40, seed=2)
    results = [
        build(tmp_path / engine, texts, replace(CONFIG, engine=engine)).retrieve(questions, k=20)
        for engine in ENGINES
    ]
    for matrix, scan in zip(*results, strict=True):
        # Scores that are equal on paper may differ in the last bit, and their order with it.
        assert [c.score for c in matrix] == pytest.approx([c.score for c in scan], rel=1e-5)
        by_id = {c.passage.passage_id: c.score for c in scan}
        for candidate in matrix[:-1]:
            known = by_id.get(candidate.passage.passage_id, matrix[-1].score)
            assert candidate.score == pytest.approx(known, rel=1e-5)


def test_the_files_do_not_depend_on_the_shards(tmp_path: Path) -> None:
    texts = random_texts(60)
    for size in (1, 7, 60):
        build(tmp_path / str(size), texts, shard_size=size)
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert not any(name.endswith(".tmp") for name in names)
    for name in names:
        contents = {(tmp_path / str(size) / name).read_bytes() for size in (1, 7, 60)}
        assert len(contents) == 1, name


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.5), (0.3, 0), (3.0, 1)])
def test_the_frequencies_come_back_out_of_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, k1: float, b: float
) -> None:
    monkeypatch.setattr(bm25_files, "_AT_ONCE", 50)
    config = replace(CONFIG, engine=engine, k1=k1, b=b)
    texts = [*random_texts(150), "되풀이 " * 300]
    build(tmp_path / "all", texts, config)
    numbered, vocabulary = number_terms(texts)
    gone = {3, 4, 77, 149}
    kept = [row for row in range(len(texts)) if row not in gone]
    new_rows = np.full(len(texts), -1, dtype=np.int32)
    new_rows[kept] = np.arange(len(kept))
    stored = stored_postings(tmp_path / "all", config, new_rows)
    write_bm25(tmp_path / "kept", stored, vocabulary, config, tokenizer_fingerprint="space/1")
    (tmp_path / "fresh").mkdir()
    shards = in_shards([numbered[row] for row in kept], 9)
    write_bm25(tmp_path / "fresh", shards, vocabulary, config, tokenizer_fingerprint="space/1")
    for path in (tmp_path / "fresh").iterdir():
        assert path.read_bytes() == (tmp_path / "kept" / path.name).read_bytes(), path.name


def test_an_interrupted_build_is_built_over(tmp_path: Path) -> None:
    numbered, vocabulary = number_terms(TEXTS)

    def broken():
        yield in_shards(numbered, 2)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bm25(tmp_path, broken(), vocabulary, CONFIG)
    with pytest.raises(IndexNotUsableError, match="build the index again"):
        Bm25Retriever.open(tmp_path, ListStore([]), SpaceTokenizer(), CONFIG)
    retriever = build(tmp_path, TEXTS)
    build(tmp_path / "undisturbed", TEXTS)
    assert ids(retriever.retrieve(["한강"], k=3)[0]) == ["0#0", "2#0"]
    for path in (tmp_path / "undisturbed").iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_memory_is_bounded_by_a_shard(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    n_shards, n_passages, n_terms = 40, 100, 50

    def shards():
        for shard in range(n_shards):
            passages = [rng.integers(0, 1000, n_terms, np.int32) for _ in range(n_passages)]
            yield Postings.of([Field.of(passages)], shard * n_passages)

    postings_bytes = n_shards * n_passages * n_terms * 12
    tracemalloc.start()
    try:
        write_bm25(tmp_path, shards(), [str(i) for i in range(1000)], CONFIG)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < postings_bytes / 2


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("texts", [["", ""], ["", "가", ""]])
def test_passages_without_terms(tmp_path: Path, engine: str, texts: list[str]) -> None:
    retriever = build(tmp_path, texts, replace(CONFIG, engine=engine))
    (found,) = retriever.retrieve(["가"], k=5)
    assert ids(found) == [f"{i}#0" for i, text in enumerate(texts) if text]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"engine": "lucene"}, "sparse.engine"),
        ({"k1": -0.1}, "sparse.k1"),
        ({"b": 1.5}, "sparse.b"),
        ({"title_weight": -1}, "sparse.title_weight"),
        ({"part_weight": 0.3}, "sparse.part_weight must be a multiple of 1/8"),
        ({"bigram_weight": -0.5}, "sparse.bigram_weight"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path: Path, change: dict, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        write_bm25(tmp_path, [], [], replace(CONFIG, **change))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("token", [-1, 1])
def test_term_numbers_outside_the_vocabulary_are_refused(
    tmp_path: Path, engine: str, token: int
) -> None:
    config = replace(CONFIG, engine=engine)
    terms, rows, units = (np.array([value], dtype=np.int32) for value in (token, 0, UNITS))
    shard = Postings(terms, rows, units, 1, 0)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        write_bm25(tmp_path, [shard], ["가"], config)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"k1": 0.9}, "k1 1.2"), ({"b": 0.4}, "b 0.5"), ({"engine": "rank-bm25"}, "engine 'bm25s'")],
)
def test_an_index_of_other_settings_is_refused(tmp_path: Path, change: dict, words: str) -> None:
    build(tmp_path, TEXTS)
    store = ListStore([make_passage(f"{i}#0", text) for i, text in enumerate(TEXTS)])
    with pytest.raises(IndexNotUsableError, match=words):
        Bm25Retriever.open(tmp_path, store, SpaceTokenizer(), replace(CONFIG, **change))


def test_an_index_of_another_tokenizer_or_store_is_refused(tmp_path: Path) -> None:
    build(tmp_path, TEXTS)
    tokenizer = SpaceTokenizer()
    with pytest.raises(IndexNotUsableError, match="4 passages but the store has 0"):
        Bm25Retriever.open(tmp_path, ListStore([]), tokenizer, CONFIG)
    tokenizer.fingerprint = "space/2"
    with pytest.raises(IndexNotUsableError, match="tokenizer 'space/1'"):
        Bm25Retriever.open(tmp_path, ListStore([]), tokenizer, CONFIG)


@pytest.mark.parametrize(
    "name",
    [
        "sparse.json",
        "terms.bin",
        "terms.npy",
        "data.csc.index.npy",
        "params.index.json",
        "bounds.npy",
    ],
)
@pytest.mark.parametrize("damage", ["absent", "cut"])
def test_damaged_files_are_named(tmp_path: Path, name: str, damage: str) -> None:
    build(tmp_path, TEXTS)
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    store = ListStore([make_passage(f"{i}#0", text) for i, text in enumerate(TEXTS)])
    with pytest.raises(IndexNotUsableError, match="build the index again"):
        Bm25Retriever.open(tmp_path, store, SpaceTokenizer(), CONFIG)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("data.csc.index.npy", np.zeros(10, dtype=np.float64)),
        ("indices.csc.index.npy", np.zeros(9, dtype=np.int32)),
        ("indptr.csc.index.npy", np.zeros(3, dtype=np.int64)),
        ("bounds.npy", np.zeros(2, dtype=np.float32)),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    tmp_path: Path, name: str, array: np.ndarray
) -> None:
    build(tmp_path, TEXTS)
    np.save(tmp_path / name, array)
    with pytest.raises(IndexNotUsableError, match="build the index again"):
        Bm25sEngine(tmp_path)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    for engine in ENGINES:
        build(tmp_path / engine, TEXTS, replace(CONFIG, engine=engine))
    for path in tmp_path.rglob("*.npy"):
        np.load(path, allow_pickle=False)
    for path in tmp_path.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))


def test_nothing_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        build(tmp_path, TEXTS).retrieve(["서울", ""], k=2)
    assert capsys.readouterr() == ("", "")
    assert caplog.records == []


@given(
    scores=st.lists(st.sampled_from([0, 0, 1, 2, 2.5, 3]), min_size=1, max_size=40),
    k=st.integers(1, 12),
    data=st.data(),
)
def test_rows_reaching_kth(scores: list[float], k: int, data: st.DataObject) -> None:
    array = np.array(scores, dtype=np.float32)
    hint = data.draw(st.none() | st.sets(st.sampled_from(range(len(scores)))))
    rows = rows_reaching_kth(array, k, hint=None if hint is None else np.array(sorted(hint), int))
    positive = sorted((score for score in scores if score > 0), reverse=True)
    kth = positive[min(k, len(positive)) - 1] if positive else 0
    assert rows.tolist() == [i for i, s in enumerate(scores) if s > 0 and s >= kth]


def test_rank_bm25_idf_is_lucenes() -> None:
    counts = np.array([[0, 0, 1], [0, 1, 0], [UNITS, UNITS, UNITS]])
    engine = RankBm25Engine(counts, 2, k1=1.0, b=0.0)
    rows, scores = engine.top_rows({0: 1.0, 1: 1.0}, 2)
    both = log(1 + 0.5 / 2.5) / 2 + log(1 + 1.5 / 1.5) / 2
    assert rows.tolist() == [0, 1]
    assert scores.tolist() == pytest.approx([both, log(1 + 0.5 / 2.5) / 2], rel=1e-6)


@given(
    terms=st.lists(st.text(max_size=4), unique=True, max_size=30),
    asked=st.lists(st.text(max_size=4)),
)
@settings(deadline=None)
def test_the_mapped_vocabulary_is_a_dict(
    tmp_path_factory: pytest.TempPathFactory, terms: list[str], asked: list[str]
) -> None:
    directory = tmp_path_factory.mktemp("vocabulary")
    write_vocabulary(directory, terms)
    vocabulary = MappedVocabulary(directory)
    numbers = {term: number for number, term in enumerate(terms)}
    assert len(vocabulary) == len(terms)
    assert [vocabulary.number(term) for term in terms] == list(range(len(terms)))
    assert [vocabulary.number(term) for term in asked] == [numbers.get(term) for term in asked]


def test_a_lone_surrogate_is_a_term_like_any_other(tmp_path: Path) -> None:
    write_vocabulary(tmp_path, ["가", "\ud800", "나"])
    vocabulary = MappedVocabulary(tmp_path)
    assert [vocabulary.number(term) for term in ("나", "\ud800", "\ud801")] == [2, 1, None]


def test_a_term_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'가' stands twice"):
        write_vocabulary(tmp_path, ["가", "나", "가"])
