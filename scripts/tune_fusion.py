"""Fit the fusion: what reader, retrieval and clues weigh, then temperature and bias.

Retrieves and reads once. The weights maximise the likelihood that a right reading is chosen, each
data set counting equally; yes/no questions, which no fusion decides, are left out. By
cross-validation the fitted weights are held against those of the configuration, and proposed only
if F1 rises by more than chance (95 % paired bootstrap) and exact match does not fall. The bias of
"no answer" gives the top probability the least squared error (Brier 1950).

    python scripts/tune_fusion.py --index kowiki --questions 300 \
        --dataset DATA/xor-tydi-ko --dataset DATA/mkqa-ko --dataset DATA/korquad1

The last line of the output is one JSON object. The exit code is 1 where the fitted weights do not
beat the configured ones; the configured weights are proposed then.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from odqa.build import open_pipeline
from odqa.config import FusionConfig, load_config
from odqa.corpus.datasets import read_examples
from odqa.evaluation.statistics import paired_bootstrap
from odqa.fusion import CLUES, LogLinearFusion, clues_of, standardize
from odqa.metrics import korquad_em, korquad_f1, xor_em
from odqa.store import find_index
from odqa.text.question_types import is_polar
from odqa.types import Example, Reading

Floats = npt.NDArray[np.float64]

NAMES = ("reader_weight", "retrieval_weight", *CLUES)
BIASES = tuple(float(bias) for bias in range(-6, 25, 2))
FOLDS = 10
PENALTY = 3.0  # on the squares of the weights, of features scaled to unit deviation
STEPS = 30


@dataclass(frozen=True)
class Read:
    """A question with its readings as features (readings, len(NAMES)); right ones are marked."""

    name: str
    example: Example
    readings: list[Reading]
    features: Floats
    right: npt.NDArray[np.bool_]


def as_read(name: str, example: Example, readings: Sequence[Reading]) -> Read:
    z = standardize({r.candidate.passage.passage_id: r.candidate.score for r in readings})
    rows = []
    for r in readings:
        clues = clues_of(example.question, r)
        scores = [r.score, z[r.candidate.passage.passage_id]]
        rows.append([*scores, *(float(getattr(clues, clue)) for clue in CLUES)])
    right = [
        bool(korquad_em(r.text, example.answers) or xor_em(r.text, example.answers))
        for r in readings
    ]
    features = np.array(rows, dtype=np.float64).reshape(-1, len(NAMES))
    return Read(name, example, list(readings), features, np.array(right, dtype=bool))


def fit(items: Sequence[Read], base: FusionConfig) -> FusionConfig:
    """The weights of ``NAMES``, the reader's brought to 1, and with it the temperature.

    Minimises ``-sum(ln P(a right reading))``, P a softmax over a question's readings, by Newton's
    steps with the shares of the right readings held fixed in each (generalised EM).
    """
    used = [item for item in items if item.right.any()]
    scale = np.concatenate([item.features for item in used]).std(axis=0)
    scale[scale == 0] = 1.0
    counts = {name: sum(i.name == name for i in used) for name in {i.name for i in used}}
    weights = np.zeros(len(NAMES))
    for _ in range(STEPS):
        gradient, hessian = PENALTY * weights, PENALTY * np.eye(len(NAMES))
        for item in used:
            share = len(used) / len(counts) / counts[item.name]
            x = item.features / scale
            p = _softmax(x @ weights)
            q = np.where(item.right, p, 0.0) / p[item.right].sum()
            centred = x - p @ x
            gradient = gradient + share * ((p - q) @ x)
            hessian = hessian + share * (centred.T * p) @ centred
        weights = weights - np.linalg.solve(hessian, gradient)
    raw = weights / scale
    values = {name: float(value) for name, value in zip(NAMES, raw / raw[0], strict=True)}
    return dataclasses.replace(base, temperature=float(1 / raw[0]), **values)


def scores(items: Sequence[Read], config: FusionConfig) -> list[tuple[float, float, float]]:
    """(exact match, F1, probability) of each question's top answer."""
    fusion = LogLinearFusion(config)
    found = []
    for item in items:
        answers = fusion.fuse(item.example.question, item.readings, k=1).answers
        text, probability = (answers[0].text, answers[0].probability) if answers else ("", 0.0)
        golds = item.example.answers
        found.append((korquad_em(text, golds), korquad_f1(text, golds), probability))
    return found


