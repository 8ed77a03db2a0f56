"""What a user can get wrong: the exit code, what is said, and that stdout stays empty."""

import gzip
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Run
from small_components import made_by_another_tokenizer

SPARSE = ("--retriever", "sparse")
SEARCH = ("search", "거북선", *SPARSE)


def refused(outcome: tuple[int, str, str], code: int, *words: str) -> str:
    """The message, after checking that it is one and says ``words``."""
    found, out, err = outcome
    assert found == code, err
    assert out == ""
    assert "Traceback" not in err
    assert "error: " in err
    assert "unexpected error" not in err
    for word in words:
        assert word in err
    return err


# Configuration

CONFIGURATION = {
    "unknown-key": ("retrieval.dept=5", "unknown key 'retrieval.dept'", "retrieval.depth"),
    "unknown-section": ("retreival.depth=5", "unknown key 'retreival'", "retrieval"),
    "wrong-type": ("retrieval.depth=many", "retrieval.depth", "expected int", "'many'"),
    "bool-for-int": ("retrieval.depth=true", "expected int", "True"),
    "no-equals-sign": ("retrieval.depth", "section.key=value"),
    "broken-value": ("retrieval.depth=[", "--set retrieval.depth=["),
    "section-as-value": ("retrieval=5", "'retrieval' is a section"),
    "key-under-a-value": ("retrieval.depth.more=5", "retrieval.depth", "expected int"),
    "unknown-retriever": ("retrieval.retriever=both", "both", "sparse", "hybrid"),
}


@pytest.mark.parametrize("kind", CONFIGURATION)
def test_configuration(odqa: Run, kind: str) -> None:
    setting, *words = CONFIGURATION[kind]
    refused(odqa("search", "거북선", "--set", setting), 2, *words)


FILES = {
    "no-mapping": ("- 1\n- 2\n", "must hold sections"),
    "no-yaml": ("a: [1\nb: }", "is not valid YAML"),
    "unknown-key": ("reader:\n  modell: x\n", "'reader.modell'", "reader.model"),
    "not-text": (b"\xff\xfe\x00", "is not valid YAML"),
}


@pytest.mark.parametrize("kind", FILES)
def test_configuration_file(odqa: Run, tmp_path: Path, kind: str) -> None:
    content, *words = FILES[kind]
    file = tmp_path / "c.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(odqa(*SEARCH, "--config", str(file)), 2, str(file), *words)


def test_configuration_file_that_is_not_there(odqa: Run) -> None:
    refused(odqa(*SEARCH, "--config", "none.yaml"), 2, "none.yaml", "No such file")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("fusion.temperature=0", ("fusion.temperature", "above 0")),
        ("fusion.reader_weight=.nan", ("fusion.reader_weight", "finite")),
        ("reader.model=nothing", ("reader.model", "'nothing'", "reader-ko")),
        ("reader.passages=0", ("passages", "at least 1")),
        ("reader.length_penalty=.inf", ("reader.length_penalty", "finite")),
        ("reader.model=2024-99-99", ("--set reader.model=2024-99-99", "not valid YAML")),
    ],
)
def test_configuration_of_answering(odqa: Run, setting: str, words: tuple[str, ...]) -> None:
    command = ("ask", "거북선", *SPARSE, "--set", "reader.model=last-word", "--set", setting)
    refused(odqa(*command), 2, *words)


# Options

