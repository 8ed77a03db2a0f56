"""Splitting questions by article (scripts/hold_out.py)."""

from typing import Any

from script_modules import load_script


def article(title: str, n_questions: int) -> dict[str, Any]:
    return {"title": title, "paragraphs": [{"context": "가", "qas": [{}] * n_questions}]}


def test_whole_articles_are_held_out_whatever_their_order() -> None:
    split = load_script("hold_out").split
    # the last title stands twice, as KLUE-MRC's do: its parts go together
    articles = [*(article(f"제목 {i}", 1 + i % 4) for i in range(40)), article("제목 39", 2)]
    train, held = split(articles, 20)
    assert sorted(a["title"] for a in train + held) == sorted(a["title"] for a in articles)
    assert not {a["title"] for a in train} & {a["title"] for a in held}
    n = sum(len(a["paragraphs"][0]["qas"]) for a in held)
    assert 20 <= n < 26
    _, again = split(articles[::-1], 20)
    assert {a["title"] for a in again} == {a["title"] for a in held}
    assert split(articles, 0)[1] == []
