"""``odqa repair``: what is damaged is built again, byte by byte, and nothing else is touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hashing_encoder import HashingEncoder

from odqa.build import (
    build_index,
    components,
    indexing,
    repair_index,
    shards,
    update_index,
    verify_index,
)
from odqa.cli import main
from odqa.config import Config, load_config
from odqa.errors import IndexNotUsableError, UsageError
from odqa.store import PassageStore, blocks, find_index, read_manifest

PARTS = ("passages", "duplicates", "sparse", "dense")


@pytest.fixture(
    scope="module", params=["hashing", pytest.param("static-ko", marks=pytest.mark.slow)]
)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A folder with a corpus and its index; the second encoder takes its terms from the shards."""
    folder = tmp_path_factory.mktemp("built")
    write_corpus(folder / "corpus.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(components.ENCODERS, "hashing", lambda config, stored: HashingEncoder())
        patch.setattr(shards, "SHARD_DOCUMENTS", 7)
        patch.setattr(blocks, "_LEAST_DICTIONARY_BYTES", 256)
        settings = config(request.param)
        build_index(folder / "corpus.jsonl", indexes_dir=folder / "indexes", config=settings)
        yield folder


def write_corpus(path: Path, n: int = 40) -> None:
    lines = [
        {"id": str(i), "title": f" 제목 {i}", "text": f"서울의 {i}번째 글이다. " * (i % 7), "n": i}
        for i in range(n)
    ]
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), "utf-8")


def config(encoder: str = "hashing") -> Config:
    return load_config(None, [f"dense.encoder={encoder}", "corpus.passage_chars=40"])


@pytest.fixture
def home(built: Path, tmp_path: Path) -> Iterator[Path]:
    """The folder ``built``, whose index may be damaged: it is put back afterwards."""
    saved = tmp_path / "saved"
    shutil.copytree(built, saved)
    yield built
    shutil.rmtree(built)
    shutil.copytree(saved, built)  # with its times, which the recipe knows


def index_of(home: Path) -> Path:
    return home / "indexes" / "corpus"


def contents(index: Path) -> dict[str, bytes]:
    files = [path for path in index.rglob("*") if path.is_file()]
    return {path.relative_to(index).as_posix(): path.read_bytes() for path in files}


