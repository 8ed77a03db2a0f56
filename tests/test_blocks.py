"""Compressed blocks of strings: what comes back, what the files depend on, what damage does."""

from __future__ import annotations

import concurrent.futures
import itertools
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odqa.errors import IndexNotUsableError
from odqa.store import Strings, blocks
from odqa.store.blocks import BLOCK_ROWS, BlocksWriter, MappedBlocks

WORDS = [
    "서울은",
    "한강이",
    "부산의",
    "바다를",
    "대통령",
    "임금이",
    "노래하다",
    "1945년",
    "별이다.",
]


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary already for texts of some kilobytes, trained before all are written."""
    monkeypatch.setattr(blocks, "_SAMPLE_BYTES", 60_000)
    monkeypatch.setattr(blocks, "_LEAST_DICTIONARY_BYTES", 512)


def korean_rows(n: int) -> list[tuple[str, str]]:
    chance = random.Random(n)
    return [
        (chance.choice(["", "생애"]), " ".join(chance.choices(WORDS, k=chance.randrange(40))))
        for _ in range(n)
    ]


def write(path: Path, rows: list[tuple[str, str]], cuts: tuple[int, ...] = ()) -> MappedBlocks:
    with BlocksWriter(path) as writer:
        bounds = (0, *cuts, len(rows))
        for start, end in itertools.pairwise(bounds):
            part = rows[start:end]
            writer.append(Strings.encode(a for a, _ in part), Strings.encode(b for _, b in part))
    return MappedBlocks(path, len(rows), 2)


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(), st.text()), max_size=3 * BLOCK_ROWS))
def test_rows_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    found = write(tmp_path_factory.mktemp("blocks") / "x", rows)
    assert found.rows(range(len(rows))) == rows


@pytest.mark.usefixtures("small_sample")
def test_any_rows_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    rows = korean_rows(1_001)
    found = write(tmp_path / "x", rows)
    assert (tmp_path / "x.dict").exists()
    asked = [1_000, 3, 4, 3, 999, 0]
    assert found.rows(asked) == [rows[row] for row in asked]
    assert found.rows([]) == []


def test_half_a_surrogate_pair_survives(tmp_path: Path) -> None:
    assert write(tmp_path / "x", [("", "가\ud800나")]).rows([0]) == [("", "가\ud800나")]


@pytest.mark.parametrize("row", [-1, 5])
def test_rows_outside_are_index_errors(tmp_path: Path, row: int) -> None:
    with pytest.raises(IndexError):
        write(tmp_path / "x", korean_rows(5)).rows([row])


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize("cuts", [(1, 2, 700), tuple(range(0, 1_000, 7))])
def test_the_files_do_not_depend_on_how_rows_are_dealt_out(
    tmp_path: Path, cuts: tuple[int, ...]
) -> None:
    rows = korean_rows(1_000)
    for name, at in (("whole", ()), ("cut", cuts)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "x", rows, at)
    assert files(tmp_path / "whole") == files(tmp_path / "cut")


def test_few_texts_are_compressed_without_a_dictionary(tmp_path: Path) -> None:
    write(tmp_path / "x", korean_rows(100))
    assert sorted(files(tmp_path)) == ["x.bin", "x.npy"]


@pytest.mark.usefixtures("small_sample")
def test_samples_that_make_no_dictionary_do_no_harm(tmp_path: Path) -> None:
    rows = [("", "가" * 30_000)]
    assert write(tmp_path / "x", rows).rows([0]) == rows
    assert not (tmp_path / "x.dict").exists()


def test_what_an_earlier_writer_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.dict").write_bytes(b"of other texts")
    rows = korean_rows(9)
    assert write(tmp_path / "x", rows).rows(range(9)) == rows


def test_columns_of_different_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"), BlocksWriter(tmp_path / "x") as writer:
        writer.append(Strings.encode(["가"]), Strings.encode([]))


def test_each_block_is_decompressed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = write(tmp_path / "x", korean_rows(40))
    seen: list[int] = []
    block = MappedBlocks._block
    monkeypatch.setattr(
        MappedBlocks, "_block", lambda self, number: seen.append(number) or block(self, number)
    )
    found.rows([0, 39, 1, 38, BLOCK_ROWS - 1])
    assert seen == [0, 39 // BLOCK_ROWS]


def test_several_threads_may_read(tmp_path: Path) -> None:
    rows = korean_rows(2_000)
    found = write(tmp_path / "x", rows)
    asked = [[row] for row in range(2_000)] * 2
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(found.rows, asked)) == [[rows[row]] for (row,) in asked]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, str]]]:
    directory = tmp_path_factory.mktemp("written")
    rows = korean_rows(400)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_LEAST_DICTIONARY_BYTES", 512)
        write(directory / "x", rows)
    return directory / "x", rows


@settings(max_examples=300, deadline=None)
@given(
    ending=st.sampled_from([".bin", ".npy", ".dict"]),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_damage_never_gives_another_text(
    written: tuple[Path, list[tuple[str, str]]], ending: str, place: float, bit: int
) -> None:
    path, rows = written
    file = path.with_suffix(ending)
    good = file.read_bytes()
    bad = bytearray(good)
    bad[int(place * len(bad))] ^= 1 << bit
    try:
        file.write_bytes(bad)
        try:
            found = MappedBlocks(path, len(rows), 2)
        except ValueError:
            return
        for row, expected in enumerate(rows):
            try:
                assert found.rows([row]) == [expected]
            except IndexNotUsableError as error:
                assert "odqa repair" in str(error)  # noqa: PT017
    finally:
        file.write_bytes(good)
