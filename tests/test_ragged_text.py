"""Text of long runs, as broken extraction leaves it: what is quadratic takes minutes here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from odqa.config import CorpusConfig
from odqa.corpus.passages import clean_text, split_passages
from odqa.corpus.wikiextractor import read_wikiextractor
from odqa.text.normalize import without_parenthesis
from odqa.text.sentences import split_sentences
from odqa.text.tokenizers import WhitespaceTokenizer
from odqa.types import Document

N = 300_000


def cleaned(text: str) -> str:
    return clean_text(text, CorpusConfig())


def passages(text: str) -> str:
    found = split_passages(Document("1", "제목", text), CorpusConfig())
    return "".join("".join(passage.text for passage in found).split())


def words(text: str) -> list[str]:
    return WhitespaceTokenizer().tokenize([text])[0]


def sentences(text: str) -> list[str]:
    return [text[slice(*span)] for span in split_sentences(text)]


CASES: list[tuple[Callable[[str], object], str, object]] = [
    (sentences, "가" + "." * N + "나", ["가" + "." * N + "나"]),
    (sentences, "가" + "!?" * N + ")나", ["가" + "!?" * N + ")나"]),
    (sentences, "(" * N + "]" * N, ["(" * N + "]" * N]),
    (sentences, "“" * N + '"가' * N, ["“" * N + '"가' * N]),
    (sentences, "a. " * N, ["a. " * (N - 1) + "a."]),
    (sentences, "(가) 나다. " * (N // 3), ["(가) 나다."] * (N // 3)),
    (cleaned, "(" + " " * N + "가", "(" + " " * N + "가"),
    (cleaned, "(가" + ", " * N + "나", "(가, 나"),
    (cleaned, "(가" + " ,;" * N + "나", "(가" + " ,;" * N + "나"),
    (cleaned, "([[" * N, "([[" * N),
    (cleaned, "&" + "amp;" * N, "&"),
    (passages, "가나다라 " * N, "가나다라" * N),
    (passages, ("." * 200 + "\n") * (N // 200), "." * N),
    (without_parenthesis, "가" + " " * N + "나", "가" + " " * N + "나"),
    (words, "가" + "." * N + "나", ["가" + "." * N + "나"]),
]


@pytest.mark.parametrize(("function", "text", "wanted"), CASES, ids=range(len(CASES)))
def test_long_runs_take_no_longer_than_other_text(
    function: Callable[[str], object], text: str, wanted: object
) -> None:
    assert function(text) == wanted


def test_a_long_attribute_without_a_value_is_read_over(tmp_path: Path) -> None:
    path = tmp_path / "wiki_00"
    path.write_text(f'<doc {"a" * N} id="1" title="가">\n나\n</doc>\n', "utf-8")
    [(_, document)] = read_wikiextractor(path)
    assert (document.doc_id, document.text) == ("1", "나")
