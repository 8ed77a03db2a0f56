"""Questions with passages that do and do not answer them: read, checked, and how well ranked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from odqa.corpus.opening import read_lines
from odqa.errors import ConfigError, InputError, UsageError
from odqa.metrics import hit_at, mrr_at, ndcg_at
from odqa.text.normalize import nfc
from odqa.training.loop_config import LoopConfig
from odqa.training.outputs import written
from odqa.training.randomness import length_batches
from odqa.training.record import digest_of
from odqa.types import Passage

FIGURES = ("mrr@10", "ndcg@10", "hit@1")
"""Figures of an evaluation during training, over the passages given with each question."""


@dataclass(frozen=True, slots=True)
class RankingExample:
    """A question with passages that answer it and passages that do not, titles included."""

    question: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]


def read_ranking_examples(path: Path) -> list[RankingExample]:
    """The lines of a ``.jsonl``: ``{"question", "positives": […], "negatives": […]}``.

    Raises:
        InputError: the file is missing, a line is no such object, or there is none.
    """
    examples = []
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError("is no valid JSON", path=path, line=number) from error
        if not isinstance(record, dict):
            raise InputError("must be a JSON object", path=path, line=number)
        question = record.get("question")
        if not isinstance(question, str) or not question.strip():
            raise InputError("must be a text", path=path, line=number, field="question")
        lists = []
        for name in ("positives", "negatives"):
            texts = record.get(name)
            if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
                raise InputError("must be a list of texts", path=path, line=number, field=name)
            lists.append(tuple(nfc(text) for text in texts))
        examples.append(RankingExample(nfc(question), lists[0], lists[1]))
    if not examples:
        raise InputError("holds no question", path=path)
    return examples


def write_ranking_examples(examples: Sequence[RankingExample], path: Path) -> None:
    """The inverse of ``read_ranking_examples``; the file gets its name once it is whole."""
    with written(path) as file:
        for example in examples:
            file.write(json.dumps(dataclasses.asdict(example), ensure_ascii=False) + "\n")


def ranking_digests(
    examples: Sequence[RankingExample], dev: Sequence[RankingExample]
) -> dict[str, str]:
    """What ``odqa.training.runs.run`` is told of the data."""
    named = {"training data": examples, "evaluation data": dev}
    return {name: digest_of(map(dataclasses.astuple, given)) for name, given in named.items()}


def mined_passage(text: str, number: str = "0") -> Passage:
    """A passage from the text that ``passage_text`` made of one: its title, a line break, its text.

    Without a line break there is no title. ``number`` becomes its article's id.
    """
    title, line_break, rest = text.partition("\n")
    if not line_break:
        title, rest = "", text
    return Passage(f"{number}#0", number, title, rest, 0, len(rest))


class RankingGroups:
    """Questions in batches, and of each the passages that are drawn for an epoch."""

    def __init__(
        self, examples: Sequence[RankingExample], n_negatives: int, loop: LoopConfig
    ) -> None:
        self._examples, self._n_negatives, self._loop = examples, n_negatives, loop
        self._lengths = [
            len(e.question) + max(map(len, (*e.positives, *e.negatives))) for e in examples
        ]

    def batches(self, epoch: int) -> list[list[tuple[int, int]]]:
        """(question, epoch) pairs of an epoch, in batches of ``loop.batch_size`` of like length."""
        found = length_batches(self._lengths, self._loop.batch_size, self._loop.seed + epoch)
        return [[(row, epoch) for row in batch] for batch in found]

    def drawn(self, row: int, epoch: int) -> list[str]:
        """A positive of a question and at most ``n_negatives`` negatives; the seed decides."""
        example = self._examples[row]
        random = np.random.default_rng([self._loop.seed, epoch, row])
        positive = example.positives[int(random.integers(len(example.positives)))]
        order = random.permutation(len(example.negatives))[: self._n_negatives]
        return [positive, *(example.negatives[int(i)] for i in order)]


def with_both_kinds(
    examples: Sequence[RankingExample], dev: Sequence[RankingExample]
) -> tuple[list[RankingExample], list[RankingExample]]:
    """Of both, the questions that have positives and negatives.

    Raises:
        UsageError: none is left.
    """
    kept, kept_dev = (
        [e for e in given if e.positives and e.negatives] for given in (examples, dev)
    )
    if not kept or (dev and not kept_dev):
        raise UsageError(
            f"no question of the {'dev' if kept else 'training'} data has both "
            "positives and negatives; odqa train negatives finds some"
        )
    return kept, kept_dev


def check_best_by(name: str) -> None:
    """Refuse a figure that there is not.

    Raises:
        ConfigError: ``name`` is none of ``FIGURES``.
    """
    if name not in FIGURES:
        raise ConfigError(f"best_by: unknown '{name}'; known: {', '.join(FIGURES)}")


def ranking_figures(
    examples: Sequence[RankingExample],
    scores: Sequence[float] | npt.NDArray[np.float64],
    first: str,
) -> dict[str, float]:
    """How the questions' own passages are ranked by their scores; means over the questions.

    Args:
        examples: the questions.
        scores: of each one's positives, then of its negatives, question by question.
        first: the figure that decides, named first.
    """
    rows, done = [], 0
    for example in examples:
        names = [f"p{i}" for i in range(len(example.positives))]
        names += [f"n{i}" for i in range(len(example.negatives))]
        own = dict(zip(names, scores[done : done + len(names)], strict=True))
        done += len(names)
        ranking = sorted(names, key=lambda name: (-own[name], name))  # ties: negatives first
        relevant = {name: 1 for name in names if name.startswith("p")}
        rows.append([mrr_at(10, ranking, relevant), ndcg_at(10, ranking, relevant),
                     hit_at(1, ranking, relevant)])  # fmt: skip
    means = dict(zip(FIGURES, np.mean(rows, axis=0).tolist(), strict=True))
    return {name: means[name] for name in dict.fromkeys([first, *FIGURES])}
