"""Predictions of a build, held against the build."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
from hashing_encoder import DIM, HashingEncoder

from odqa.build import build_index, components, plan_build, trial
from odqa.config import Config, load_config
from odqa.errors import ConfigError, InputError
from odqa.store import read_manifest
from odqa.types import Document

WORDS = ["서울은", "한강이", "부산의", "바다를", "대통령", "임금이", "노래하다", "1945년", "별"]


@pytest.fixture(autouse=True)
def hashing_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(components.ENCODERS, "hashing", lambda config: HashingEncoder())


def config(*overrides: str) -> Config:
    return load_config(None, ["dense.encoder=hashing", *overrides])


def lines(n: int) -> list[str]:
    chance = random.Random(1)
    return [
        json.dumps(
            {
                "id": str(i),
                "title": f"{chance.choice(WORDS)} {i}",
                "text": " ".join(
                    f"{' '.join(chance.choices(WORDS, k=6))} {chance.randrange(3000)} 있다."
                    for _ in range(chance.randrange(60))
                ),
            },
            ensure_ascii=False,
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_a_plan_comes_near_the_build(tmp_path: Path, ending: str) -> None:
    corpus = tmp_path / f"corpus{ending}"
    opened = gzip.open if ending.endswith("gz") else open
    with opened(corpus, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines(1200)))
    plan = plan_build(corpus, config())
    index = build_index(corpus, indexes_dir=tmp_path / "indexes", config=config())
    manifest = read_manifest(index)
    assert plan.exact
    assert plan.documents == manifest.documents == 1200
    assert plan.passages == pytest.approx(manifest.passages, rel=0.2)
    written = sum(file["bytes"] for file in manifest.files.values())
    assert plan.disk_bytes == pytest.approx(written, rel=0.3)
    assert plan.build_disk_bytes > plan.disk_bytes


def test_a_plan_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(lines(30)), "utf-8")
    monkeypatch.chdir(tmp_path)
    plan_build(corpus, config())
    assert list(tmp_path.iterdir()) == [corpus]


def test_without_a_dense_leg_there_are_no_vectors(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(lines(300)), "utf-8")
    hybrid = plan_build(corpus, config())
    sparse = plan_build(corpus, config("retrieval.retriever=sparse"))
    assert sparse.encode_seconds == 0
    assert hybrid.disk_bytes - sparse.disk_bytes == pytest.approx(
        hybrid.passages * DIM * 4, abs=1_000
    )
    smaller = plan_build(corpus, config("dense.faiss=sq8"))
    assert hybrid.disk_bytes - smaller.disk_bytes == pytest.approx(
        hybrid.passages * DIM * 3, abs=1_000
    )


def test_a_bad_corpus_or_setting_is_refused(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"id": "1"}\n')
    with pytest.raises(InputError, match=r"corpus\.jsonl:1.*title"):
        plan_build(corpus, config())
    corpus.write_text("\n")
    with pytest.raises(InputError, match="no article"):
        plan_build(corpus, config())
    with pytest.raises(InputError, match="no such file"):
        plan_build(tmp_path / "absent.jsonl", config())
    with pytest.raises(ConfigError):
        plan_build(corpus, config("corpus.passage_chars=0"))


def test_what_could_not_be_read_is_estimated_from_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is read for some seconds; here for none, so that only one article is seen."""
    records = [json.loads(line) for line in lines(400)]
    folder = tmp_path / "wiki" / "AA"
    folder.mkdir(parents=True)
    text = "".join(
        f'<doc id="{r["id"]}" url="" title="{r["title"]}">\n{r["title"]}\n\n{r["text"]}\n</doc>\n'
        for r in records
    )
    (folder / "wiki_00").write_text(text, "utf-8")
    whole = plan_build(tmp_path / "wiki", config())
    assert (whole.documents, whole.exact) == (400, True)
    monkeypatch.setattr(trial, "_READ_SECONDS", 0.0)
    guessed = plan_build(tmp_path / "wiki", config())
    assert not guessed.exact
    assert guessed.documents > 40


def test_a_packed_corpus_is_measured_packed(tmp_path: Path) -> None:
    documents = [Document(r["id"], r["title"], r["text"]) for r in map(json.loads, lines(300))]
    path = tmp_path / "dump.xml.bz2"
    chars = sum(len(document.text) for document in documents)
    text = "\n".join(lines(300)) + "\n"
    path.write_bytes(trial._packer(path)(text.encode()))
    assert trial._times_larger(path, documents, chars) == pytest.approx(1, abs=0.05)
    assert trial._times_larger(path, documents, chars / 10) == pytest.approx(10, abs=0.5)
