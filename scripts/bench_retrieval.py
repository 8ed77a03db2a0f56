"""Speed and size of retrieval over an index, beside the peers on the same terms, in one run.

    python scripts/bench_retrieval.py INDEX --questions FILE [--plain PLAIN] [--scratch DIR]

INDEX is the folder of an index, FILE a batch of questions (``.tsv`` or ``.jsonl``). Each system
answers every question with its best 100 passages, one question at a time on one thread, warm; the
runs of the systems alternate so that a busy machine is busy for all. PLAIN is an index of the same
corpus built with ``--config configs/plain-bm25.yaml``; with it:

- ``bm25s`` with numba, memory-mapped, over the words of the same passages, k1 and b alike;
- ``tantivy`` over the same words joined by spaces (its k1 and b are fixed);
- ``rank-bm25`` over the first 100,000 passages, beside our index of the same.

The peers' indexes are made of the words in PLAIN, in a temporary folder (or ``--scratch``, where
they are kept). One JSON line at the end; ``ratio`` is the peer's time divided by ours (above 1: we
are faster).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from odqa.build import create_tokenizer, open_retriever
from odqa.cli.questions import read_questions
from odqa.config import Config, load_config
from odqa.retrieval.bm25 import Bm25Retriever, write_bm25
from odqa.retrieval.bm25_files import stored_postings
from odqa.retrieval.postings import UNITS, Field, Postings
from odqa.retrieval.vocabulary import MappedVocabulary
from odqa.store import PassageStore, read_manifest

K = 100
BLOCK = 5_000
PART = 100_000  # passages that rank-bm25 scans
RANK_BM25_QUESTIONS = 20
PLAIN = load_config(Path(__file__).parents[1] / "configs" / "plain-bm25.yaml").sparse

Search = Callable[[str], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=300, help="questions asked")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", type=Path, help="index of the words alone: beside the peers")
    parser.add_argument("--scratch", type=Path, help="keep what is made for the peers there")
    arguments = parser.parse_args()
    _one_thread()
    questions = [q.text for q in read_questions(arguments.questions)][: arguments.limit]
    record: dict[str, object] = {"index": _sizes(arguments.index), "questions": len(questions)}
    record["opening_seconds"] = _opening_seconds(arguments.index)
    hybrid: Any = open_retriever(arguments.index, Config(), "hybrid")
    legs = {"sparse": hybrid.sparse, "dense": hybrid.dense, "hybrid": hybrid}
    searches = {name: _searcher(leg) for name, leg in legs.items()}
    record["milliseconds"] = _latencies(searches, questions, arguments.rounds)
    record["resident_mb"], record["of_that_in_files_mb"] = _resident_megabytes()
    record["questions_per_second_all_cores"] = _throughput(hybrid, questions)
    if arguments.plain:
        with tempfile.TemporaryDirectory(prefix="odqa-bench-") as temporary:
            scratch = arguments.scratch or Path(temporary)
            scratch.mkdir(parents=True, exist_ok=True)
            record["peers"] = _beside_peers(arguments.plain, questions, scratch, arguments.rounds)
    print(json.dumps(record, ensure_ascii=False))


def _one_thread() -> None:
    """What computes with several threads gets one, as every question has."""
    import faiss

    faiss.omp_set_num_threads(1)


def _searcher(retriever: Any) -> Search:
    return lambda question: retriever.retrieve([question], k=K)


def _latencies(
    searches: dict[str, Search], questions: Sequence[str], rounds: int
) -> dict[str, dict[str, float]]:
    """p50 and p95 in milliseconds over questions, each the least of its rounds."""
    best = {name: np.full(len(questions), np.inf) for name in searches}
    for search in searches.values():
        for question in questions[:20]:
            search(question)
    for _ in range(rounds):
        for place, question in enumerate(questions):
            for name, search in searches.items():
                started = time.perf_counter()
                search(question)
                seconds = time.perf_counter() - started
                best[name][place] = min(best[name][place], 1000 * seconds)
    return {
        name: {f"p{p}": round(float(np.percentile(times, p)), 2) for p in (50, 95)}
        for name, times in best.items()
    }


def _opening_seconds(index: Path) -> float:
    started = time.perf_counter()
    open_retriever(index, Config(), "hybrid")
    return round(time.perf_counter() - started, 2)


def _throughput(retriever: Any, questions: Sequence[str]) -> float:
    """Questions a second by as many threads as there are cores, each asking one at a time."""
    search = _searcher(retriever)
    threads = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(search, questions[:20]))
        started = time.perf_counter()
        list(pool.map(search, questions))
        return round(len(questions) / (time.perf_counter() - started), 1)


def _sizes(index: Path) -> dict[str, object]:
    manifest = read_manifest(index)
    parts: dict[str, float] = {}
    for name, file in manifest.files.items():
        part = name.partition("/")[0]
        parts[part] = parts.get(part, 0) + file["bytes"] / 1e6
    return {
        "passages": manifest.passages,
        "megabytes": {part: round(size, 1) for part, size in parts.items()},
        "total_megabytes": round(sum(parts.values()), 1),
        "build": dict(manifest.build),
    }


def _resident_megabytes() -> tuple[int, int]:
    """What this process holds now, and how much of it are mapped files that were read."""
    pages = [int(field) for field in Path("/proc/self/statm").read_text().split()]
    megabytes = [round(n * resource.getpagesize() / 1e6) for n in pages]
    return megabytes[1], megabytes[2]


def _beside_peers(
    plain: Path, questions: Sequence[str], scratch: Path, rounds: int
) -> dict[str, object]:
    words = create_tokenizer("mecab").tokenize(list(questions))
    asked = dict(zip(questions, words, strict=True))
    store = PassageStore.open(plain / "passages")
    ids, vocabulary = _words_of(plain, len(store))
    searches = {"odqa": _ours(plain / "sparse", store, asked)}
    built = {}
    for name, make in (("bm25s", _bm25s), ("tantivy", _tantivy)):
        started = time.perf_counter()
        search = make(ids, vocabulary, scratch / name, asked)
        built[name] = round(time.perf_counter() - started, 1)
        if search is not None:
            searches[name] = search
    latencies = _latencies(searches, questions, rounds)
    part = ids[:PART]
    few = questions[:RANK_BM25_QUESTIONS]
    write_bm25(scratch / "part", _postings(part), vocabulary, PLAIN)
    ours_of_part = _ours(scratch / "part", _Head(store, len(part)), asked)
    of_part = _latencies(
        {"odqa": ours_of_part, "rank-bm25": _rank_bm25(part, asked, vocabulary)}, few, 1
    )
    return {
        "build_seconds": built,
        "milliseconds": latencies,
        "ratio": {
            name: {p: round(times[p] / latencies["odqa"][p], 2) for p in times}
            for name, times in latencies.items()
        },
        f"on {len(part)} passages": of_part,
        "rank-bm25 ratio": round(of_part["rank-bm25"]["p50"] / of_part["odqa"]["p50"]),
    }


def _words_of(plain: Path, n_passages: int) -> tuple[list[np.ndarray], list[str]]:
    """The words of every passage as numbers, as often as they occur, from the index's postings."""
    rows = np.arange(n_passages, dtype=np.int32)
    blocks = list(stored_postings(plain / "sparse", PLAIN, rows))
    of_passage = np.concatenate([block.rows for block in blocks])
    counts = np.concatenate([block.units for block in blocks]) // UNITS
    terms = np.concatenate([block.terms for block in blocks])
    order = np.argsort(of_passage, kind="stable")
    repeated = np.repeat(terms[order], counts[order])
    lengths = np.bincount(of_passage, weights=counts, minlength=n_passages).astype(np.int64)
    ids = np.split(repeated, np.cumsum(lengths)[:-1])
    return ids, MappedVocabulary(plain / "sparse").terms()


