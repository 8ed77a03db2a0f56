"""A vocabulary learnt from text: where its pieces end, what is too rare, what loads it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, documented

from odqa.cli.main import main
from odqa.config import set_values
from odqa.corpus import read_documents
from odqa.errors import ConfigError, OdqaError
from odqa.models.cut_tokenizer import load_cut_tokenizer
from odqa.models.pieces import parts_of
from odqa.training.vocabulary import VocabularyConfig, train_tokenizer
from odqa.types import Document

pytest.importorskip("transformers")

SETTINGS = VocabularyConfig(vocabulary=1200, min_count=2, positions=64)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    documents = itertools.islice(read_documents("sample"), 40)
    assert train_tokenizer(documents, SETTINGS, folder) == 1200
    return folder


def pieces_in(folder: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    return found


def of(*texts: str) -> list[Document]:
    return [Document(str(i), "", text) for i, text in enumerate(texts)]


def test_pieces_by_hand(tmp_path: Path) -> None:
    text = "훈민정음을 훈민정음은 훈민정음의 " * 5
    config = VocabularyConfig(vocabulary=100, min_count=2)
    train_tokenizer(of(text), config, tmp_path)
    found = pieces_in(tmp_path)
    assert list(found)[:5] == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert [found[name] for name in list(found)[:5]] == [0, 1, 2, 3, 4]
    assert "▁훈민정음" in found
    assert {"을", "은", "의"} <= set(found)
    # after a word's last syllable a particle begins: no piece goes across
    assert not [piece for piece in found if "음" in piece and piece[-1] in "을은의"]
    train_tokenizer(of(text), set_values(config, ["morphemes=false"]), tmp_path)
    assert "▁훈민정음을" in pieces_in(tmp_path)
    assert json.loads((tmp_path / "odqa.json").read_text()) == {"morphemes": False}


def test_what_is_rare_makes_no_piece(tmp_path: Path) -> None:
    text = "바다 바다 바다 하늘 하늘 龍"
    train_tokenizer(of(text), VocabularyConfig(vocabulary=100, min_count=3), tmp_path)
    found = pieces_in(tmp_path)
    assert "▁바다" in found
    assert not {"龍", "늘", "▁하늘"} & set(found)
    tokenizer = load_cut_tokenizer(str(tmp_path))
    (pieces,) = tokenizer.encode(["龍"])
    assert 3 in pieces.ids  # <unk>, which still has its place
    with pytest.raises(OdqaError, match="no character occurs 9 times"):
        train_tokenizer(of("가나다"), VocabularyConfig(min_count=9), tmp_path)


def test_a_piece_has_a_longest_length(tmp_path: Path) -> None:
    def longest(longest_piece: int) -> int:
        config = VocabularyConfig(vocabulary=100, min_count=1, longest_piece=longest_piece)
        train_tokenizer(of("대한민국 " * 4), config, tmp_path)
        return max(len(piece) for piece in list(pieces_in(tmp_path))[5:])

    assert longest(16) == len("▁대한민국")
    assert longest(3) <= 3


def test_each_nth_article(tmp_path: Path) -> None:
    config = VocabularyConfig(vocabulary=100, min_count=1, every=2)
    train_tokenizer(of("가가", "나나", "다다"), config, tmp_path)
    assert {"가", "다"} <= set(pieces_in(tmp_path))
    assert "나" not in pieces_in(tmp_path)


def test_any_library_loads_it_and_agrees(learnt: Path) -> None:
    """AutoTokenizer reads raw text; most pieces are those of the text that is cut first."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(learnt)
    assert tokenizer.is_fast
    assert (len(tokenizer), tokenizer.model_max_length) == (1200, 64)
    names = ("cls_token_id", "pad_token_id", "sep_token_id", "unk_token_id", "mask_token_id")
    assert [getattr(tokenizer, name) for name in names] == [0, 1, 2, 3, 4]
    pair = tokenizer("세종은", "왕이다")["input_ids"]
    assert pair[0] == 0
    assert pair.count(2) == 3
    cut = load_cut_tokenizer(str(learnt))
    assert cut.morphemes
    same = total = 0
    for document in itertools.islice(read_documents("sample"), 5):
        text = document.text[:400]
        raw = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        (pieces,) = cut.encode([text])
        ends = {end for _, end in raw["offset_mapping"]}
        same += len(ends & set(pieces.ends.tolist()))
        total += len(set(pieces.ends.tolist()))
        for start, end in zip(pieces.starts, pieces.ends, strict=True):
            assert 0 <= start <= end <= len(text)
    assert same > 0.95 * total


def test_no_piece_crosses_a_part(learnt: Path) -> None:
    tokenizer = load_cut_tokenizer(str(learnt))
    for document in itertools.islice(read_documents("sample"), 60, 64):
        text = document.text[:300]
        (pieces,) = tokenizer.encode([text])
        starts = np.array([start for _, start in parts_of(text, morphemes=True)])
        for start, end in zip(pieces.starts, pieces.ends, strict=True):
            assert not ((starts > start) & (starts < end)).any()


def test_the_documented_command_gives_the_same_bytes_again(
    learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process too, where strings have other hashes."""
    (command,) = documented("training.md", "## A vocabulary of your own")
    monkeypatch.chdir(tmp_path)
    articles = itertools.islice(read_documents("sample"), 40)
    lines = [json.dumps({"id": d.doc_id, "title": d.title, "text": d.text}) for d in articles]
    Path("documents.jsonl").write_text("\n".join(lines), encoding="utf-8")
    given = ["--vocabulary", "1200", "--set", "min_count=2", "--set", "positions=64"]
    assert main([*command[1:], *given]) == 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    words = [sys.executable, "-m", "odqa", *command[1:], *given, "--output", "again"]
    subprocess.run(words, check=True, env=environment, capture_output=True, timeout=120)
    for name in ("tokenizer.json", "tokenizer_config.json", "odqa.json"):
        written = (tmp_path / "runs/tokenizer" / name).read_bytes()
        assert written == (tmp_path / "again" / name).read_bytes()
        assert written == (learnt / name).read_bytes()


@pytest.mark.parametrize(
    "setting", ["vocabulary=5", "min_count=0", "longest_piece=0", "every=0", "positions=2"]
)
def test_values_that_mean_nothing_are_refused(setting: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=setting.split("=")[0]):
        train_tokenizer(of("가"), set_values(SETTINGS, [setting]), tmp_path)
    assert main(["train", "tokenizer", "--corpus", "sample", "--set", setting]) == 2
