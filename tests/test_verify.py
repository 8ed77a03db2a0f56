"""``odqa verify``: whatever is wrong with an index is found, wherever it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hashing_encoder import HashingEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

from odqa.build import IndexReport, build_index, components, verify_index
from odqa.cli import main
from odqa.config import Config, load_config
from odqa.errors import IndexNotUsableError
from odqa.store import read_manifest, write_json


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An index of both legs."""
    folder = tmp_path_factory.mktemp("built")
    lines = [
        {
            "id": str(i),
            "title": f"제목 {i}",
            "text": f"서울의 {i}번째 글이다. " * (i + 1),
            "url": "u",
        }
        for i in range(30)
    ]
    corpus = folder / "corpus.jsonl"
    corpus.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(components.ENCODERS, "hashing", lambda config, stored: HashingEncoder())
        yield build_index(corpus, indexes_dir=folder / "indexes", config=config())


@pytest.fixture
def index(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "indexes" / built.name))


def config() -> Config:
    return load_config(None, ["dense.encoder=hashing"])


def verify(index: Path) -> IndexReport:
    return verify_index(index, config())


def test_an_undamaged_index_is_ok(index: Path) -> None:
    report = verify(index)
    assert report.ok
    assert report.notes == ()
    assert report.documents == 30
    manifest = read_manifest(index)
    assert report.files == len(manifest.files) + 1
    assert report.bytes == sum(file["bytes"] for file in manifest.files.values())


@settings(max_examples=150, deadline=None)
@given(number=st.integers(0, 10**6), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(built: Path, number: int, place: float, bit: int) -> None:
    files = sorted(path for path in built.rglob("*") if path.is_file() and path.stat().st_size)
    file = files[number % len(files)]
    good = file.read_bytes()
    bad = bytearray(good)
    bad[int(place * len(bad))] ^= 1 << bit
    try:
        file.write_bytes(bad)
        assert file.relative_to(built).as_posix() in verify(built).damaged
    finally:
        file.write_bytes(good)


def test_every_bit_of_manifest_and_recipe_counts(index: Path) -> None:
    for name in ("manifest.json", "recipe.json"):
        good = (index / name).read_bytes()
        for place in range(0, len(good), 7):
            bad = bytearray(good)
            bad[place] ^= 1 << place % 8
            (index / name).write_bytes(bad)
            with pytest.raises(IndexNotUsableError):
                read_manifest(index)
        (index / name).write_bytes(good)
    assert verify(index).ok


def test_any_truncation_is_found_and_the_index_does_not_open(index: Path) -> None:
    for file in sorted(path for path in index.rglob("*") if path.is_file()):
        good = file.read_bytes()
        name = file.relative_to(index).as_posix()
        for length in {0, len(good) // 2, len(good) - 1}:
            file.write_bytes(good[:length])
            report = verify(index)
            assert list(report.damaged) == [name] or name == "manifest.json"
            assert name in report.damaged
            with pytest.raises(IndexNotUsableError):
                read_manifest(index)
        file.write_bytes(good)
    assert verify(index).ok


def test_a_missing_file_is_named(index: Path) -> None:
    (index / "dense" / "dense.json").unlink()
    shutil.rmtree(index / "sparse")
    report = verify(index)
    assert report.damaged["dense/dense.json"] == "missing"
    assert report.damaged["sparse/sparse.json"] == "missing"
    assert not [name for name in report.damaged if name.startswith("passages/")]


def test_an_unexpected_file_is_named(index: Path) -> None:
    (index / "passages" / "메모.txt").write_text("메모")
    report = verify(index)
    assert report.unexpected == ("passages/메모.txt",)
    assert not report.damaged
    assert not report.ok


def test_a_damaged_manifest_still_tells_of_the_files(index: Path) -> None:
    text = (index / "manifest.json").read_text("utf-8")
    (index / "manifest.json").write_text(text.replace('"legs"', "legs"), "utf-8")
    starts = index / "passages" / "starts.npy"
    starts.write_bytes(starts.read_bytes()[::-1])
    assert list(verify(index).damaged) == ["manifest.json", "passages/starts.npy"]
    assert verify(index).damaged["passages/starts.npy"] == "changed since it was written"


def test_counts_that_disagree_are_found(index: Path) -> None:
    """A manifest that is whole, but of other counts than the index."""
    from dataclasses import replace

    from odqa.store import write_manifest

    manifest = replace(read_manifest(index), documents=31, terms=0)
    write_manifest(index, manifest, ["recipe.json", "passages", "sparse", "dense"])
    report = verify(index)
    assert not report.damaged
    assert any("31 documents" in what for what in report.disagreements)
    assert any("0 terms" in what for what in report.disagreements)


def test_legs_of_other_passages_are_found(index: Path) -> None:
    from odqa.store import write_manifest

    record = json.loads((index / "dense" / "dense.json").read_text())
    write_json(index / "dense" / "dense.json", {**record, "passages": 5})
    write_manifest(index, read_manifest_of(index), ["recipe.json", "passages", "sparse", "dense"])
    report = verify(index)
    assert not report.damaged
    assert len(report.disagreements) == 1
    assert "dense" in report.disagreements[0]


def read_manifest_of(index: Path):  # type: ignore[no-untyped-def]
    from odqa.store import parse_manifest

    return parse_manifest(index)


def test_the_command_reports(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["verify", "--indexes-dir", str(index.parent), "--set", "dense.encoder=hashing"]
    assert main(arguments) == 0
    assert "ok (" in capsys.readouterr().out
    texts = index / "passages" / "texts.bin"
    texts.write_bytes(texts.read_bytes()[:-1])
    assert main([*arguments, "--index", "corpus", "--json"]) == 1
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert not record["ok"]
    assert [entry["file"] for entry in record["damaged"]] == ["passages/texts.bin"]
    assert f"odqa repair --index {index}" in captured.err
    assert main([*arguments, "--index", str(index)]) == 1
    assert "damaged     passages/texts.bin: " in capsys.readouterr().out


def test_an_index_without_its_manifest_is_reported(
    index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (index / "manifest.json").unlink()
    assert main(["verify", "--indexes-dir", str(index.parent)]) == 1
    captured = capsys.readouterr()
    assert "damaged     manifest.json: missing" in captured.out
    assert "odqa repair" in captured.err
