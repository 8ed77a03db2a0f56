"""An updated index finds what one that was built anew finds, whatever was edited."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from odqa.build import (
    build_index,
    components,
    open_retriever,
    update_index,
    updating,
    verify_index,
)
from odqa.build.updating import Changes, IndexUpdate
from odqa.cli import main
from odqa.config import Config, DenseConfig, set_values
from odqa.corpus import read_documents
from odqa.errors import IndexNotUsableError
from odqa.store import PassageStore, read_manifest

ARTICLES = [
    {"id": d.doc_id, "title": d.title, "text": d.text} for d in list(read_documents("sample"))[:60]
]
QUESTIONS = [
    "훈민정음을 만든 임금은 누구인가?",
    "한국에서 가장 높은 산",
    "전기를 발견한 과학자의 고향",
    "김치는 어떻게 담그는가",
    "바다에 사는 포유류",
]


def write(path: Path, articles: Sequence[dict[str, Any]]) -> Path:
    lines = (json.dumps(article, ensure_ascii=False) for article in articles)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def edited(articles: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Some articles removed, some changed, some added, and all in another order."""
    chance = random.Random(seed)
    left = [dict(article) for article in articles if chance.random() > 0.1]
    for article in left:
        if chance.random() < 0.15:
            words = article["text"].split()
            article["text"] = " ".join(words[: chance.randint(1, len(words))])
        elif chance.random() < 0.05:
            article["title"] += " (새 이름)"
    for number in range(chance.randint(0, 4)):
        model = chance.choice(articles)
        left.append({**model, "id": f"new{seed}-{number}", "title": f"{model['title']} 이야기"})
    chance.shuffle(left)
    return left or [dict(articles[0])]


def found(index: Path, config: Config, leg: str) -> list[list[tuple[str, float]]]:
    retriever = open_retriever(index, config, leg)
    return [
        [(c.passage.passage_id, c.score) for c in candidates]
        for candidates in retriever.retrieve(QUESTIONS, k=20)
    ]


def config(*overrides: str) -> Config:
    return set_values(Config(), ["build.workers=1", *overrides])


def assert_equal_to_a_rebuild(index: Path, corpus: Path, folder: Path, settings_: Config) -> None:
    rebuilt = build_index(corpus, name="rebuilt", indexes_dir=folder, config=settings_, force=True)
    before, after = read_manifest(rebuilt), read_manifest(index)
    assert (after.documents, after.passages) == (before.documents, before.passages)
    assert after.duplicates == before.duplicates
    for leg in (*after.legs, *(["hybrid"] if len(after.legs) == 2 else [])):
        assert found(index, settings_, leg) == found(rebuilt, settings_, leg)
    new, old = PassageStore.open(index / "passages"), PassageStore.open(rebuilt / "passages")
    assert sorted(new, key=lambda p: p.passage_id) == sorted(old, key=lambda p: p.passage_id)
    assert verify_index(index, settings_).ok


