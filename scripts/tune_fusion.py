"""Fit the fusion's four numbers on questions that nothing is reported on.

Retrieves and reads once, then replays the fusion over a grid: the retrieval weight that gives the
best exact match (the reader's weight is 1, which fixes the scale), then the temperature and the
bias of "no answer" that give the top probability the least squared error (Brier 1950).

    python scripts/tune_fusion.py --dataset sample --split train --index sample

The last line of the output is one JSON object with the weights and what they gave.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from odqa.build import open_pipeline
from odqa.config import FusionConfig, load_config
from odqa.corpus.datasets import read_examples
from odqa.fusion import LogLinearFusion
from odqa.metrics import korquad_em
from odqa.pipeline import Trace
from odqa.store import find_index
from odqa.types import Example

WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0)
TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0)
BIASES = (-5.0, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0)


def exact_match(
    examples: Sequence[Example], traces: Sequence[Trace], config: FusionConfig
) -> list[tuple[float, float]]:
    """(is the top answer right, its probability) of each question.

    "No answer" is the top answer where it is more probable; it is right where there is none.
    """
    fusion = LogLinearFusion(config)
    found = []
    for example, trace in zip(examples, traces, strict=True):
        prediction = fusion.fuse(trace.question, trace.readings, k=1)
        top = prediction.answers[0] if prediction.answers else None
        if not example.answers:
            right, probability = 0.0, top.probability if top else 0.0
        else:
            right = korquad_em(top.text, example.answers) if top else 0.0
            probability = top.probability if top else 0.0
        found.append((right, probability))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--dataset", default="sample")
    parser.add_argument("--split", default="train")
    parser.add_argument("--index", default="sample")
    parser.add_argument("--indexes-dir", type=Path, default=Path("indexes"))
    parser.add_argument("--every", type=int, default=1, help="take each n-th answerable question")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    args = parser.parse_args()

    config = load_config(overrides=args.overrides)
    every = read_examples(args.dataset, args.split)
    answerable = [example for example in every if example.answers]
    examples = answerable[:: args.every] + [e for e in every if not e.answers]
    pipeline = open_pipeline(find_index(args.index, args.indexes_dir), config)
    traces: list[Trace] = []
    for start in range(0, len(examples), 16):
        traces += pipeline.trace([e.question for e in examples[start : start + 16]])
        print(f"{len(traces)} of {len(examples)}", file=sys.stderr)

    n = len(answerable[:: args.every])
    by_weight = {}
    for weight in WEIGHTS:
        tried = dataclasses.replace(config.fusion, retrieval_weight=weight)
        scored = exact_match(examples, traces, tried)[:n]
        by_weight[weight] = round(100 * sum(right for right, _ in scored) / n, 2)
        print(f"retrieval_weight {weight}: exact match {by_weight[weight]}", file=sys.stderr)
    weight = max(by_weight, key=lambda w: (by_weight[w], -w))
    best = (float("inf"), config.fusion)
    for temperature, bias in itertools.product(TEMPERATURES, BIASES):
        tried = dataclasses.replace(
            config.fusion,
            retrieval_weight=weight,
            temperature=temperature,
            no_answer_bias=bias,
        )
        scored = exact_match(examples, traces, tried)
        brier = sum((probability - right) ** 2 for right, probability in scored) / len(scored)
        best = min(best, (brier, tried), key=lambda pair: pair[0])
    result = {"questions": len(examples), "exact_match_by_weight": by_weight}
    result |= {"fusion": dataclasses.asdict(best[1]), "brier": round(best[0], 4)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