def cross_validated(items: Sequence[Read], base: FusionConfig) -> list[tuple[float, float, float]]:
    """``scores`` of every question by weights fitted without its fold."""
    fold = np.random.default_rng(13).integers(0, FOLDS, len(items))
    found: list[tuple[float, float, float]] = [(0.0, 0.0, 0.0)] * len(items)
    for k in range(FOLDS):
        config = fit([item for item, f in zip(items, fold, strict=True) if f != k], base)
        held_out = [i for i, f in enumerate(fold) if f == k]
        for i, score in zip(held_out, scores([items[i] for i in held_out], config), strict=True):
            found[i] = score
    return found


def calibrated(items: Sequence[Read], config: FusionConfig) -> tuple[float, FusionConfig]:
    """The bias of the least Brier score, and that score."""
    best = (float("inf"), config)
    for bias in BIASES:
        tried = dataclasses.replace(config, no_answer_bias=bias)
        found = scores(items, tried)
        brier = float(np.mean([(probability - em) ** 2 for em, _, probability in found]))
        best = min(best, (brier, tried), key=lambda pair: pair[0])
    return best


def tune(items: Sequence[Read], base: FusionConfig) -> dict[str, object]:
    """What is proposed and why: figures by data set in percent, differences with their bounds."""
    before, after = scores(items, base), cross_validated(items, base)
    result: dict[str, object] = {"questions": len(items)}
    for name in sorted({item.name for item in items}):
        rows = [i for i, item in enumerate(items) if item.name == name]
        result[name] = {
            "n": len(rows),
            "configured": [round(100 * np.mean([before[i][m] for i in rows]), 1) for m in (0, 1)],
            "fitted": [round(100 * np.mean([after[i][m] for i in rows]), 1) for m in (0, 1)],
        }
    em, f1 = (
        paired_bootstrap([a[m] for a in after], [b[m] for b in before], seed=13) for m in (0, 1)
    )
    better = f1["low"] > 0 and em["difference"] >= 0
    brier, fusion = calibrated(items, fit(items, base) if better else base)
    rounded = {name: round(value, 2) for name, value in dataclasses.asdict(fusion).items()}
    return result | {
        "exact_match": em, "f1": f1, "better": better, "fusion": rounded, "brier": round(brier, 4),
    }  # fmt: skip


def _softmax(values: Floats) -> Floats:
    shifted: Floats = np.exp(values - values.max())
    return shifted / shifted.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--dataset", action="append", required=True)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--index", default="sample")
    parser.add_argument("--indexes-dir", type=Path, default=Path("indexes"))
    parser.add_argument("--questions", type=int, default=300, help="of each data set, at random")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    args = parser.parse_args()

    config = load_config(overrides=args.overrides)
    pipeline = open_pipeline(find_index(args.index, args.indexes_dir), config)
    items: list[Read] = []
    for dataset in args.dataset:
        examples = [
            e for e in read_examples(dataset, args.split) if e.answers and not is_polar(e.question)
        ]
        if len(examples) > args.questions:
            examples = random.Random(13).sample(examples, args.questions)
        for start in range(0, len(examples), 16):
            batch = examples[start : start + 16]
            traces = pipeline.trace([e.question for e in batch])
            pairs = zip(batch, traces, strict=True)
            items += [as_read(str(dataset), e, trace.readings) for e, trace in pairs]
            print(f"{dataset}: {start + len(batch)} of {len(examples)}", file=sys.stderr)
    result = tune(items, config.fusion)
    print(json.dumps(result))
    sys.exit(0 if result["better"] else 1)


if __name__ == "__main__":
    main()