OPTIONS = {
    "unknown-command": (("serach", "x"), "invalid choice: 'serach'"),
    "unknown-option": (("search", "x", "--tok-p", "3"), "unrecognized arguments"),
    "abbreviated-option": (("search", "x", "--top", "3"), "unrecognized arguments"),
    "top-k-zero": (("search", "x", "--top-k", "0"), "--top-k", "at least 1"),
    "top-n-no-number": (("ask", "x", "--top-n", "two"), "--top-n", "'two'"),
    "unknown-leg": (("search", "x", "--retriever", "both"), "'both'", "sparse"),
    "empty-question": (("ask", ""), "question is empty"),
    "blank-question": (("search", "  \t "), "question is empty"),
    "no-question": (("search",), "no question"),
    "question-and-file": (("ask", "x", "--questions", "q.tsv"), "not both"),
    "passages-and-index": (("ask", "x", "--passages", "p.jsonl", "--index", "small"), "not both"),
    "empty-corpus-name": (("build-index", ""), "corpus is empty"),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_options(odqa: Run, kind: str) -> None:
    arguments, *words = OPTIONS[kind]
    refused(odqa(*arguments), 2, *words)


def test_question_of_broken_bytes(home: Path) -> None:
    command = [sys.executable, "-m", "odqa", "search", b"\xff\xfe", *SPARSE]
    run = subprocess.run(command, cwd=home, capture_output=True, check=False, env=_environment())
    assert run.returncode == 2
    assert run.stdout == b""
    assert run.stderr.decode() == (
        "odqa: error: the question is not valid Unicode: give it in UTF-8\n"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", ("no question",)), (b"ok\n\xff\n", ("stdin:2", "is not UTF-8"))],
    ids=["empty", "not-utf8"],
)
def test_stdin(
    odqa: Run, monkeypatch: pytest.MonkeyPatch, content: bytes, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    found = odqa("ask", "--output", "x.jsonl", *SPARSE, "--set", "reader.model=last-word")
    refused(found, 2, *words)


# Files of questions

QUESTIONS = {
    "bad-json": ("q.jsonl", b'{"id": "1", "question": "a"}\n{"id": ', ":2", "not valid JSON"),
    "no-object": ("q.jsonl", b'["1", "a"]', ":1", "expected an object"),
    "missing-field": ("q.jsonl", b'{"id": "1"}', ":1", "field 'question'", "is missing"),
    "number-for-id": ("q.jsonl", b'{"id": 1, "question": "a"}', ":1", "field 'id'", "got int"),
    "null-question": ("q.jsonl", b'{"id": "1", "question": null}', "field 'question'", "NoneType"),
    "deep-json": ("q.jsonl", b"[" * 200_000, ":1", "not valid JSON"),
    "long-number": ("q.jsonl", b'{"id": ' + b"1" * 5_000 + b"}", ":1", "not valid JSON"),
    "half-a-character": ("q.jsonl", b'{"id": "1", "question": "\\ud800"}', ":1", "'question'"),
    "nul-in-json": ("q.jsonl", b'{"id": "1", "question": "\\u0000"}', ":1", "'question'", "NUL"),
    "blank-question": ("q.tsv", b"1\ta\n2\t \n", ":2", "question is empty"),
    "one-column": ("q.tsv", "질문만\n".encode(), ":1", "expected 2 columns", "found 1"),
    "three-columns": ("q.tsv", b"1\ta\tb\n", ":1", "found 3"),
    "id-twice": ("q.tsv", b"1\ta\n2\tb\n1\tc\n", ":3", "'1' was there before"),
    "empty-id": ("q.tsv", b"\ta\n", ":1", "field 'id'", "empty"),
    "white-space-in-id": ("q.tsv", b"a b\tx\n", "'a b' holds white space", "--json"),
    "no-question": ("q.tsv", b"\n\n", "holds no question"),
    "not-utf8": ("q.tsv", "1\t거북선".encode("cp949"), ":1", "is not UTF-8", "iconv"),
    "nul-byte": ("q.tsv", b"1\ta\n2\tb\0c\n", ":2", "NUL"),
    "unknown-ending": ("q.csv", b"1,a\n", ".tsv", ".jsonl"),
}


@pytest.mark.parametrize("kind", QUESTIONS)
def test_questions(odqa: Run, tmp_path: Path, kind: str) -> None:
    name, content, *words = QUESTIONS[kind]
    file = tmp_path / str(name)
    assert isinstance(content, bytes)
    file.write_bytes(content)
    output = tmp_path / "out"
    command = ("search", "--questions", str(file), "--output", str(output), *SPARSE)
    refused(odqa(*command), 2, str(file), *map(str, words))
    assert not output.exists()


def test_questions_that_are_not_there(odqa: Run) -> None:
    refused(odqa("ask", "--questions", "no.tsv"), 2, "no.tsv", "No such file")


def test_questions_that_are_a_folder(odqa: Run, tmp_path: Path) -> None:
    folder = tmp_path / "q.tsv"
    folder.mkdir()
    refused(odqa("search", "--questions", str(folder), *SPARSE), 2, str(folder), "directory")


def test_output_that_is_a_folder(odqa: Run, tmp_path: Path) -> None:
    refused(odqa(*SEARCH, "--output", str(tmp_path)), 2, str(tmp_path), "is a folder")


def test_output_under_a_file(odqa: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    place = str(tmp_path / "file" / "run.trec")
    refused(odqa(*SEARCH, "--output", place), 2, place, "cannot be written")


# Passages

PASSAGES = {
    "no-text": ('{"id": "1", "title": "t"}', ":1", "'text'"),
    "bad-json": ('{"id": "1", "title": "t", "text": "x"}\n{', ":2", "JSON"),
    "id-twice": ('{"id": "1", "title": "t", "text": "x"}\n' * 2, ":2", "'1'"),
    "title-a-list": ('{"id": "1", "title": [], "text": "x"}', ":1", "'title'"),
    "empty": ("", "p.jsonl"),
}


@pytest.mark.parametrize("kind", PASSAGES)
def test_passages(odqa: Run, tmp_path: Path, kind: str) -> None:
    content, *words = PASSAGES[kind]
    file = tmp_path / "p.jsonl"
    file.write_text(content, encoding="utf-8")
    command = ("ask", "x", "--set", "reader.model=last-word", "--passages", str(file))
    refused(odqa(*command), 2, str(file), *words)


def test_passages_that_are_not_there(odqa: Run) -> None:
    refused(odqa("ask", "x", "--passages", "no.jsonl"), 2, "no.jsonl", "no such file")


def test_passages_in_another_format(odqa: Run, tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_text("x")
    refused(odqa("ask", "x", "--passages", str(file)), 2, str(file), ".jsonl")


# A corpus

GOOD = '{"id": "1", "title": "t", "text": "본문이다."}\n'
CORPORA = {
    "bad-json": ("c.jsonl", (GOOD + "{oops\n").encode(), ":2", "JSON"),
    "missing-title": ("c.jsonl", b'{"id": "1", "text": "x"}', ":1", "'title'"),
    "text-a-number": ("c.jsonl", b'{"id": "1", "title": "t", "text": 5}', ":1", "'text'"),
    "id-twice": ("c.jsonl", (GOOD * 2).encode(), ":2", "'1'"),
    "long-number": ("c.jsonl", b'{"n": ' + b"1" * 5_000 + b"}", ":1", "JSON"),
    "no-article": ("c.jsonl", b"", "c.jsonl"),
    "not-utf8": ("c.jsonl", GOOD.encode("cp949"), ":1", "UTF-8"),
    "nul-byte": ("c.jsonl", GOOD.encode().replace(b"t", b"\\u0000", 1), "c.jsonl"),
    "truncated": ("c.jsonl.gz", gzip.compress(GOOD.encode() * 1)[:-12], "c.jsonl.gz"),
    "no-gzip": ("c.jsonl.gz", GOOD.encode(), "c.jsonl.gz"),
    "unknown-ending": ("c.docx", b"PK", "c.docx", ".jsonl"),
    "json-of-another-kind": ("c.json", b'{"a": 1}', "c.json"),
    "unknown-encoding": ("c.xml", b'<?xml version="1.0" encoding="euc-kr"?><a/>', "UTF-8"),
    "no-wikipedia": ("c.xml", b"<html></html>", "c.xml"),
}


@pytest.mark.parametrize("kind", CORPORA)
def test_corpus(odqa: Run, tmp_path: Path, kind: str) -> None:
    name, content, *words = CORPORA[kind]
    assert isinstance(content, bytes)
    file = tmp_path / str(name)
    file.write_bytes(content)
    command = ("build-index", str(file), *SPARSE, "--indexes-dir", str(tmp_path / "indexes"))
    refused(odqa(*command), 2, str(file), *map(str, words))
    assert not [p for p in tmp_path.glob("indexes/*") if not p.name.startswith(".")]


def test_corpus_that_is_not_there(odqa: Run) -> None:
    refused(odqa("build-index", "no/such.jsonl", *SPARSE), 2, "no/such.jsonl")


def test_corpus_folder_without_articles(odqa: Run, tmp_path: Path) -> None:
    refused(odqa("build-index", str(tmp_path), *SPARSE), 2, str(tmp_path))


BUILDING = {
    "tokenizer": ("tokenizer.name=komoran", "'komoran'", "mecab", "bigram"),
    "engine": ("sparse.engine=lucene", "sparse.engine", "lucene", "bm25s"),
    "k1": ("sparse.k1=-1", "sparse.k1", "-1"),
    "b": ("sparse.b=1.5", "sparse.b", "1.5"),
    "passage-chars": ("corpus.passage_chars=0", "corpus.passage_chars", "0"),
    "overlap": ("corpus.overlap_chars=-5", "corpus.overlap_chars", "-5"),
}


@pytest.mark.parametrize("kind", BUILDING)
def test_configuration_of_an_index(odqa: Run, tmp_path: Path, kind: str) -> None:
    setting, *words = BUILDING[kind]
    command = ("build-index", "small.jsonl", "--indexes-dir", str(tmp_path), "--set", setting)
    refused(odqa(*command, *SPARSE), 2, *words)


@pytest.mark.parametrize("name", ["a/b", "..", "", "이" * 90])
def test_name_that_is_no_folder(odqa: Run, name: str) -> None:
    refused(odqa("build-index", "small.jsonl", "--name", name, *SPARSE), 2, "name")


def test_index_that_is_there_already(odqa: Run) -> None:
    command = ("build-index", "small.jsonl", *SPARSE, "--set", "corpus.passage_chars=300")
    refused(odqa(*command), 2, "small", "--force")


# An index


def test_index_that_is_not_there(odqa: Run) -> None:
    refused(odqa(*SEARCH, "--index", "none"), 1, "'none'", "small")


def test_folder_without_indexes(odqa: Run, tmp_path: Path) -> None:
    refused(odqa(*SEARCH, "--indexes-dir", str(tmp_path)), 1, str(tmp_path), "odqa build-index")


def test_index_not_finished(odqa: Run, home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "indexes" / "small", tmp_path / ".half.building")
    (tmp_path / ".half.building" / "manifest.json").unlink()
    message = refused(odqa(*SEARCH, "--indexes-dir", str(tmp_path), "--index", "half"), 1)
    assert "--resume" in message


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 999}', '{"format": 1}'])
def test_index_with_a_damaged_manifest(odqa: Run, home: Path, tmp_path: Path, content: str) -> None:
    copy = shutil.copytree(home / "indexes" / "small", tmp_path / "small")
    (copy / "manifest.json").write_text(content)
    refused(odqa(*SEARCH, "--index", str(copy)), 1, str(copy))


def test_index_with_a_truncated_file(odqa: Run, home: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(home / "indexes" / "small", tmp_path / "small")
    for file in (copy / "passages").iterdir():
        os.truncate(file, file.stat().st_size // 2)
    refused(odqa(*SEARCH, "--index", str(copy)), 1, str(copy), "--force")


def test_several_indexes_and_none_named(odqa: Run, home: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(home / "indexes" / "small", tmp_path / name)
    refused(odqa(*SEARCH, "--indexes-dir", str(tmp_path)), 1, "one, two", "--index")


def test_index_without_the_leg(odqa: Run) -> None:
    refused(odqa("search", "거북선", "--retriever", "dense"), 1, "small", "sparse", "--force")


def test_index_built_otherwise(odqa: Run) -> None:
    refused(odqa(*SEARCH, "--set", "sparse.k1=1.7"), 1, "sparse.k1=1.6", "1.7")


def test_index_made_by_another_tokenizer(odqa: Run, home: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(home / "indexes" / "small", tmp_path / "small")
    made_by_another_tokenizer(copy)
    refused(odqa(*SEARCH, "--index", str(copy)), 1, "mecab/0")


# Evaluation

EVALUATION = {
    "unknown-task": (("--task", "ask"), "--task", "'ask'", "retrieval"),
    "unknown-level": (("--level", "word"), "--level", "'word'", "article"),
    "unknown-split": (("--task", "retrieval", "--split", "test"), "test", "train", "dev"),
    "no-data-set": (("--dataset", "none.json"), "none.json"),
    "unknown-kind": (("--dataset", "small.txt"), "small.txt", ".jsonl"),
    "no-question": (("--dataset", "empty.jsonl"), "empty.jsonl"),
    "bad-json": (("--dataset", "bad.jsonl"), "bad.jsonl:1"),
    "missing-field": (("--dataset", "field.jsonl"), "field.jsonl:1", "'question'"),
    "no-run-to-compare": (("--compare", "nothing"), "nothing", "no finished run"),
    "output-is-a-file": (("--output", "small.jsonl"), "small.jsonl", "is a file"),
    "no-qrels": (("--task", "retrieval", "--dataset", "set"), "dev.qrels.tsv"),
    "bad-qrels": (("--task", "retrieval", "--dataset", "bad-set"), "dev.qrels.tsv:1", "4 columns"),
}


@pytest.mark.parametrize("kind", EVALUATION)
def test_evaluation(odqa: Run, home: Path, kind: str) -> None:
    (home / "small.txt").write_text("x")
    (home / "empty.jsonl").write_text("")
    (home / "bad.jsonl").write_text("{")
    (home / "field.jsonl").write_text('{"id": "1", "answers": []}')
    for name in ("set", "bad-set"):
        (home / name).mkdir(exist_ok=True)
        (home / name / "dev.topics.tsv").write_text("1\tx\n")
    (home / "bad-set" / "dev.qrels.tsv").write_text("1 0\n")
    arguments, *words = EVALUATION[kind]
    refused(odqa("evaluate", *SPARSE, "--set", "reader.model=last-word", *arguments), 2, *words)


def _environment() -> dict[str, str]:
    import odqa

    return {**os.environ, "PYTHONPATH": str(Path(odqa.__file__).parents[1])}
