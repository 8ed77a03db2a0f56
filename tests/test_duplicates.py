"""Near-duplicate passages: which are found, how they are grouped, and what a search leaves out."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import ListStore, check_fewer_is_a_prefix, check_retriever, ids
from hypothesis import given, settings
from hypothesis import strategies as st

from odqa.build import build_index, open_retriever
from odqa.build.duplicates import (
    BANDS,
    NEIGHBOURS,
    DuplicateKeys,
    are_duplicates,
    candidate_pairs,
    find_groups,
)
from odqa.config import Config, RetrievalConfig, load_config
from odqa.errors import ConfigError, IndexNotUsableError, UsageError
from odqa.retrieval.collapse import Collapser, CollapsingRetriever
from odqa.retrieval.ranking import Ranking, RowRetriever, collapse_ranking
from odqa.store import PassageStore, check_files, open_groups, read_manifest
from odqa.store.duplicates import count_groups
from odqa.text.shingles import SHINGLE, shingle_hashes, squeezed
from odqa.types import Passage

SYLLABLES = "가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허고노도로모보소오조초코토포호"


def passage(text: str, title: str = "", passage_id: str = "1#0") -> Passage:
    return Passage(passage_id, passage_id.partition("#")[0], title, text, 0, len(text))


class Listed:
    """Passages in a list, as the search for duplicates sees the passage store."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages

    def passages(self, rows: Iterable[int]) -> list[Passage]:
        return [self._passages[row] for row in rows]


def groups_of(passages: Sequence[Passage], threshold: float = 0.9) -> list[int]:
    return find_groups(DuplicateKeys.of(passages), Listed(passages), threshold=threshold).tolist()


def syllables(chance: random.Random, n: int) -> str:
    return "".join(chance.choices(SYLLABLES, k=n))


# ---- shingles ----


@given(st.lists(st.text(alphabet="가나다a \n", max_size=12), max_size=6))
def test_every_run_of_characters_is_hashed(texts: list[str]) -> None:
    hashes, offsets = shingle_hashes(texts)
    assert offsets[0] == 0
    assert offsets[-1] == len(hashes)
    named: dict[str, int] = {}
    for text, (start, end) in zip(texts, itertools.pairwise(offsets.tolist()), strict=True):
        padded = text.ljust(SHINGLE, "\0")
        runs = [padded[i : i + SHINGLE] for i in range(len(padded) - SHINGLE + 1)]
        assert end - start == len(runs)
        for run, value in zip(runs, hashes[start:end].tolist(), strict=True):
            assert named.setdefault(run, value) == value
    assert len(set(named.values())) == len(named)


def test_case_width_and_white_space_do_not_count() -> None:
    assert squeezed("Ａ형 간염\n바이러스 ①") == squeezed("a형간염 바이러스1") == "a형간염바이러스1"


# ---- two passages ----


def test_jaccard_similarity_of_two_passages_by_hand() -> None:
    text = syllables(random.Random(1), 104)  # 105 - 4 shingles with the line break of the title
    changed = text[:-1] + "z"  # the last shingle alone is another
    shared, all_of_both = 101 - 1, 101 + 1
    similarity = shared / all_of_both
    first, second = passage(text), passage(changed)
    assert are_duplicates(first, second, threshold=similarity)
    assert not are_duplicates(first, second, threshold=similarity + 1e-9)


def test_the_title_keeps_short_stubs_apart_but_not_long_copies() -> None:
    stub = "2010년 11월 12일부터 11월 27일까지 광저우에서 열리는 2010년 아시안 게임에 참가하였다."
    first, second = (passage(stub, f"아시안 게임 {x} 선수단") for x in ("타지키스탄", "미얀마"))
    assert not are_duplicates(first, second, threshold=0.9)
    assert are_duplicates(passage(stub, "같은 제목"), passage(stub, "같은 제목"), threshold=0.9)
    copied = syllables(random.Random(2), 300)
    assert are_duplicates(
        passage(copied, "통영시"), passage(copied + " 서점", "경상남도"), threshold=0.9
    )