class _Words:
    """The words of the questions, tokenised beforehand as for the peers."""

    def __init__(self, asked: dict[str, list[str]]) -> None:
        self._asked = asked
        self.fingerprint = create_tokenizer("mecab").fingerprint

    def terms(self, texts: Sequence[str]) -> list[Any]:
        from odqa.types import Terms

        return [Terms(self._asked[text], [], []) for text in texts]

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        return [self._asked[text] for text in texts]


def _ours(directory: Path, store: Any, asked: dict[str, list[str]]) -> Search:
    """Our own engine over the same terms; rows and scores, as the peers give."""
    retriever = Bm25Retriever.open(directory, store, _Words(asked), PLAIN)
    return lambda question: retriever.rank([question], k=K)


class _Head:
    """The first passages of a store."""

    def __init__(self, store: PassageStore, n: int) -> None:
        self._store, self._n = store, n
        self.passages, self.passage_ids = store.passages, store.passage_ids

    def __len__(self) -> int:
        return self._n


def _postings(ids: Sequence[np.ndarray]) -> Iterator[Postings]:
    for start in range(0, len(ids), BLOCK):
        yield Postings.of([Field.of(ids[start : start + BLOCK])], start)


def _bm25s(
    ids: Sequence[np.ndarray], vocabulary: Sequence[str], directory: Path, asked: Any
) -> Search:
    import bm25s

    if not (directory / "params.index.json").exists():
        numbers = {word: number for number, word in enumerate(vocabulary)}
        index = bm25s.BM25(k1=PLAIN.k1, b=PLAIN.b, method="lucene", backend="numba")
        index.index(([terms.tolist() for terms in ids], numbers), show_progress=False)
        index.save(directory)
    loaded = bm25s.BM25.load(directory, mmap=True, load_vocab=True, backend="numba")

    def search(question: str) -> object:
        return loaded.retrieve([asked[question]], k=K, show_progress=False, n_threads=1)

    return search


def _tantivy(
    ids: Sequence[np.ndarray], vocabulary: Sequence[str], directory: Path, asked: Any
) -> Search | None:
    try:
        import tantivy
    except ImportError:
        print("tantivy is not installed; left out", file=sys.stderr)
        return None
    directory.mkdir(exist_ok=True)
    schema = tantivy.SchemaBuilder()
    schema.add_text_field("body", stored=False, tokenizer_name="whitespace", index_option="freq")
    schema.add_integer_field("row", stored=True, indexed=False)
    index = tantivy.Index(schema.build(), path=str(directory))
    if index.searcher().num_docs == 0:
        writer = index.writer(heap_size=256_000_000, num_threads=1)
        for row, terms in enumerate(ids):
            body = " ".join(vocabulary[term] for term in terms.tolist())
            writer.add_document(tantivy.Document(body=body, row=row))
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
    searcher = index.searcher()

    def search(question: str) -> object:
        queries = [
            (tantivy.Occur.Should, tantivy.Query.term_query(index.schema, "body", word))
            for word in asked[question]
        ]
        hits = searcher.search(tantivy.Query.boolean_query(queries), limit=K).hits
        return [searcher.doc(address)["row"] for _, address in hits]

    return search


def _rank_bm25(ids: Sequence[np.ndarray], asked: Any, vocabulary: Sequence[str]) -> Search:
    from rank_bm25 import BM25Okapi

    index = BM25Okapi([[vocabulary[t] for t in terms.tolist()] for terms in ids])

    def search(question: str) -> object:
        scores = index.get_scores(asked[question])
        return np.argpartition(-scores, K)[:K]

    return search


if __name__ == "__main__":
    main()
