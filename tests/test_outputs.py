"""One process at a time writes into what a training leaves, whatever it trains."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_models import write_bert

from odqa.corpus import read_documents
from odqa.errors import UsageError
from odqa.store.work import lock_directory
from odqa.training.questions import write_questions
from odqa.training.vocabulary import VocabularyConfig, train_tokenizer

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no flock")

from odqa.training.export import export  # noqa: E402
from odqa.training.loop_config import LoopConfig  # noqa: E402
from odqa.training.pretraining import PretrainingConfig, pretrain  # noqa: E402
from odqa.training.ranking import write_ranking_examples  # noqa: E402
from odqa.training.static import StaticTrainingConfig, train_static  # noqa: E402

LOOP = LoopConfig(max_steps=1, batch_size=4, device="cpu", precision="fp32", overwrite=True)
EVERY = itertools.count(20)
STATIC = StaticTrainingConfig(terms=50, dim=8, every=20, loop=LOOP)
PRETRAIN = PretrainingConfig(
    layers=1, hidden_size=16, heads=1, intermediate_size=16, max_length=32, held_out=0.0,
    loop=LOOP,
)  # fmt: skip


@contextlib.contextmanager
def in_use(path: Path) -> Iterator[None]:
    """Another process has the lock: a second descriptor is as good as a second process."""
    lock = lock_directory(path)
    assert lock is not None
    try:
        yield
    finally:
        os.close(lock)


def static(folder: Path) -> None:
    train_static("sample", [], STATIC, folder, initial=None)


def tokenizer(folder: Path) -> None:
    train_tokenizer(read_documents("sample"), VocabularyConfig(300, every=8), folder)


def pretraining(folder: Path) -> None:
    """Each time of other articles, whose text takes the place of that before."""
    vocabulary = folder.parent / "vocabulary"
    if not vocabulary.exists():
        tokenizer(vocabulary)
    pretrain("sample", replace(PRETRAIN, every=next(EVERY), tokenizer=str(vocabulary)), folder)


def exporting(folder: Path) -> None:
    pytest.importorskip("onnx")
    model = folder.parent / "model"
    if not model.exists():
        write_bert(model, ["세종은 훈민정음을 만들었다."], reader=False)
    export(model, folder)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("write", [static, tokenizer, pretraining, exporting])
def test_a_folder_in_use_is_left_as_it_is(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    folder = tmp_path / "run"
    write(folder)
    before = contents(folder)
    assert before
    with in_use(folder), pytest.raises(UsageError, match=r"run: another process is training into"):
        write(folder)
    assert contents(folder) == before
    write(folder)  # what has ended holds nothing


def test_a_file_in_use_is_left_as_it_is(tmp_path: Path) -> None:
    for write in (write_questions, write_ranking_examples):
        path = tmp_path / f"{write.__name__}.json"
        part = tmp_path / f"{path.name}.part"
        part.write_text("half of what the other one writes", encoding="utf-8")
        with in_use(part), pytest.raises(UsageError, match="json: another process is writing"):
            write([], path)
        assert part.read_text(encoding="utf-8").startswith("half")
        assert not path.exists()
        write([], path)
        assert path.exists()
        assert not part.exists()
