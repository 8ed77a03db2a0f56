"""The index directory: passages, manifest, finding, locking, publishing."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odqa.errors import IndexNotUsableError, OdqaError, UsageError
from odqa.store import (
    Manifest,
    PassageBlock,
    PassageStore,
    PassageWriter,
    Strings,
    WorkDirectory,
    check_files,
    document_digest,
    document_digests,
    find_index,
    list_indexes,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from odqa.store.arrays import create_array
from odqa.types import Document, Passage


def document(doc_id: str, *texts: str, title: str = "제목", **metadata: object) -> tuple:
    """A document and its passages, one for each of ``texts``."""
    passages, start = [], 0
    for number, text in enumerate(texts):
        passages.append(
            Passage(f"{doc_id}#{number}", doc_id, title, text, start, start + len(text), "생애")
        )
        start += len(text) + 1
    return Document(doc_id, title, " ".join(texts), metadata), passages


SEOUL = document("9", "서울은 수도이다.", "한강이 흐른다.", title="서울", url="https://a.kr")
BUSAN = document("10", "부산은 항구이다.", title="부산")
EMPTY = document("빈 문서")


@pytest.fixture
def store(tmp_path: Path) -> PassageStore:
    with PassageWriter(tmp_path / "passages") as writer:
        for pair in (SEOUL, EMPTY, BUSAN):
            writer.add(*pair)
    return PassageStore.open(tmp_path / "passages")


def test_passages_come_back_as_they_were(store: PassageStore) -> None:
    assert list(store) == SEOUL[1] + BUSAN[1]
    assert len(store) == 3
    assert store.n_documents == 3
    assert store.passages([2, 0]) == [BUSAN[1][0], SEOUL[1][0]]


def test_ids_and_rows_are_each_others_inverse(store: PassageStore) -> None:
    assert store.passage_ids([0, 1, 2]) == ["9#0", "9#1", "10#0"]
    assert [store.row(passage_id) for passage_id in ("9#0", "9#1", "10#0")] == [0, 1, 2]
    assert store.document_rows("9") == range(2)
    assert store.document_rows("빈 문서") == range(2, 2)


@pytest.mark.parametrize("unknown", ["9#2", "9#00", "9#-1", "9", "#", "", "1#0", "9#" + "9" * 5000])
def test_an_unknown_passage_id_is_a_key_error(store: PassageStore, unknown: str) -> None:
    with pytest.raises(KeyError):
        store.row(unknown)


def test_rows_outside_are_index_errors(store: PassageStore) -> None:
    for row in (-1, 3):
        with pytest.raises(IndexError):
            store[row]


def test_metadata_is_kept(store: PassageStore) -> None:
    assert store.metadata("9") == {"url": "https://a.kr"}
    assert store.metadata("10") == {}
    with pytest.raises(KeyError):
        store.metadata("11")


def test_digests_tell_every_change_of_a_document(tmp_path: Path, store: PassageStore) -> None:
    (seoul, passages), (busan, _) = SEOUL, BUSAN
    assert store.digest("9") == document_digest(seoul)
    assert store.digest("10") == document_digest(busan)
    assert store.digests.shape == (3, 2)
    assert store.digests[2].tobytes() == store.digest("10")
    with pytest.raises(KeyError):
        store.digest("11")
    others = [
        dataclasses.replace(seoul, doc_id="8"),
        dataclasses.replace(seoul, title="서울시"),
        dataclasses.replace(seoul, text=seoul.text + " "),
        dataclasses.replace(seoul, metadata={}),
    ]
    assert len({document_digest(document) for document in (seoul, *others)}) == 5
    as_read = document_digests([others[1]])
    with PassageWriter(tmp_path / "given") as writer:
        writer.append(PassageBlock.encode([(seoul, passages)], as_read))
    assert PassageStore.open(tmp_path / "given").digest("9") == document_digest(others[1])


def test_the_order_of_metadata_is_no_change() -> None:
    one, other = ({"url": "u", "n": 1}, {"n": 1, "url": "u"})
    digests = {document_digest(Document("1", "", "", metadata)) for metadata in (one, other)}
    assert len(digests) == 1


def test_documents_come_back_with_their_passages_but_without_their_text(
    store: PassageStore,
) -> None:
    assert list(store.documents()) == [
        (dataclasses.replace(document, text=""), passages)
        for document, passages in (SEOUL, EMPTY, BUSAN)
    ]


def test_metadata_that_nobody_gave_takes_no_file(tmp_path: Path, store: PassageStore) -> None:
    assert list((tmp_path / "passages").glob("metadata.*"))
    with PassageWriter(tmp_path / "passages") as writer:
        writer.add(*BUSAN)
    assert not list((tmp_path / "passages").glob("metadata.*"))
    assert PassageStore.open(tmp_path / "passages").metadata("10") == {}


def test_a_passage_that_is_not_as_long_as_it_says_is_refused() -> None:
    document, (first, *_) = SEOUL
    with pytest.raises(ValueError, match="end - start"):
        PassageBlock.encode([(document, [dataclasses.replace(first, end=first.end + 1)])])


def test_an_empty_store_opens(tmp_path: Path) -> None:
    with PassageWriter(tmp_path / "p"):
        pass
    assert len(PassageStore.open(tmp_path / "p")) == 0


def test_documents_with_one_id_are_refused(tmp_path: Path) -> None:
    writer = PassageWriter(tmp_path)
    writer.append(PassageBlock.encode([SEOUL, BUSAN, SEOUL]))
    with pytest.raises(OdqaError, match=r"documents 1 and 3 .*'9'"):
        writer.close()


def test_misnumbered_passages_are_refused() -> None:
    with pytest.raises(ValueError, match="9#1"):
        PassageBlock.encode([(SEOUL[0], SEOUL[1][1:])])


def test_a_damaged_store_is_refused(tmp_path: Path, store: PassageStore) -> None:
    (tmp_path / "passages" / "texts.bin").write_bytes(b"short")
    with pytest.raises(IndexNotUsableError, match="odqa repair --index"):
        PassageStore.open(tmp_path / "passages")
    (tmp_path / "passages" / "texts.bin").unlink()
    with pytest.raises(IndexNotUsableError, match=r"texts\.bin"):
        PassageStore.open(tmp_path / "passages")


@given(st.lists(st.text()))
def test_strings_round_trip(texts: list[str]) -> None:
    assert Strings.encode(texts).decode() == texts


def test_half_a_surrogate_pair_survives() -> None:
    assert Strings.encode(["가\ud800나"]).decode() == ["가\ud800나"]


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(max_size=8), st.lists(st.text(max_size=20), max_size=4), max_size=8))
def test_any_ids_and_texts_round_trip(
    tmp_path_factory: pytest.TempPathFactory, corpus: dict[str, list[str]]
) -> None:
    pairs = [document(doc_id, *texts) for doc_id, texts in corpus.items()]
    directory = tmp_path_factory.mktemp("store")
    with PassageWriter(directory / "one") as writer:
        for pair in pairs:
            writer.add(*pair)
    with PassageWriter(directory / "block") as writer:
        writer.append(PassageBlock.encode(pairs))
    store = PassageStore.open(directory / "one")
    expected = [passage for _, passages in pairs for passage in passages]
    assert list(store) == expected
    assert [store.row(passage.passage_id) for passage in expected] == list(range(len(expected)))
    assert contents(directory / "one") == contents(directory / "block")


def contents(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir()}


# ---- the finished index ----


def manifest() -> Manifest:
    return Manifest(
        odqa="0.1.0",
        corpus="sample",
        documents=2,
        passages=3,
        terms=9,
        legs=("sparse",),
        config={"corpus": {"passage_chars": 500}},
        tokenizer="mecab/1",
        encoder=None,
        build={"finished": "2025-01-01T00:00:00+00:00", "seconds": 1.5},
    )


def finished_index(directory: Path) -> Path:
    (directory / "passages").mkdir(parents=True)
    (directory / "passages" / "texts.bin").write_bytes("서울".encode())
    write_manifest(directory, manifest(), ["passages"])
    return directory


def test_a_manifest_comes_back_with_sizes_and_checksums(tmp_path: Path) -> None:
    found = read_manifest(finished_index(tmp_path / "a"))
    assert found.legs == ("sparse",)
    assert found.files["passages/texts.bin"]["bytes"] == 2 * 3  # two syllables of three bytes
    expected = dataclasses.replace(manifest(), files=found.files, checksum=found.checksum)
    assert found == dataclasses.replace(expected, build=found.build)
    assert found.build == {**manifest().build, "checksum": found.build["checksum"]}
    assert check_files(tmp_path / "a", found) == []


def test_a_changed_byte_is_found_by_its_checksum(tmp_path: Path) -> None:
    index = finished_index(tmp_path / "a")
    (index / "passages" / "texts.bin").write_bytes("서을".encode())
    assert check_files(index, parse_manifest(index)) == ["passages/texts.bin"]
    with pytest.raises(IndexNotUsableError, match=r"texts\.bin: not as it was written"):
        read_manifest(index)  # it is small: such files are looked at whenever an index is opened


def test_a_file_of_the_wrong_size_is_refused_at_once(tmp_path: Path) -> None:
    index = finished_index(tmp_path / "a")
    (index / "passages" / "texts.bin").write_bytes(b"")
    with pytest.raises(IndexNotUsableError, match=r"texts\.bin.*--force"):
        read_manifest(index)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"format": 99}', "format 99.*build it again"),
        ('{"format": 2, "legs": [], "unheard": 1, "checksum": ""}', "damaged"),
    ],
)
def test_a_bad_manifest_is_refused(tmp_path: Path, text: str, message: str) -> None:
    index = finished_index(tmp_path / "a")
    (index / "manifest.json").write_text(text)
    with pytest.raises(IndexNotUsableError, match=message):
        read_manifest(index)


def test_the_only_index_is_the_default(tmp_path: Path) -> None:
    finished_index(tmp_path / "wiki")
    assert find_index(None, tmp_path) == tmp_path / "wiki"
    assert find_index("wiki", tmp_path) == tmp_path / "wiki"
    assert find_index(tmp_path / "wiki", "elsewhere") == tmp_path / "wiki"


def test_of_several_the_sample_is_the_default(tmp_path: Path) -> None:
    for name in ("wiki", "other"):
        finished_index(tmp_path / name)
    with pytest.raises(IndexNotUsableError, match=r"other, wiki.*--index"):
        find_index(None, tmp_path)
    finished_index(tmp_path / "sample")
    assert find_index(None, tmp_path) == tmp_path / "sample"


def test_without_an_index_the_error_says_how_to_build_one(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "absent"):
        with pytest.raises(IndexNotUsableError, match="odqa build-index"):
            find_index(None, directory)


def test_an_unknown_name_lists_the_known(tmp_path: Path) -> None:
    finished_index(tmp_path / "wiki")
    with pytest.raises(IndexNotUsableError, match=r"'wikki'.*the indexes there are: wiki"):
        find_index("wikki", tmp_path)


def test_a_half_built_index_is_refused_with_the_command_that_goes_on(tmp_path: Path) -> None:
    work = tmp_path / ".wiki.building"
    work.mkdir()
    (work / "recipe.json").write_text(json.dumps({"source": "my corpus.jsonl"}))
    command = "odqa build-index 'my corpus.jsonl' --name wiki --resume"
    for asked in (None, "wiki", work):
        with pytest.raises(IndexNotUsableError, match=command):
            find_index(asked, tmp_path)
    with pytest.raises(IndexNotUsableError, match=command):
        read_manifest(work)
    assert list_indexes(tmp_path) == []


def test_a_folder_that_is_no_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(IndexNotUsableError, match=r"no manifest\.json"):
        find_index("photos", tmp_path)


# ---- building in a hidden folder ----


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\0b"])
def test_names_that_could_be_no_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        WorkDirectory(tmp_path, name)


def test_a_korean_name_will_do(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFC", "위키 백과")
    with WorkDirectory(tmp_path, name) as work:
        (work.path / "a").write_text("a")
        assert work.publish() == tmp_path / name
    assert (tmp_path / name / "a").read_text() == "a"


def test_publishing_replaces_the_old_index(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with WorkDirectory(tmp_path, "a") as work:
            (work.path / "a").write_text(text)
            work.publish()
    assert (tmp_path / "a" / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_publish_killed_between_its_renames_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / ".a.old").mkdir()
    (tmp_path / ".a.old" / "a").write_text("old")
    (tmp_path / ".a.building").mkdir()
    (tmp_path / ".a.building" / "a").write_text("new")
    with WorkDirectory(tmp_path, "a") as work:
        assert (tmp_path / "a" / "a").read_text() == "old"
        work.publish()
    assert (tmp_path / "a" / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_two_builds_of_one_name_do_not_collide(tmp_path: Path) -> None:
    with WorkDirectory(tmp_path, "a") as work:
        (work.path / "kept").write_text("kept")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            message = pool.apply(_try_to_lock, (tmp_path,))
        with WorkDirectory(tmp_path, "b"):
            pass
    assert "being built by another process" in message
    with WorkDirectory(tmp_path, "a"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".a.building"]


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_builds_where_the_file_system_has_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(number: int) -> Callable[[int, int], None]:
        def flock(descriptor: int, operation: int) -> None:
            raise OSError(number, os.strerror(number))

        return flock

    monkeypatch.setattr("fcntl.flock", refusing(errno.EOPNOTSUPP))
    with WorkDirectory(tmp_path, "a") as work:
        (work.path / "kept").write_text("kept")
        work.publish()
    assert (tmp_path / "a" / "kept").read_text() == "kept"
    monkeypatch.setattr("fcntl.flock", refusing(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), WorkDirectory(tmp_path, "b"):
        pass


def _try_to_lock(indexes_dir: Path) -> str:
    try:
        with WorkDirectory(indexes_dir, "a"):
            return "locked"
    except IndexNotUsableError as error:
        return str(error)


def test_an_unused_work_folder_leaves_nothing(tmp_path: Path) -> None:
    with WorkDirectory(tmp_path, "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--indexes-dir"), WorkDirectory(tmp_path / "file", "a"):
        pass


def test_arrays_on_disk_are_small_integers(tmp_path: Path, store: PassageStore) -> None:
    for name in ("starts", "documents", "first_passages", "id_order"):
        assert np.load(tmp_path / "passages" / f"{name}.npy").dtype == np.int32
    for name in ("texts", "doc_ids", "titles"):
        assert np.load(tmp_path / "passages" / f"{name}.npy").dtype == np.uint32


def test_an_array_that_does_not_fit_the_disk_is_an_error_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = create_array(tmp_path / "a.npy", np.float32, (3, 2))
    assert array.tolist() == [[0, 0], [0, 0], [0, 0]]
    array[1] = 7
    array.flush()
    assert np.load(tmp_path / "a.npy").tolist() == [[0, 0], [7, 7], [0, 0]]

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"b\.npy") as caught:
        create_array(tmp_path / "b.npy", np.float32, (3, 2))
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "b.npy").exists()

    def unable(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unable)
    assert create_array(tmp_path / "b.npy", np.float32, (3, 2)).shape == (3, 2)
