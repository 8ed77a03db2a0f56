"""Split whole articles off a set of questions, to choose by or to report on.

    python scripts/hold_out.py QUESTIONS.json TRAIN.json HELD_OUT.json [--questions 200]

QUESTIONS is a KorQuAD file. Articles go to HELD_OUT in the order of a hash of their titles until
it has the wanted number of questions; the rest goes to TRAIN. So which ones go depends on nothing
but the titles, and no article is in both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any


def split(
    articles: list[dict[str, Any]], n_questions: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The articles to train on and those held out, each in their old order."""
    sizes: dict[str, int] = {}
    for article in articles:
        size = sum(len(paragraph["qas"]) for paragraph in article["paragraphs"])
        sizes[article["title"]] = sizes.get(article["title"], 0) + size
    held, total = set(), 0
    for title in sorted(sizes, key=lambda t: (hashlib.blake2b(t.encode()).digest(), t)):
        if total >= n_questions:
            break
        held.add(title)
        total += sizes[title]
    train = [article for article in articles if article["title"] not in held]
    return train, [article for article in articles if article["title"] in held]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--questions", type=int, default=200, help="how many at least")
    arguments = parser.parse_args()
    source = json.loads(arguments.source.read_text(encoding="utf-8"))
    parts = split(source["data"], arguments.questions)
    for path, part in zip((arguments.train, arguments.held_out), parts, strict=True):
        text = json.dumps(source | {"data": part}, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        n = sum(len(paragraph["qas"]) for article in part for paragraph in article["paragraphs"])
        print(f"{path}: {len(part)} articles, {n} questions")


if __name__ == "__main__":
    main()