def damage(file: Path) -> None:
    """Change a byte in the middle of a file, in a copy: it may be linked elsewhere."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.unlink()
    file.write_bytes(data)


def inodes(index: Path, *parts: str) -> dict[str, int]:
    files = [path for part in parts for path in (index / part).iterdir()]
    return {path.name: path.stat().st_ino for path in files}


def test_nothing_is_done_where_nothing_is_damaged(home: Path) -> None:
    before = inodes(index_of(home), *PARTS)
    assert repair_index(index_of(home), Config()) == ()
    assert inodes(index_of(home), *PARTS) == before
    assert [path.name for path in (home / "indexes").iterdir()] == ["corpus"]


@pytest.mark.slow
def test_every_damaged_file_becomes_what_it_was(home: Path) -> None:
    index = index_of(home)
    expected = contents(index)
    for name in sorted(expected):
        if not expected[name]:
            continue
        damage(index / name)
        assert name in repair_index(index, Config())
        assert contents(index) == expected, name
    assert verify_index(index, Config()).ok
    assert [path.name for path in (home / "indexes").iterdir()] == ["corpus"]


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_folder_comes_back_and_the_others_are_kept(home: Path, part: str) -> None:
    index = index_of(home)
    others = [name for name in PARTS if name != part]
    expected, before = contents(index), inodes(index, *others)
    shutil.rmtree(index / part)
    repair_index(index, Config())
    assert contents(index) == expected
    assert inodes(index, *others) == before


def test_legs_are_made_without_the_source(home: Path) -> None:
    index = index_of(home)
    expected = contents(index)
    (home / "corpus.jsonl").unlink()
    damage(index / "sparse" / "sparse.json")
    damage(index / "dense" / "rest.npy")
    repair_index(index, Config())
    assert contents(index) == expected


def test_all_parts_at_once(home: Path) -> None:
    index = index_of(home)
    expected = contents(index)
    for part in PARTS:
        shutil.rmtree(index / part)
    repair_index(index, Config())
    assert contents(index) == expected


def test_passages_without_their_source_cannot_be_repaired(home: Path) -> None:
    index = index_of(home)
    (home / "corpus.jsonl").unlink()
    damage(index / "passages" / "texts.bin")
    before = contents(index)
    with pytest.raises(IndexNotUsableError, match=r"no such file.*odqa build-index .*--force"):
        repair_index(index, Config())
    assert contents(index) == before
    assert [path.name for path in (home / "indexes").iterdir()] == ["corpus"]


@pytest.mark.parametrize("n", [39, 41])
def test_a_changed_source_cannot_mend_passages(home: Path, n: int) -> None:
    index = index_of(home)
    write_corpus(home / "corpus.jsonl", n)
    damage(index / "passages" / "texts.bin")
    before = contents(index)
    with pytest.raises(IndexNotUsableError, match=r"corpus\.jsonl has changed.*build-index"):
        repair_index(index, Config())
    assert contents(index) == before


def test_a_source_that_is_only_newer_will_do(home: Path) -> None:
    index = index_of(home)
    expected = contents(index)
    (home / "corpus.jsonl").touch()
    damage(index / "passages" / "digests.npy")
    repair_index(index, Config())
    assert contents(index) == expected


def test_passages_stored_otherwise_have_their_legs_built_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with another version of zstd."""
    index = index_of(home)
    expected, before = contents(index), inodes(index, "sparse", "dense")
    damage(index / "passages" / "texts.bin")
    monkeypatch.setattr(blocks, "_LEVEL", 19)
    repair_index(index, Config())
    assert verify_index(index, Config()).ok
    after = contents(index)
    assert after.keys() == expected.keys()
    changed = {name for name in expected if after[name] != expected[name]}
    assert changed <= {"manifest.json", "passages/texts.bin", "passages/texts.npy"}
    assert not set(before.values()) & set(inodes(index, "sparse", "dense").values())


def test_an_updated_index_is_repaired_in_the_order_of_its_source(home: Path) -> None:
    index = index_of(home)
    lines = (home / "corpus.jsonl").read_text("utf-8").splitlines()
    lines[3] = json.dumps({"id": "3", "title": "다른 제목", "text": "부산의 글이다. " * 9})
    (home / "corpus.jsonl").write_text("\n".join(lines), "utf-8")
    update_index(index, home / "corpus.jsonl", Config())  # the changed article's passages are last
    before = list(PassageStore.open(index / "passages"))
    damage(index / "passages" / "texts.bin")
    repair_index(index, Config())
    after = list(PassageStore.open(index / "passages"))
    assert after != before
    assert sorted(p.passage_id for p in after) == sorted(p.passage_id for p in before)
    assert verify_index(index, Config()).ok


# ---- records ----


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"legs": [', '"legs"; ['),  # no JSON any more
        ('"documents": 40', '"documents": 41'),
        ('\n  "checksum": "', '\n  "checksun": "'),
        ('"dense/signs.npy": {', '"dense/signs.npz": {'),
        ('"passages/digests.npy": {', '"passages/digests.npy"; {'),
    ],
)
def test_a_damaged_manifest_is_written_again(home: Path, old: str, new: str) -> None:
    index = index_of(home)
    expected, before = contents(index), inodes(index, *PARTS)
    text = (index / "manifest.json").read_text("utf-8")
    assert old in text
    (index / "manifest.json").write_text(text.replace(old, new, 1), "utf-8")
    assert "manifest.json" in repair_index(index, Config())
    assert inodes(index, *PARTS) == before  # all was proven to be as it was
    assert contents(index) == expected


def test_only_the_time_of_its_making_can_be_lost(home: Path) -> None:
    index = index_of(home)
    expected = contents(index)
    text = (index / "manifest.json").read_text("utf-8")
    (index / "manifest.json").write_text(text.replace('"finished": "20', '"finished": "21'))
    repair_index(index, Config())
    after = contents(index)
    before, now = (json.loads(files.pop("manifest.json")) for files in (expected, after))
    assert after == expected
    assert before.pop("build") != now.pop("build")
    assert before == now