def test_two_of_a_series_are_no_duplicates() -> None:
    """Each has a number of its own; a number that only one of them has may have been added."""
    text = syllables(random.Random(3), 400)
    first, second, third = (passage(f"{n}{text}") for n in ("1981년 ", "1806년 ", ""))
    assert not are_duplicates(first, second, threshold=0.8)
    assert are_duplicates(first, third, threshold=0.8)
    assert are_duplicates(third, second, threshold=0.8)
    seventh, sixth = (passage(f"제{n}회 {text} 의원 7명과 1명") for n in (7, 6))
    assert not are_duplicates(seventh, sixth, threshold=0.8)


# ---- groups ----


def test_known_duplicates_are_found() -> None:
    chance = random.Random(4)
    texts = [syllables(chance, 300) for _ in range(50)]
    passages = [passage(text, "제목") for text in texts]
    passages += [passage(texts[7], "제목"), passage(texts[9][:-4], "제목")]
    passages += [passage(texts[7].upper() + "\n ", "제목")]
    expected = [*range(50), 7, 9, 7]
    assert groups_of(passages) == expected


def test_groups_are_connected_components() -> None:
    """The first and the last have less in common than the threshold, but each with the second."""
    text = syllables(random.Random(5), 300)
    passages = [passage(text[start : start + 280]) for start in (0, 10, 20)]
    assert not are_duplicates(passages[0], passages[2], threshold=0.9)
    assert groups_of(passages) == [0, 0, 0]
    assert groups_of([passages[0], passages[2]]) == [0, 1]


@pytest.mark.parametrize("n", [0, 1])
def test_a_corpus_of_none_or_one(n: int) -> None:
    assert groups_of([passage("가나다")] * n) == list(range(n))


def test_texts_of_hardly_a_character() -> None:
    passages = [passage(text) for text in ("가", "나", "가", " ", "\n", "")]
    assert groups_of(passages) == [0, 1, 0, 3, 3, 3]


