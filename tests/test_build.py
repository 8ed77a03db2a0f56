"""Building an index: what is in it, what is refused, and what happens on the way there."""

from __future__ import annotations

import dataclasses
import json
import lzma
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hashing_encoder import HashingEncoder

from odqa.build import (
    build_index,
    components,
    create_encoder,
    create_reader,
    open_pipeline,
    open_retriever,
    shards,
    workers,
)
from odqa.build.shards import TermBlock, shard_jobs
from odqa.config import Config, DenseConfig, ReaderConfig, load_config
from odqa.corpus import clean_document, read_documents
from odqa.errors import ConfigError, IndexNotUsableError, InputError, UsageError
from odqa.store import (
    PassageStore,
    check_files,
    document_digest,
    find_index,
    read_manifest,
)
from odqa.text.terms import passage_terms
from odqa.text.tokenizers import create_tokenizer
from odqa.types import Candidate, Document, Passage, Reading

NOUNS = [
    "서울",
    "한강",
    "부산",
    "바다",
    "산",
    "대통령",
    "임금",
    "노래",
    "영화",
    "축구",
    "전쟁",
    "별",
]


@pytest.fixture(autouse=True)
def hashing_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(components.ENCODERS, "hashing", lambda config, stored: HashingEncoder())


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_DOCUMENTS", 7)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus.jsonl", articles(40))


def articles(n: int) -> list[dict[str, object]]:
    chance = random.Random(5)
    return [
        {
            "id": str(1000 + i),
            "title": f"{chance.choice(NOUNS)} {i}",
            "text": " ".join(
                f"{chance.choice(NOUNS)}은 {chance.choice(NOUNS)}의 {chance.choice(NOUNS)}이다."
                for _ in range(chance.randrange(1, 90))
            ),
        }
        for i in range(n)
    ]


def write_corpus(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), "utf-8")
    return path


def config(*overrides: str) -> Config:
    return load_config(None, ["dense.encoder=hashing", *overrides])


def build(corpus: Path, indexes_dir: Path, *overrides: str, **options: object) -> Path:
    return build_index(corpus, indexes_dir=indexes_dir, config=config(*overrides), **options)  # type: ignore[arg-type]


