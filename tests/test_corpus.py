from __future__ import annotations

import bz2
import gzip
import json
import lzma
import sys
import types
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from odqa.corpus import corpus_name, read_documents
from odqa.corpus.korquad import read_contexts
from odqa.errors import InputError, MissingDependencyError, UsageError

RECORDS = [
    {"id": "1", "title": "서울", "text": "서울은 수도이다.", "year": 1394},
    {"id": "2", "title": "부산", "text": "부산은 항구이다."},
]
JSONL = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS).encode()
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def ids(source: str | Path) -> list[str]:
    return [document.doc_id for document in read_documents(source)]


@pytest.mark.parametrize("packing", PACKERS)
def test_jsonl_packed_or_not(tmp_path: Path, packing: str) -> None:
    path = write(tmp_path / f"작은.jsonl{packing}", PACKERS[packing](JSONL))
    first, second = read_documents(path)
    assert (first.doc_id, first.title, first.text) == ("1", "서울", "서울은 수도이다.")
    assert first.metadata == {"year": 1394}
    assert second.metadata == {}
    assert corpus_name(path) == "작은"


@pytest.mark.parametrize("packing", PACKERS)
def test_endings_may_be_in_capitals(tmp_path: Path, packing: str) -> None:
    path = write(tmp_path / f"CORPUS.JSONL{packing.upper()}", PACKERS[packing](JSONL))
    assert ids(path) == ["1", "2"]
    assert corpus_name(path) == "CORPUS"
    folder = write(tmp_path / "wiki" / f"A.JSON{packing.upper()}", PACKERS[packing](JSONL)).parent
    assert ids(folder) == ["1", "2"]


@pytest.mark.parametrize("packing", [".gz", ".xz", ".zst"])
def test_files_of_several_frames(tmp_path: Path, packing: str) -> None:
    one, two = JSONL.splitlines(keepends=True)
    path = write(tmp_path / f"a.jsonl{packing}", PACKERS[packing](one) + PACKERS[packing](two))
    assert ids(path) == ["1", "2"]


@pytest.mark.parametrize("packing", [p for p in PACKERS if p])
def test_a_truncated_or_mislabelled_file_is_named(tmp_path: Path, packing: str) -> None:
    records = (json.dumps({**RECORDS[0], "id": str(n), "salt": hash(n**9)}) for n in range(999))
    packed = PACKERS[packing]("\n".join(records).encode())
    path = write(tmp_path / f"a.jsonl{packing}", packed[: len(packed) // 2])
    with pytest.raises(InputError, match=rf"a\.jsonl{packing}.*truncated"):
        ids(path)
    path = write(tmp_path / f"b.jsonl{packing}", JSONL)
    with pytest.raises(InputError, match=rf"b\.jsonl{packing}.*is no valid {packing} file"):
        ids(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r":3: is not valid JSON"),
        ("[]", r":3: must be an object"),
        ('{"id": "3", "title": "가"}', r":3: field 'text': is missing"),
        ('{"id": 3, "title": "가", "text": "나"}', r":3: field 'id': must be a string, not int"),
        ('{"id": "3", "title": null, "text": "나"}', r":3: field 'title': must be a string"),
        ('{"id": "", "title": "가", "text": "나"}', r":3: field 'id': must not be empty"),
        ('{"id": "3 4", "title": "가", "text": "나"}', r":3: field 'id': .* white space"),
        ('{"id": "1", "title": "가", "text": "나"}', r":3: field 'id': '1' occurs a second time"),
        ('{"id": "3", "title": "", "text": "\\u0000"}', r":3: field 'text': holds NUL"),
        (b'{"id": "\0"}', r":3: holds NUL bytes"),
        ("서울".encode("cp949"), r":3: is not UTF-8"),
        ("[" * 100_000, r":3: .*nested too deeply|:3: is not valid JSON"),
    ],
    ids=str,
)
def test_a_bad_line_is_named(tmp_path: Path, line: str | bytes, message: str) -> None:
    raw = line if isinstance(line, bytes) else line.encode()
    with pytest.raises(InputError, match=message):
        ids(write(tmp_path / "a.jsonl", JSONL + raw + b"\n"))


def test_sources_that_are_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file\. A corpus is sample, kowiki"):
        ids(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match=r"unknown kind of file.*KorQuAD"):
        ids(write(tmp_path / "a.pdf", "%PDF"))
    with pytest.raises(InputError, match="holds no article"):
        ids(write(tmp_path / "empty.jsonl", "\n \n"))
    with pytest.raises(InputError, match="holds no WikiExtractor output"):
        ids(write(tmp_path / "folder" / "picture.png", "").parent)
    with pytest.raises(UsageError, match="names no data set"):
        ids("hf:")


def test_text_is_nfc_and_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    record = json.dumps({"id": "1", "title": "훈민\t정음", "text": "정음"}, ensure_ascii=False)
    content = "\ufeff" + unicodedata.normalize("NFD", record)
    [document] = read_documents(write(tmp_path / "a.jsonl", content))
    assert (document.title, document.text) == ("훈민 정음", "정음")


