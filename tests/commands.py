"""What tests of ``odqa train`` need: the commands as documented, short loops, files of data."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from odqa.types import Example

ROOT = Path(__file__).parents[1]


def set_loop(**values: object) -> list[str]:
    chosen = {"max_steps": 2, "batch_size": 4, "device": "cpu", "precision": "fp32"} | values
    return [part for k, v in chosen.items() for part in ("--set", f"loop.{k}={v}")]


def korquad(path: Path, examples: Sequence[Example]) -> Path:
    """Examples in KorQuAD's form."""
    articles = [
        {
            "title": e.passage.title,
            "paragraphs": [
                {
                    "context": e.passage.text,
                    "qas": [
                        {
                            "id": e.question_id,
                            "question": e.question,
                            "answers": [
                                {
                                    "text": e.answers[0],
                                    "answer_start": e.passage.text.index(e.answers[0]),
                                }
                            ],
                        }
                    ],
                }
            ],
        }
        for e in examples
        if e.passage is not None
    ]
    path.write_text(json.dumps({"data": articles}, ensure_ascii=False), encoding="utf-8")
    return path


def documented(page: str, heading: str) -> list[list[str]]:
    """The commands of the first shell block under a heading of a page in docs."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh\n(.*?)```", text[text.index(heading) :], re.DOTALL)[:1]
    return [shlex.split(line, comments=True) for line in block.splitlines() if line]