def test_a_damaged_manifest_and_a_damaged_leg(home: Path) -> None:
    index = index_of(home)
    expected = contents(index)
    text = (index / "manifest.json").read_text("utf-8")
    (index / "manifest.json").write_text(text.replace('"documents": 40', '"documents": 48'))
    damage(index / "sparse" / "sparse.json")
    repair_index(index, Config())
    assert contents(index) == expected


@pytest.mark.parametrize("lost", [("manifest.json",), ("manifest.json", "recipe.json")])
def test_what_cannot_be_proven_is_not_repaired(home: Path, lost: tuple[str, ...]) -> None:
    index = index_of(home)
    for name in lost:
        (index / name).write_bytes(b"")
    with pytest.raises(IndexNotUsableError, match=r"cannot be repaired.*odqa build-index"):
        repair_index(index, Config())


def test_another_version_of_the_program_does_not_mix_its_parts_in(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(index_of(home) / "sparse" / "sparse.json")
    monkeypatch.setattr(indexing, "__version__", "99.0")
    with pytest.raises(IndexNotUsableError, match=r"\(odqa\).*build-index"):
        repair_index(index_of(home), Config())


# ---- on the way ----


class Killed(BaseException):
    """What a test raises in a repair."""


@pytest.mark.parametrize(
    "stage", ["split and tokenise", "store passages", "index terms", "encode passages"]
)
def test_a_killed_repair_goes_on(home: Path, stage: str) -> None:
    index = index_of(home)
    expected = contents(index)
    damage(index / "passages" / "titles.bin")
    damage(index / "sparse" / "sparse.json")
    damage(index / "dense" / "dense.json")
    damaged = contents(index)

    def progress(reported: str, done: int, total: int | None) -> None:
        if reported == stage:
            raise Killed

    with pytest.raises(Killed):
        repair_index(index, Config(), progress=progress)
    assert contents(index) == damaged  # in its place until the repaired one is complete
    settings = load_config(None, ["dense.encoder=hashing"])
    with pytest.raises((UsageError, IndexNotUsableError)):  # not the build's to go on with
        build_index(home / "corpus.jsonl", indexes_dir=home / "indexes", config=settings)
    repair_index(index, Config())
    assert contents(index) == expected
    assert [path.name for path in (home / "indexes").iterdir()] == ["corpus"]


def test_an_unfinished_repair_is_named_where_the_index_is_gone(home: Path) -> None:
    index = index_of(home)
    damage(index / "sparse" / "sparse.json")

    def progress(reported: str, done: int, total: int | None) -> None:
        if reported == "index terms":
            raise Killed

    with pytest.raises(Killed):
        repair_index(index, Config(), progress=progress)
    shutil.rmtree(index)
    with pytest.raises(IndexNotUsableError, match="odqa repair --index corpus"):
        find_index("corpus", home / "indexes")


def test_an_unfinished_build_is_not_thrown_away(home: Path) -> None:
    index = index_of(home)
    work = home / "indexes" / ".corpus.building"
    (work / "shards").mkdir(parents=True)
    (work / "shards" / "000000.npz").write_bytes(b"")
    damage(index / "sparse" / "sparse.json")
    with pytest.raises(UsageError, match="unfinished build of 'corpus'"):
        repair_index(index, Config())
    assert (work / "shards" / "000000.npz").exists()


def test_files_that_are_no_part_of_the_index_are_not_lost(home: Path) -> None:
    index = index_of(home)
    (index / "memo.txt").write_text("메모")
    damage(index / "sparse" / "sparse.json")
    with pytest.raises(UsageError, match=r"memo\.txt"):
        repair_index(index, Config())
    assert (index / "memo.txt").exists()


def test_the_command_repairs_and_verify_is_clean(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--indexes-dir", str(home / "indexes")]
    damage(index_of(home) / "sparse" / "sparse.json")
    with pytest.raises(IndexNotUsableError, match=r"sparse\.json: not as it was written.*repair"):
        read_manifest(index_of(home))
    assert main(["repair", *options, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["repaired"] == ["sparse/sparse.json"]
    assert main(["verify", *options]) == 0
    assert main(["repair", *options]) == 0
    assert "nothing was damaged" in capsys.readouterr().out
