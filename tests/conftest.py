"""A small index that the command line built itself, and a way to run commands over it."""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_components import LastWordReader

from odqa.build import components
from odqa.cli import main

# A shell that starts the tests in the background has them, and every command they start, ignore
# Ctrl-C; the tests of interruption need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ARTICLES = [
    {
        "id": "1",
        "title": "훈민정음",
        "text": "훈민정음은 조선에서 만든 글자이다. 훈민정음 창제 세종대왕",
    },
    {"id": "2", "title": "거북선", "text": "거북선은 조선 수군의 배이다. 거북선 제작 이순신"},
    {"id": "3", "title": "측우기", "text": "측우기는 비의 양을 잰다. 측우기 제작 장영실"},
]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus and its index under ``indexes``, built by the command itself."""
    folder = tmp_path_factory.mktemp("home")
    lines = [json.dumps(article, ensure_ascii=False) for article in ARTICLES]
    (folder / "small.jsonl").write_text("\n".join(lines), encoding="utf-8")
    arguments = ["build-index", str(folder / "small.jsonl"), "--retriever", "sparse"]
    assert main([*arguments, "--indexes-dir", str(folder / "indexes")]) == 0
    return folder


@pytest.fixture
def odqa(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in the folder ``home`` and returns exit code, stdout and stderr."""
    monkeypatch.chdir(home)
    monkeypatch.setitem(components.READERS, "last-word", lambda config: LastWordReader())

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        sys.stdout.flush()
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run