@pytest.mark.parametrize("seeds", [(1,), (2,), (3, 4, 5)])
def test_random_edits_give_what_a_rebuild_gives(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    folder = tmp_path
    articles: Sequence[dict[str, Any]] = ARTICLES
    index = build_index(
        write(folder / "c.jsonl", articles), name="a", indexes_dir=folder, config=config()
    )
    for seed in seeds:  # one update upon the other
        articles = edited(articles, seed)
        corpus = write(folder / "c.jsonl", articles)
        assert update_index(index, corpus, config()).any
        assert_equal_to_a_rebuild(index, corpus, folder, config())


@pytest.mark.parametrize(
    "overrides",
    [
        ("sparse.engine=rank-bm25", "retrieval.retriever=sparse"),
        ("tokenizer.name=bigram", "retrieval.retriever=sparse"),
        ("retrieval.retriever=dense", "dense.faiss=fp16"),
        ("duplicates.enabled=false", "corpus.passage_chars=200"),
    ],
)
def test_other_settings_are_those_of_the_index(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    corpus = write(tmp_path / "c.jsonl", ARTICLES[:25])
    index = build_index(corpus, name="a", indexes_dir=tmp_path, config=config(*overrides))
    corpus = write(tmp_path / "c.jsonl", edited(ARTICLES[:25], 3))
    update_index(index, corpus, config())  # nothing is said of the index's own settings
    assert_equal_to_a_rebuild(index, corpus, tmp_path, config(*overrides))


def test_changes_are_counted_and_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    corpus = write(tmp_path / "c.jsonl", ARTICLES[:20])
    index = build_index(corpus, name="a", indexes_dir=tmp_path, config=config())
    before = (index / "manifest.json").read_bytes()
    new = [{**ARTICLES[0], "text": "다른 글이다."}, *ARTICLES[2:23]]  # 1 changed, 1 gone, 3 new
    write(corpus, new)
    changes = Changes(added=3, changed=1, removed=1, unchanged=18)
    assert update_index(index, corpus, config(), dry_run=True) == changes
    assert (index / "manifest.json").read_bytes() == before
    assert update_index(index, corpus, config()) == changes
    assert update_index(index, corpus, config()) == Changes(0, 0, 0, 22)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c.jsonl"]
    assert read_manifest(index).recipe["source_state"]["bytes"] == corpus.stat().st_size
    # ... and for build-index, it is the index of that corpus.
    assert build_index(corpus, name="a", indexes_dir=tmp_path, config=config()) == index


def test_articles_may_only_be_removed(tmp_path: Path) -> None:
    corpus = write(tmp_path / "c.jsonl", ARTICLES[:10])
    index = build_index(corpus, name="a", indexes_dir=tmp_path, config=config())
    write(corpus, ARTICLES[3:7])
    assert update_index(index, corpus, config()) == Changes(0, 0, 6, 4)
    assert_equal_to_a_rebuild(index, corpus, tmp_path, config())


def test_a_reader_of_the_old_index_goes_on(tmp_path: Path) -> None:
    corpus = write(tmp_path / "c.jsonl", ARTICLES[:20])
    index = build_index(corpus, name="a", indexes_dir=tmp_path, config=config())
    retriever = open_retriever(index, config(), "hybrid")
    before = retriever.retrieve(QUESTIONS, k=5)
    write(corpus, ARTICLES[10:40])
    update_index(index, corpus, config())
    assert retriever.retrieve(QUESTIONS, k=5) == before


def test_an_update_that_was_killed_does_not_stand_in_the_way_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its corpus has changed since: what it left is a cache of what nobody asks for any more."""
    corpus = write(tmp_path / "c.jsonl", ARTICLES[:10])
    index = build_index(corpus, name="a", indexes_dir=tmp_path, config=config())
    write(corpus, ARTICLES[3:15])
    with monkeypatch.context() as patched:

        def killed(*_: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr(IndexUpdate, "write_parts", killed)
        with pytest.raises(KeyboardInterrupt):
            update_index(index, corpus, config())
    write(corpus, ARTICLES[5:18])
    assert update_index(index, corpus, config()) == Changes(8, 0, 5, 5)
    assert_equal_to_a_rebuild(index, corpus, tmp_path, config())


def test_an_index_replaced_while_it_is_opened_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All parts are of one index, though the encoder loads between the passages and the vectors."""
    corpus = write(tmp_path / "c.jsonl", ARTICLES[:20])
    index = build_index(corpus, name="a", indexes_dir=tmp_path, config=config())
    write(corpus, [*ARTICLES[1:20], ARTICLES[30]])  # as many passages, other rows
    load, updates = components.create_encoder, [True]

    def slow(of: DenseConfig) -> Any:
        if updates.pop() if updates else False:
            update_index(index, corpus, config())
        return load(of)

    monkeypatch.setattr(components, "create_encoder", slow)
    retriever = open_retriever(index, config(), "hybrid")
    monkeypatch.undo()
    assert retriever.retrieve(QUESTIONS, k=20) == open_retriever(
        index, config(), "hybrid"
    ).retrieve(QUESTIONS, k=20)


def test_a_file_name_that_is_no_text_can_be_a_corpus(tmp_path: Path) -> None:
    """As an archive from an old Korean system may hold: a name in CP949."""
    corpus = tmp_path / os.fsdecode("가.jsonl".encode("cp949"))
    write(corpus, ARTICLES[:5])
    index = build_index(corpus, name="a", indexes_dir=tmp_path, config=config())
    assert build_index(corpus, name="a", indexes_dir=tmp_path, config=config()) == index
    write(corpus, ARTICLES[:6])
    assert update_index(index, corpus, config()) == Changes(1, 0, 0, 5)


def test_a_damaged_index_or_another_build_is_not_updated(tmp_path: Path) -> None:
    corpus = write(tmp_path / "c.jsonl", ARTICLES[:5])
    index = build_index(corpus, name="a", indexes_dir=tmp_path, config=config())
    shutil.copytree(index, tmp_path / "b")
    with (tmp_path / "b" / "passages" / "texts.bin").open("r+b") as file:
        file.truncate(10)
    with pytest.raises(IndexNotUsableError, match="texts"):
        update_index(tmp_path / "b", corpus, config())
    with pytest.raises(IndexNotUsableError, match="tokenizer"):
        update_index(index, corpus, config("tokenizer.name=bigram"))


def test_passages_of_another_splitter_are_not_mixed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write(tmp_path / "c.jsonl", ARTICLES[:5])
    index = build_index(corpus, name="a", indexes_dir=tmp_path, config=config())
    write(corpus, ARTICLES[:6])
    monkeypatch.setattr(updating, "SPLITTER", "of tomorrow")
    with pytest.raises(IndexNotUsableError, match="another version of the program split"):
        update_index(index, corpus, config())


@pytest.mark.parametrize(("inside", "named"), [(".", "."), ("passages", ".."), (".", "../small/")])
def test_an_index_is_updated_by_the_command_from_within(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    inside: str,
    named: str,
) -> None:
    articles = [{"id": "1", "title": "가", "text": "가 나 다."}]
    corpus = write(tmp_path / "small.jsonl", articles)
    index = build_index(
        corpus, indexes_dir=tmp_path / "indexes", config=config("retrieval.retriever=sparse")
    )
    write(corpus, [*articles, {"id": "2", "title": "라", "text": "라 마 바."}])
    monkeypatch.chdir(index / inside)
    assert main(["update-index", named, str(corpus), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["index"] == "small"
    assert "leave its folder" in said.err
    monkeypatch.chdir(tmp_path)
    assert read_manifest(index).documents == 2
    assert [path.name for path in (tmp_path / "indexes").iterdir()] == ["small"]


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = write(tmp_path / "small.jsonl", ARTICLES[:6])
    assert main(["build-index", "small.jsonl"]) == 0
    write(corpus, ARTICLES[1:8])
    assert main(["update-index", "small", "small.jsonl", "--dry-run"]) == 0
    assert "added       2" in capsys.readouterr().out
    assert main(["update-index", "small.jsonl", "--index", "small", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["added"], record["changed"], record["removed"]) == (2, 0, 1)
    assert main(["update-index", "small", "small.jsonl", "--index", "small"]) == 2
    assert "given twice" in capsys.readouterr().err
    assert main(["update-index", "small", os.devnull]) == 2