@st.composite
def corpora(draw: st.DrawFn) -> list[Passage]:
    """Some texts, and copies of them with a few characters cut off or changed."""
    chance = random.Random(draw(st.integers(0, 10**6)))
    passages = []
    for _ in range(draw(st.integers(1, 4))):
        text = syllables(chance, chance.choice([3, 40, 200]))
        for _ in range(draw(st.integers(1, 9))):
            cut = chance.randrange(1 + len(text) // 12)
            number = chance.choice(["", "", "1981년", "1806년"])
            passages.append(passage(number + text[cut:], chance.choice(["제목", "제목", "이름"])))
    return passages


@settings(deadline=None, max_examples=60)
@given(corpora(), st.randoms(use_true_random=False))
def test_the_partition_does_not_depend_on_the_order_of_rows(
    passages: list[Passage], chance: random.Random
) -> None:
    order = list(range(len(passages)))
    chance.shuffle(order)
    groups = groups_of(passages, 0.8)
    shuffled = groups_of([passages[row] for row in order], 0.8)
    place = {row: new for new, row in enumerate(order)}
    for a, b in itertools.combinations(range(len(passages)), 2):
        assert (groups[a] == groups[b]) == (shuffled[place[a]] == shuffled[place[b]])
    for result in (groups, shuffled):
        assert all(result[group] == group <= row for row, group in enumerate(result))


@settings(deadline=None, max_examples=60)
@given(corpora())
def test_every_member_of_a_group_is_a_duplicate_of_another(passages: list[Passage]) -> None:
    groups = groups_of(passages, 0.8)
    for row, group in enumerate(groups):
        others = [i for i, of in enumerate(groups) if of == group and i != row]
        assert not others or any(
            are_duplicates(passages[row], passages[i], threshold=0.8) for i in others
        )


def test_keys_do_not_depend_on_what_else_is_in_the_shard() -> None:
    chance = random.Random(6)
    passages = [passage(syllables(chance, n), "제목") for n in (1, 30, 0, 200, 500)]
    together = DuplicateKeys.of(passages)
    apart = DuplicateKeys.joined(DuplicateKeys.of([p]) for p in passages)
    np.testing.assert_array_equal(together.digests, apart.digests)
    np.testing.assert_array_equal(together.bands, apart.bands)
    assert together.bands.shape == (5, BANDS)
    assert together.digests.itemsize + BANDS * together.bands.itemsize <= 40


def test_a_bucket_of_any_size_costs_a_few_pairs_a_passage() -> None:
    n = 3_000
    pairs = candidate_pairs(np.full((n, BANDS), 7, dtype=np.uint32))
    assert len(pairs) == sum(n - step for step in range(1, NEIGHBOURS + 1))
    assert (pairs[:, 0] < pairs[:, 1]).all()


def test_small_buckets_are_compared_completely() -> None:
    bands = np.arange(10 * BANDS, dtype=np.uint32).reshape(10, BANDS)
    members = [1, 4, 6, 8, 9]
    bands[members, 3] = 5_000
    expected = list(itertools.combinations(members, 2))
    assert candidate_pairs(bands).tolist() == [list(pair) for pair in expected]


# ---- in an index ----


def write_corpus(path: Path) -> Path:
    chance = random.Random(8)
    copied = " ".join(syllables(chance, 4) for _ in range(60)) + " 서울에 있다."
    with path.open("w", encoding="utf-8") as file:
        for i in range(12):
            own = " ".join(syllables(chance, 4) for _ in range(60)) + " 서울에 있다."
            text = copied if i in (3, 5, 10) else own
            record = {"id": str(i), "title": "같은 이름", "text": text}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return path


def build(corpus: Path, *overrides: str) -> Path:
    return build_index(corpus, indexes_dir=corpus.parent / "indexes", config=sparse(*overrides))


def sparse(*overrides: str) -> Config:
    return load_config(None, ["retrieval.retriever=sparse", *overrides])


def test_an_index_holds_its_groups(tmp_path: Path) -> None:
    index = build(write_corpus(tmp_path / "corpus.jsonl"))
    groups = open_groups(index, 12)
    assert groups is not None
    assert groups.dtype == np.int32
    assert groups.tolist() == [0, 1, 2, 3, 4, 3, 6, 7, 8, 9, 3, 11]
    manifest = read_manifest(index)
    assert manifest.duplicates is not None
    counts = {key: manifest.duplicates[key] for key in ("groups", "passages", "collapsed")}
    assert counts == {"groups": 1, "passages": 3, "collapsed": 3 - 1}
    assert {f"duplicates/{n}.npy" for n in ("groups", "bands", "digests")} < set(manifest.files)
    assert check_files(index, manifest) == []


def test_stored_keys_give_the_same_groups_in_another_order(tmp_path: Path) -> None:
    """What an update does: it takes the keys from the index, and stores rows in another order."""
    index = build(write_corpus(tmp_path / "corpus.jsonl"))
    store = PassageStore.open(index / "passages")
    stored = DuplicateKeys(
        np.load(index / "duplicates/digests.npy"), np.load(index / "duplicates/bands.npy")
    )
    order = np.arange(12)[::-1]
    keys = DuplicateKeys(stored.digests[order], stored.bands[order])
    groups = find_groups(keys, Listed(store.passages(order)), threshold=0.9)
    assert groups.tolist() == [0, 1, 2, 3, 4, 5, 1, 7, 1, 9, 10, 11]  # 10, 6 and 8 were 1, 5 and 3


def test_an_index_without_duplicates(tmp_path: Path) -> None:
    index = build(write_corpus(tmp_path / "corpus.jsonl"), "duplicates.enabled=false")
    assert not (index / "duplicates").exists()
    assert open_groups(index, 12) is None
    assert read_manifest(index).duplicates is None
    assert len(open_retriever(index, sparse()).retrieve(["서울"], k=20)[0]) == 12


@pytest.mark.parametrize("threshold", [0.79, 1.01])
def test_a_threshold_that_cannot_be_kept_is_refused(tmp_path: Path, threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"duplicates\.threshold must lie in \[0\.8, 1\]"):
        build(write_corpus(tmp_path / "corpus.jsonl"), f"duplicates.threshold={threshold}")


def test_damaged_groups_are_named(tmp_path: Path) -> None:
    index = build(write_corpus(tmp_path / "corpus.jsonl"))
    path = index / "duplicates" / "groups.npy"
    with pytest.raises(IndexNotUsableError, match=r"groups\.npy: int32 numbers .* 13 passages"):
        open_groups(index, 13)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(IndexNotUsableError, match=r"groups\.npy.*build the index again"):
        open_groups(index, 12)
    path.unlink()
    with pytest.raises(IndexNotUsableError, match=r"groups\.npy"):
        open_groups(index, 12)


def test_counts_by_hand() -> None:
    groups = np.array([0, 1, 0, 3, 1, 0], dtype=np.int32)  # {0, 2, 5}, {1, 4}, {3}
    assert count_groups(groups) == {"groups": 2, "passages": 3 + 2, "collapsed": 2 + 1}
    assert count_groups(groups[:0]) == {"groups": 0, "passages": 0, "collapsed": 0}


# ---- collapsing a ranking ----

RANKED = [(4, 9.0), (2, 8.0), (0, 7.0), (5, 6.0), (1, 5.0), (3, 4.0)]
GROUPS = np.array([0, 1, 0, 3, 1, 0], dtype=np.int32)
DOCUMENTS = [10, 10, 20, 20, 10, 30]


def rows(ranked: Iterable[tuple[int, float]]) -> list[int]:
    return [row for row, _ in ranked]


def test_the_best_of_each_group_is_kept() -> None:
    assert collapse_ranking(RANKED, GROUPS, k=6) == [(4, 9.0), (2, 8.0), (3, 4.0)]
    assert rows(collapse_ranking(RANKED, GROUPS, k=2)) == [4, 2]
    assert rows(collapse_ranking(RANKED, None, k=4)) == [4, 2, 0, 5]


def test_an_article_gives_no_more_than_its_share() -> None:
    keep = {"k": 6, "documents": DOCUMENTS}
    assert rows(collapse_ranking(RANKED, None, per_article=1, **keep)) == [4, 2, 5]
    assert rows(collapse_ranking(RANKED, None, per_article=2, **keep)) == [4, 2, 0, 5, 3]
    # 3 is the last passage of article 20, whose first is in: what 0 and 5 would have taken is free.
    assert rows(collapse_ranking(RANKED, GROUPS, per_article=1, **keep)) == [4, 2]


def test_a_passage_left_out_for_its_article_does_not_stand_for_its_group() -> None:
    groups, documents = [0, 1, 1], [7, 7, 8]
    ranked = [(0, 3.0), (1, 2.0), (2, 1.0)]
    kept = collapse_ranking(ranked, groups, k=3, documents=documents, per_article=1)
    assert rows(kept) == [0, 2]


@pytest.mark.parametrize("wrong", [{"k": 0}, {"per_article": -1}, {"per_article": 1}])
def test_wrong_limits_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="must be"):
        collapse_ranking(RANKED, GROUPS, **{"k": 1, **wrong})


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=30),
    st.integers(1, 12),
    st.integers(0, 3),
)
def test_a_collapsed_ranking(labels: list[tuple[int, int]], k: int, per_article: int) -> None:
    """``labels`` are the group and the article of each row."""
    groups, documents = [g for g, _ in labels], [d for _, d in labels]
    ranked = [(row, -float(row)) for row in range(len(labels))]
    kept = collapse_ranking(ranked, groups, k=k, documents=documents, per_article=per_article)
    assert kept == [pair for pair in ranked if pair in kept]  # a subsequence
    assert len(kept) <= k
    assert len({groups[row] for row in rows(kept)}) == len(kept)
    per = [documents[row] for row in rows(kept)]
    assert all(per.count(article) <= per_article for article in per if per_article)
    complete = collapse_ranking(
        ranked, groups, k=1 + len(ranked), documents=documents, per_article=per_article
    )
    assert kept == complete[:k]
    if not per_article:
        assert {groups[row] for row in rows(complete)} == set(groups)


