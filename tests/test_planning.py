"""Predictions of a build, held against the build."""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from hashing_encoder import DIM, HashingEncoder

from odqa.build import Budget, build_index, components, fit, plan_build, planning, trial
from odqa.cli.options import size
from odqa.config import Config, load_config
from odqa.errors import ConfigError, InputError, OdqaError
from odqa.protocols import Vectors
from odqa.store import read_manifest
from odqa.types import Document

WORDS = ["서울은", "한강이", "부산의", "바다를", "대통령", "임금이", "노래하다", "1945년", "별"]


@pytest.fixture(autouse=True)
def hashing_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(components.ENCODERS, "hashing", lambda config, stored: HashingEncoder())


def config(*overrides: str) -> Config:
    return load_config(None, ["dense.encoder=hashing", "dense.faiss=flat", *overrides])


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
    corpus.write_text("\n".join(lines(30)), "utf-8")
    with pytest.raises(ConfigError, match="IDMap,Flat"):
        plan_build(corpus, config("dense.faiss='IDMap,Flat'"))
    with pytest.raises(ConfigError, match="IVF4000,SQ8' cannot be learnt"):
        plan_build(corpus, config("dense.faiss='IVF4000,SQ8'"))


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


# ---- budgets ----


TIMES = 128
WIDE = TIMES * DIM


class WideEncoder(HashingEncoder):
    """The same vectors with every number repeated, so that they are most of an index."""

    dim = WIDE

    def encode_questions(self, texts: Sequence[str]) -> Vectors:
        vectors = super().encode_questions(texts)
        return np.repeat(vectors, TIMES, axis=1) / np.float32(TIMES**0.5)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus of several shards, whose dense vectors are most of its index."""
    monkeypatch.setattr(planning, "SHARD_DOCUMENTS", 100)
    monkeypatch.setitem(components.ENCODERS, "hashing", lambda config, stored: WideEncoder())
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(lines(300)), "utf-8")
    return path


def test_what_fits_is_built_as_configured(corpus: Path) -> None:
    choice = fit(corpus, config(), Budget(10**12, 10**12))
    assert choice.chosen.settings == ()
    assert choice.chosen.config == config()
    assert choice.rejected == ()


def test_little_disk_stores_the_vectors_smaller_then_not_at_all(corpus: Path) -> None:
    plan = plan_build(corpus, config())
    disk, passages = plan.build_disk_bytes, plan.passages
    half = fit(corpus, config(), Budget(disk_bytes=disk - passages * WIDE * 1))
    assert half.chosen.settings == ("dense.faiss=fp16",)
    assert [str(rejected) for rejected, _ in half.rejected] == ["--set build.workers=1"]
    quarter = fit(corpus, config(), Budget(disk_bytes=disk - int(passages * WIDE * 2.5)))
    assert quarter.chosen.settings == ("dense.faiss=sq8",)
    sparse = fit(corpus, config(), Budget(disk_bytes=disk - passages * WIDE * 4))
    assert sparse.chosen.settings == ("retrieval.retriever=sparse",)
    assert sparse.chosen.plan.encode_seconds == 0
    reasons = [reasons for _, reasons in sparse.rejected]
    assert all(len(of_one) == 1 and of_one[0].startswith("disk: ") for of_one in reasons)


def test_little_memory_takes_fewer_processes_first(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("odqa.build.workers.n_cores", lambda: 8)
    # The memory of this process is part of a plan, so that budgets lie between two plans'.
    of_eight, of_four, of_two = (
        plan_build(corpus, config(f"build.workers={n}")) for n in (8, 4, 2)
    )
    assert [plan.processes for plan in (of_eight, of_four, of_two)] == [8, 4, 2]
    budget = Budget(memory_bytes=(of_eight.memory_bytes + of_four.memory_bytes) // 2)
    half = fit(corpus, config(), budget)
    assert half.chosen.settings == ("build.workers=4",)
    (rejected,) = half.rejected
    assert rejected[1][0].startswith("memory: ")
    assert fit(corpus, config("build.workers=4"), budget).chosen.settings == ()
    budget = Budget(memory_bytes=(of_four.memory_bytes + of_two.memory_bytes) // 2)
    assert fit(corpus, config("build.workers=4"), budget).chosen.settings == ("build.workers=2",)


def test_what_cannot_fit_says_what_is_needed(corpus: Path) -> None:
    with pytest.raises(OdqaError, match=r"no settings fit.*of memory.*of disk.*=sparse"):
        fit(corpus, config(), Budget(memory_bytes=1000, disk_bytes=1000))
    with pytest.raises(OdqaError, match="no settings fit"):  # one leg is all that was asked for
        fit(corpus, config("retrieval.retriever=dense"), Budget(disk_bytes=1000))


def test_a_smaller_storage_is_never_made_larger(corpus: Path) -> None:
    plan = plan_build(corpus, config("dense.faiss=sq5", "build.workers=1"))
    choice = fit(corpus, config("dense.faiss=sq5"), Budget(disk_bytes=plan.build_disk_bytes - 1))
    assert choice.chosen.settings == ("retrieval.retriever=sparse",)


def test_a_build_that_was_begun_goes_on_with_its_settings(corpus: Path, tmp_path: Path) -> None:
    begun = build_index(corpus, indexes_dir=tmp_path, config=config("dense.faiss=sq8"))
    recipe = json.loads((begun / "recipe.json").read_text())
    choice = fit(corpus, config(), Budget(10**12), recipe=recipe)
    assert choice.chosen.settings == ("dense.faiss=sq8",)
    other = recipe | {"legs": ["dense"]}  # none of the alternatives: as if nothing were there
    assert fit(corpus, config(), Budget(10**12), recipe=other).chosen.settings == ()


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("4GB", 4 * 10**9),
        ("800M", 800 * 10**6),
        ("1.5 GiB", 3 * 2**29),
        ("2tb", 2 * 10**12),
        ("64k", 64_000),
        ("12345", 12345),
    ],
)
def test_sizes(text: str, n_bytes: int) -> None:
    assert size(text) == n_bytes


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "4 GBs", "4ib", "0", "1e9", "four"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="such as 4GB"):
        size(text)


def test_the_command_plans_and_builds_within_a_budget(
    odqa: Run, corpus: Path, tmp_path: Path
) -> None:
    plan = plan_build(corpus, config())
    command = ("build-index", str(corpus), "--set", "dense.encoder=hashing")
    command = (*command, "--set", "dense.faiss=flat", "--indexes-dir")
    budget = ("--disk-budget", str(plan.build_disk_bytes - int(plan.passages * WIDE * 2.5)))
    code, out, err = odqa(*command, str(tmp_path / "a"), *budget, "--plan", "--json")
    assert (code, json.loads(out)["settings"]) == (0, ["dense.faiss=sq8"]), err
    assert len(json.loads(out)["rejected"]) == 2
    code, out, _ = odqa(*command, str(tmp_path / "a"), *budget, "--plan")
    assert "settings  --set dense.faiss=sq8" in out
    assert not (tmp_path / "a").exists()
    code, out, err = odqa(*command, str(tmp_path / "a"), *budget)
    assert code == 0, err
    assert "fits the budget: --set dense.faiss=sq8" in err
    manifest = read_manifest(tmp_path / "a" / "corpus")
    assert manifest.config["dense"]["faiss"] == "sq8"
    code, _, _ = odqa(*command, str(tmp_path / "a"), "--disk-budget", "1TB")  # what is there
    assert code == 0
    code, _, err = odqa(*command, str(tmp_path / "b"), "--memory-budget", "1M")
    assert code == 1
    assert "no settings fit" in err