def test_the_sample_is_bundled() -> None:
    documents = list(read_documents("sample"))
    assert corpus_name("sample") == "sample"
    assert documents
    assert all(document.title and document.text for document in documents)


def test_wikiextractor_folder(tmp_path: Path) -> None:
    pages = (
        '<doc id="5" url="https://ko.wikipedia.org/wiki?curid=5" title="A &quot;B&quot; &amp; C">\n'
        'A "B" & C\n\n첫 문장이다.\n생애.\n둘째 문장이다.\n\n</doc>\n'
    )
    write(tmp_path / "wiki" / "AB" / "wiki_00", '<doc id="7" url="" title="나">\n나\n\n</doc>\n')
    write(tmp_path / "wiki" / "AA" / "wiki_00.bz2", bz2.compress(pages.encode()))
    write(tmp_path / "wiki" / "AC" / "wiki_00", JSONL)
    documents = list(read_documents(tmp_path / "wiki"))
    assert [document.doc_id for document in documents] == ["5", "7", "1", "2"]
    assert documents[0].title == 'A "B" & C'
    assert documents[0].text == "첫 문장이다.\n생애.\n둘째 문장이다."
    assert corpus_name(tmp_path / "wiki") == "wiki"


def test_a_title_with_quotation_marks_that_nobody_escaped(tmp_path: Path) -> None:
    title = '"Weird Al" 얀코빅'
    page = f'<doc id="5" url="u?a=b" title="{title}">\n{title}\n\n가수이다.\n</doc>\n'
    write(tmp_path / "wiki" / "AA" / "wiki_00", page)
    (document,) = read_documents(tmp_path / "wiki")
    assert (document.title, document.text) == (title, "가수이다.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('<doc id="1" title="가">\n가\n', r"wiki_00:1: the article has no '</doc>'"),
        ("글\n", r"wiki_00:1: expected '<doc"),
        ('<doc title="가">\n</doc>\n', r"wiki_00:1: field 'id': is missing"),
        ('<doc id="1" title="가">글</doc>\n', r"wiki_00:1: the text must begin on the line after"),
        ('<doc id="1" title="' + '"가" ' * 60 + '">글\n', r"wiki_00:1: expected '<doc"),
        ('<doc id="1" title="">\n</doc>\n<doc id="1" title="">\n</doc>\n', r"wiki_00:3: .*second"),
    ],
)
def test_bad_wikiextractor_output(tmp_path: Path, content: str, message: str) -> None:
    write(tmp_path / "AA" / "wiki_00", content)
    with pytest.raises(InputError, match=message):
        ids(tmp_path)


def korquad(*contexts: Any) -> str:
    paragraphs = [{"context": context, "qas": [{"id": str(context)}]} for context in contexts]
    article = {"title": "제목", "paragraphs": paragraphs}
    return json.dumps({"version": "1", "data": [article, {"paragraphs": paragraphs[:1]}]})


def test_korquad_contexts_are_single_passages(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.json", korquad("가\\n나", "다(, 라)"))
    first, second = read_documents(path)
    assert (first.doc_id, first.title, first.text) == ("0-0", "제목", "가\n 나")
    assert (second.doc_id, second.text) == ("0-1", "다(, 라)")
    assert first.metadata == {"single_passage": True}
    contexts = [(d.doc_id, d.title, qas) for d, qas in read_contexts(path)]
    assert contexts[2] == ("0-0", "", [{"id": "가\\n나"}])  # the context occurs again


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"dev\.json:1: is not valid JSON"),
        ("[]", "is no KorQuAD or KLUE-MRC file"),
        ('{"data": [{"title": "가"}]}', r"field 'data\[0\]\.paragraphs': is missing"),
        (korquad("가", 3), r"field 'data\[0\]\.paragraphs\[1\]\.context': must be a string"),
        (korquad("가", None), r"paragraphs\[1\]\.context': is missing"),
        (b'{"data": [\n"\xff"]}', r"dev\.json:2: is not UTF-8"),
        ('{"data": []}', "holds no article"),
    ],
    ids=str,
)
def test_bad_korquad(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ids(write(tmp_path / "dev.json", content))


def test_hugging_face_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": 3, "title": "가", "text": "나", "picture": object()}, {"text": "다"}]
    asked = []
    module = types.ModuleType("datasets")
    module.load_dataset = lambda *a, **k: asked.append((a, k)) or rows  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    first, second = read_documents("hf:wikimedia/wikipedia:20231101.ko")
    assert asked == [
        (("wikimedia/wikipedia", "20231101.ko"), {"split": "train", "streaming": True})
    ]
    assert (first.doc_id, first.metadata, second.doc_id) == ("3", {}, "1")
    assert corpus_name("hf:wikimedia/wikipedia:20231101.ko") == "wikipedia-20231101.ko"


def test_hugging_face_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'odqa\[train\]'"):
        ids("hf:a/b")