def contents(index: Path) -> dict[str, object]:
    """Every byte of an index, but for the time and date of its making."""
    files = {
        str(path.relative_to(index)): path.read_bytes()
        for path in index.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    manifest = json.loads((index / "manifest.json").read_text())
    del manifest["build"]
    return {**files, "manifest.json": manifest}


# ---- what is in an index ----


@pytest.mark.parametrize("retriever", ["sparse", "dense", "hybrid"])
def test_an_index_finds_its_passages(tmp_path: Path, corpus: Path, retriever: str) -> None:
    index = build(corpus, tmp_path / "indexes", f"retrieval.retriever={retriever}")
    assert index == find_index("corpus", tmp_path / "indexes")
    store = PassageStore.open(index / "passages")
    passage = store[5]  # its title has a number of its own; its vector is the question's
    question = passage.title if retriever == "sparse" else f"{passage.title} {passage.text}"
    best = open_retriever(index, config()).retrieve([question], k=3)[0][0]
    assert best.passage.doc_id == passage.doc_id
    assert sorted(p.name for p in index.iterdir()) == sorted(
        ["manifest.json", "recipe.json", "passages", "duplicates", *components.legs_of(retriever)]
    )


def test_the_manifest_tells_what_was_built(tmp_path: Path, corpus: Path) -> None:
    index = build(corpus, tmp_path / "indexes", "corpus.passage_chars=200")
    manifest = read_manifest(index)
    store = PassageStore.open(index / "passages")
    assert (manifest.documents, manifest.passages) == (40, len(store))
    assert manifest.corpus == "corpus"
    assert manifest.legs == ("sparse", "dense")
    assert manifest.tokenizer == create_tokenizer("mecab").fingerprint
    assert manifest.encoder == "hashing/1"
    assert manifest.config["corpus"]["passage_chars"] == 200
    assert manifest.terms > len(NOUNS)
    assert check_files(index, manifest) == []


def test_offsets_count_in_the_cleaned_article(tmp_path: Path) -> None:
    text = "우크라이나()는 동유럽의 나라이다. 리치(, 1941년)는 학자이다.\n생애.\n태어났다. 자랐다."
    record = {"id": "44", "title": " 우크라이나 ", "text": text, "url": "https://a.kr"}
    corpus = write_corpus(tmp_path / "c.jsonl", [record])
    store = PassageStore.open(build(corpus, tmp_path / "indexes") / "passages")
    (document,) = read_documents(corpus)
    cleaned = clean_document(document, config().corpus)
    assert [passage.text for passage in store] == [cleaned.text[p.start : p.end] for p in store]
    assert {passage.title for passage in store} == {"우크라이나"}
    assert store.metadata("44") == {"url": "https://a.kr"}


def test_digests_are_those_of_the_articles_as_they_were_read(tmp_path: Path) -> None:
    record = {"id": "44", "title": " 우크라이나 ", "text": "우크라이나()는 나라이다.", "url": "u"}
    corpus = write_corpus(tmp_path / "c.jsonl", [record])
    store = PassageStore.open(build(corpus, tmp_path / "indexes") / "passages")
    (document,) = read_documents(corpus)
    assert store[0].text != document.text
    assert store.digest("44") == document_digest(document)


def test_terms_are_the_title_so_many_times_then_heading_then_text() -> None:
    passages = [
        Passage("1#0", "1", "서울 역사", "한강 강물", 0, 5, ""),
        Passage("1#1", "1", "서울 역사", "강물", 6, 8, "지리"),
    ]
    terms = list(passage_terms(passages, create_tokenizer("whitespace"), title_weight=2))
    assert [passage.words for passage in terms] == [
        ["서울", "역사"] * 2 + ["한강", "강물"],
        ["서울", "역사"] * 2 + ["지리"] + ["강물"],
    ]


def test_term_numbers_are_carried_into_a_larger_vocabulary() -> None:
    block = TermBlock.encode([["가", "나", "가"], [], ["다"]])
    assert block.vocabulary.decode() == ["가", "나", "다"]
    numbers = {"다": 0, "x": 1, "가": 2, "나": 3}
    renumbered = block.renumbered(numbers)
    assert renumbered.tolist() == [2, 3, 2, 0]
    assert renumbered.dtype == np.int32


def test_a_shard_is_cut_by_documents_or_by_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_DOCUMENTS", 3)
    monkeypatch.setattr(shards, "SHARD_CHARS", 100)
    documents = [Document(str(i), "", "가" * (150 if i == 1 else 1)) for i in range(7)]
    sizes = [len(job.documents) for job in shard_jobs(documents, tmp_path)]
    assert sizes == [2, 3, 2]


def test_the_same_index_comes_out_of_any_number_of_processes(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, small_shards: None
) -> None:
    built = []
    for cores in (1, 3):
        monkeypatch.setattr(workers, "n_cores", lambda cores=cores: cores)
        built.append(build(corpus, tmp_path / f"{cores}", "corpus.passage_chars=200"))
    assert contents(built[0]) == contents(built[1])


def test_the_same_index_comes_out_of_other_shards(tmp_path: Path, corpus: Path) -> None:
    whole = build(corpus, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_DOCUMENTS", 7)
        assert contents(whole) == contents(build(corpus, tmp_path / "shards"))


def test_progress_is_told_of_every_stage(tmp_path: Path, corpus: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    build(corpus, tmp_path / "indexes", progress=lambda *what: told.append(what))
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == [
        "split and tokenise",
        "store passages",
        "compare duplicates",
        "encode passages",
        "index vectors",
        "collect terms",
        "index terms",
        "write checksums",
    ]
    assert all(total is None or done <= total for _, done, total in told)
    assert told[0] == ("split and tokenise", 40, None)


# ---- names, replacing, what is in the way ----


def test_building_the_same_again_changes_nothing(tmp_path: Path, corpus: Path) -> None:
    index = build(corpus, tmp_path / "indexes")
    before = (index / "manifest.json").stat().st_mtime_ns
    assert build(corpus, tmp_path / "indexes") == index
    assert (index / "manifest.json").stat().st_mtime_ns == before
    assert [path.name for path in (tmp_path / "indexes").iterdir()] == ["corpus"]


def test_another_index_in_the_way_is_not_replaced_unasked(tmp_path: Path, corpus: Path) -> None:
    index = build(corpus, tmp_path / "indexes")
    with pytest.raises(UsageError, match=r"config\.sparse\.k1.*--force"):
        build(corpus, tmp_path / "indexes", "sparse.k1=1.5")
    replaced = build(corpus, tmp_path / "indexes", "sparse.k1=1.5", force=True)
    assert replaced == index
    assert read_manifest(index).config["sparse"]["k1"] == 1.5
    assert [path.name for path in (tmp_path / "indexes").iterdir()] == ["corpus"]


def test_a_folder_that_is_no_index_is_never_replaced(tmp_path: Path, corpus: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"")
    for force in (True, False):
        with pytest.raises(UsageError, match="no index"):
            build(corpus, tmp_path, name="photos", force=force)
    assert (photos / "a.jpg").exists()


def test_a_damaged_index_is_not_taken_for_a_finished_one(tmp_path: Path, corpus: Path) -> None:
    index = build(corpus, tmp_path / "indexes")
    (index / "passages" / "texts.bin").write_bytes(b"")
    with pytest.raises(IndexNotUsableError, match="--force"):
        build(corpus, tmp_path / "indexes")
    build(corpus, tmp_path / "indexes", force=True)
    assert check_files(index, read_manifest(index)) == []


@pytest.mark.parametrize(
    "override",
    [
        "retrieval.retriever=spares",
        "tokenizer.name=mecap",
        "dense.encoder=hashng",
        "dense.faiss=ivf",
        "dense.faiss='IDMap,Flat'",
        "dense.device=gpu",
        "dense.precision=fp23",
        "sparse.b=2",
        "corpus.passage_chars=0",
        "corpus.overlap_chars=-1",
        "corpus.overlap_chars=500",
    ],
)
def test_bad_settings_are_found_before_any_work(
    tmp_path: Path, corpus: Path, override: str
) -> None:
    with pytest.raises(ConfigError):
        build(corpus, tmp_path / "indexes", override)
    assert not (tmp_path / "indexes").exists()


@pytest.mark.parametrize("encoder", ["hashing", "static-ko", "e5-small-ko"])
def test_devices_and_precisions_are_checked_whatever_the_encoder(encoder: str) -> None:
    for change, message in (
        ({"device": "cuda:x"}, r"dense\.device: unknown 'cuda:x'; known: auto, cpu, cuda, cuda:N"),
        ({"precision": "int4"}, r"dense\.precision: unknown 'int4'; known: auto, fp32, bf16, fp16"),
    ):
        with pytest.raises(ConfigError, match=message):
            create_encoder(DenseConfig(encoder=encoder, **change))
    with pytest.raises(ConfigError, match=r"reader\.device: unknown 'gpu'"):
        create_reader(ReaderConfig(device="gpu"))


def test_too_few_passages_for_a_storage_are_found_before_they_are_encoded(
    tmp_path: Path, corpus: Path
) -> None:
    stages: list[str] = []
    with pytest.raises(ConfigError, match=r"dense\.faiss: 'IVF4000,SQ8' cannot be learnt from"):
        build(
            corpus,
            tmp_path / "indexes",
            "dense.faiss='IVF4000,SQ8'",
            progress=lambda stage, done, total: stages.append(stage),
        )
    assert "store passages" in stages
    assert "encode passages" not in stages


def test_a_bad_corpus_leaves_nothing_behind(tmp_path: Path) -> None:
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"id": "1", "title": "a", "text": "가"}\n{"id": 1\n')
    with pytest.raises(InputError, match=r"c\.jsonl:2"):
        build(corpus, tmp_path / "indexes")
    assert list((tmp_path / "indexes").iterdir()) == []


def test_a_corpus_without_text_is_refused(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", [{"id": "1", "title": "a", "text": " "}])
    with pytest.raises(InputError, match=r"c\.jsonl.*text"):
        build(corpus, tmp_path / "indexes")


# ---- going on ----


class Killed(BaseException):
    """What a test raises in a build."""


def interrupt(corpus: Path, indexes_dir: Path, stage: str, *overrides: str) -> None:
    """Run a build up to the first report of ``stage``."""

    def progress(reported: str, done: int, total: int | None) -> None:
        if reported == stage:
            raise Killed

    with pytest.raises(Killed):
        build(corpus, indexes_dir, *overrides, progress=progress)


STAGES = ("split and tokenise", "store passages", "index terms", "encode passages")


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_build_goes_on(
    tmp_path: Path, corpus: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "n_cores", lambda: 1)
    interrupt(corpus, tmp_path / "interrupted", stage)
    with pytest.raises(IndexNotUsableError, match=r"build-index .*corpus\.jsonl .*--resume"):
        find_index("corpus", tmp_path / "interrupted")
    seen: list[int] = []
    monkeypatch.setattr(
        workers, "make_shard", lambda job, *rest: seen.append(1) or shards.make_shard(job, *rest)
    )
    resumed = build(corpus, tmp_path / "interrupted")
    expected_shards = -(-40 // 7)
    assert len(seen) == (expected_shards - 1 if stage == STAGES[0] else 0)
    assert contents(resumed) == contents(build(corpus, tmp_path / "undisturbed"))


@pytest.mark.usefixtures("small_shards")
def test_without_resume_nothing_is_kept(tmp_path: Path, corpus: Path) -> None:
    interrupt(corpus, tmp_path / "indexes", "index terms")
    told: list[tuple[str, int, int | None]] = []
    build(corpus, tmp_path / "indexes", resume=False, progress=lambda *what: told.append(what))
    assert ("split and tokenise", 40, None) in told


@pytest.mark.usefixtures("small_shards")
def test_other_settings_do_not_go_on_with_an_unfinished_build(tmp_path: Path, corpus: Path) -> None:
    interrupt(corpus, tmp_path / "indexes", "index terms")
    with pytest.raises(UsageError, match=r"config\.corpus\.passage_chars.*--force"):
        build(corpus, tmp_path / "indexes", "corpus.passage_chars=300")
    index = build(corpus, tmp_path / "indexes", "corpus.passage_chars=300", force=True)
    assert read_manifest(index).config["corpus"]["passage_chars"] == 300


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("stage", ["split and tokenise", "index terms"])
def test_a_changed_corpus_does_not_go_on(
    tmp_path: Path, corpus: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "n_cores", lambda: 1)
    interrupt(corpus, tmp_path / "indexes", stage)
    records = articles(40)
    records[0]["text"] = "다른 글이다."
    write_corpus(corpus, records)
    with pytest.raises(UsageError, match="--force"):
        build(corpus, tmp_path / "indexes")
    forced = build(corpus, tmp_path / "indexes", force=True)
    assert contents(forced) == contents(build(corpus, tmp_path / "undisturbed"))


@pytest.mark.usefixtures("small_shards")
def test_a_mended_line_does_not_cost_the_shards_before_it(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "n_cores", lambda: 1)
    good = corpus.read_text("utf-8")
    corpus.write_text(good.replace('"id": "1030"', '"id": 1030'), "utf-8")
    with pytest.raises(InputError, match=r"corpus\.jsonl:31.*id"):
        build(corpus, tmp_path / "indexes")
    corpus.write_text(good, "utf-8")
    kept = list((tmp_path / "indexes" / ".corpus.building" / "shards").glob("*.npz"))
    assert len(kept) == 30 // 7
    resumed = build(corpus, tmp_path / "indexes")
    assert contents(resumed) == contents(build(corpus, tmp_path / "undisturbed"))


@pytest.mark.usefixtures("small_shards")
def test_a_corpus_that_became_shorter_does_not_go_on(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "n_cores", lambda: 1)
    good = corpus.read_text("utf-8")
    corpus.write_text(good + "{", "utf-8")
    with pytest.raises(InputError):
        build(corpus, tmp_path / "indexes")
    corpus.write_text("".join(good.splitlines(keepends=True)[:7]), "utf-8")
    with pytest.raises(UsageError, match="--force"):
        build(corpus, tmp_path / "indexes")


# ---- opening ----


def test_a_leg_that_was_not_built_is_refused_by_name(tmp_path: Path, corpus: Path) -> None:
    index = build(corpus, tmp_path / "indexes", "retrieval.retriever=sparse")
    for leg in ("dense", "hybrid"):
        with pytest.raises(IndexNotUsableError, match="--retriever sparse"):
            open_retriever(index, config(), leg)
    with pytest.raises(IndexNotUsableError, match="--retriever sparse"):
        open_retriever(index, config("retrieval.retriever=dense"))
    assert open_retriever(index, config()).retrieve(["서울"], k=1)[0][0].source == "sparse"


def test_legs_of_a_hybrid_index_open_alone(tmp_path: Path, corpus: Path) -> None:
    index = build(corpus, tmp_path / "indexes")
    for leg in ("sparse", "dense", "hybrid"):
        found = open_retriever(index, config(), leg).retrieve(["서울의 한강"], k=2)[0]
        assert [candidate.source for candidate in found] == [leg, leg]
    with pytest.raises(ConfigError, match="spares"):
        open_retriever(index, config(), "spares")


def test_a_search_takes_its_settings_from_the_index(tmp_path: Path, corpus: Path) -> None:
    index = build(corpus, tmp_path / "indexes", "tokenizer.name=bigram", "sparse.k1=1.2")
    default = dataclasses.replace(Config(), retrieval=config().retrieval)
    assert open_retriever(index, default).retrieve(["서울"], k=1)[0]


@pytest.mark.parametrize("asked", ["tokenizer.name=whitespace", "sparse.k1=2.0"])
def test_a_search_that_asks_for_other_settings_is_refused(
    tmp_path: Path, corpus: Path, asked: str
) -> None:
    index = build(corpus, tmp_path / "indexes")
    with pytest.raises(IndexNotUsableError, match=asked.partition("=")[0]):
        open_retriever(index, config(asked))


def test_an_index_of_another_encoder_is_refused(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = build(corpus, tmp_path / "indexes")
    monkeypatch.setattr(HashingEncoder, "fingerprint", "hashing/2")
    with pytest.raises(IndexNotUsableError, match="encoder"):
        open_retriever(index, config())


def test_an_unknown_encoder_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"static-k.*e5-small-ko.*static-ko"):
        create_encoder(DenseConfig(encoder="static-k"))


# ---- real articles ----

KOWIKI = Path(__file__).parents[2] / "shared" / "data" / "kowiki" / "kowiki-20k.jsonl.xz"


@pytest.mark.skipif(not KOWIKI.exists(), reason="needs ../shared/data/kowiki")
def test_real_articles_are_found_by_their_own_words(tmp_path: Path) -> None:
    corpus = tmp_path / "wiki.jsonl"
    with lzma.open(KOWIKI, "rt", encoding="utf-8") as lines:
        corpus.write_text("".join(line for line, _ in zip(lines, range(100), strict=False)))
    index = build(corpus, tmp_path / "indexes", "retrieval.retriever=sparse")
    store = PassageStore.open(index / "passages")
    rows = range(0, len(store), 97)
    found = open_retriever(index, config()).retrieve([store[row].text for row in rows], k=1)
    assert [of_one[0].passage for of_one in found] == store.passages(rows)


def test_a_build_reads_its_source_as_a_stream(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, small_shards: None
) -> None:
    """Shards are made while the corpus is still being read, not after it."""
    events: list[str] = []

    def reading(source: str, *, workers: int) -> Iterator[Document]:
        for document in read_documents(source):
            events.append("read")
            yield document

    monkeypatch.setattr("odqa.build.indexing.read_documents", reading)
    monkeypatch.setattr(workers, "n_cores", lambda: 1)

    def progress(stage: str, done: int, total: int | None) -> None:
        if stage == "split and tokenise":
            events.append("shard")

    build(corpus, tmp_path / "indexes", progress=progress)
    assert events.index("shard") <= 2 * 7


def test_a_pipeline_opens_with_every_part(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FirstWord:
        """A reader that takes each passage's first word for the answer."""

        def read(
            self, questions: Sequence[str], candidates: Sequence[Sequence[Candidate]], *, k: int
        ) -> list[list[Reading]]:
            return [
                [
                    Reading(c, word, c.score, 0, len(word))
                    for c in found[:k]
                    if (word := c.passage.text.split()[0])
                ]
                for found in candidates
            ]

    monkeypatch.setitem(components.READERS, "first-word", lambda config: FirstWord())
    index = build(corpus, tmp_path / "indexes")
    asked = config("reader.model=first-word", "rerank.encoder=hashing", "reader.passages=4")
    pipeline = open_pipeline(index, asked)
    (trace,) = pipeline.trace(["서울의 한강"])
    assert {candidate.source for candidate in trace.retrieved} == {"hybrid"}
    assert [candidate.source for candidate in trace.candidates] == ["rerank"] * 4
    assert trace.prediction.answers[0].text == trace.prediction.answers[0].evidence[0].text
    one_leg = open_pipeline(index, config("reader.model=first-word", "retrieval.retriever=sparse"))
    assert one_leg.reranker is None