# ---- a retriever that collapses ----


class Countdown(RowRetriever):
    """Finds all passages for every question that has words, in the order of their rows.

    Each article has three passages.
    """

    source = "sparse"

    def __init__(self, n: int) -> None:
        super().__init__(
            ListStore([passage("글", "제목", f"{row // 3:02}#{row % 3}") for row in range(n)])
        )
        self.asked: list[tuple[int, int]] = []

    def rank(self, questions: Sequence[str], *, k: int) -> list[Ranking]:
        self.asked.append((len(questions), k))
        n = len(self.store)
        every = [(row, float(n - row)) for row in range(n)]
        return [every[:k] if question.strip() else [] for question in questions]


def collapsing(n: int, groups: Sequence[int] | None, **values: Any) -> CollapsingRetriever:
    inner = Countdown(n)
    collapse = Collapser(inner.store, groups, RetrievalConfig(**values))
    return CollapsingRetriever(inner, collapse)


def test_a_collapsing_retriever_is_a_retriever() -> None:
    groups = [row - row % 2 for row in range(60)]
    retriever = collapsing(60, groups)
    check_retriever(retriever, ["서울", "부산", "서울 부산"], k=5)
    check_fewer_is_a_prefix(retriever, ["서울"], k=5)


def test_it_asks_for_more_until_there_are_enough() -> None:
    groups = [0] * 40 + list(range(40, 60))
    inner = Countdown(60)
    retriever = CollapsingRetriever(inner, Collapser(inner.store, groups, RetrievalConfig()))
    found = retriever.retrieve(["서울", ""], k=3)
    assert ids(found[0]) == ["00#0", "13#1", "13#2"]  # rows 0, 40 and 41
    assert [candidate.rank for candidate in found[0]] == [0, 1, 2]
    assert found[1] == []
    depth = 3 + 10
    assert inner.asked == [(2, depth), (1, 2 * depth), (1, 4 * depth)]


def test_what_collapses_nothing_asks_once() -> None:
    for retriever in (collapsing(9, None), collapsing(9, [0] * 9, collapse_duplicates=False)):
        assert len(retriever.retrieve(["서울"], k=9)[0]) == 9


def test_a_retriever_with_a_limit_for_an_article() -> None:
    assert len(collapsing(9, [0] * 9, per_article=1).retrieve(["서울"], k=9)[0]) == 1
    found = collapsing(9, None, per_article=1).retrieve(["서울"], k=9)[0]
    assert ids(found) == ["00#0", "01#0", "02#0"]
    with pytest.raises(ConfigError, match=r"retrieval\.per_article"):
        collapsing(9, None, per_article=-1)


def test_a_search_leaves_duplicates_out(tmp_path: Path) -> None:
    index = build(write_corpus(tmp_path / "corpus.jsonl"))
    found = open_retriever(index, sparse()).retrieve(["서울"], k=20)[0]
    assert len(found) == 12 - 2
    assert {"3#0", "5#0", "10#0"} & set(ids(found)) == {"10#0"}  # equal scores: the first id
    every = sparse("retrieval.collapse_duplicates=false")
    assert len(open_retriever(index, every).retrieve(["서울"], k=20)[0]) == 12
