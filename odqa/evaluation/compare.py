"""Two runs on the same questions: is the difference more than luck?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from odqa.corpus.opening import read_lines
from odqa.errors import InputError, UsageError
from odqa.evaluation import scoring, statistics
from odqa.evaluation.run import Evaluation

BINARY = {"open": "exact_match", "reading": "exact_match", "retrieval": "hit@10"}
"""The figure of a task that is right or wrong for each question, for McNemar's test."""


def compare_runs(evaluation: Evaluation, earlier: Path, *, seed: int) -> dict[str, Any]:
    """``evaluation`` against the run written to the folder ``earlier``.

    For each headline figure both means, the difference with its 95 % paired bootstrap interval
    and p-value; McNemar's exact test on the questions that only one run has right; and the ids of
    those questions. Both runs must be of the same task and the same questions.

    Raises:
        InputError: the folder holds no run, or a file of it is damaged.
        UsageError: the runs are of different tasks, levels or questions.
    """
    figures = _read_metrics(earlier / "metrics.json")
    for key in ("task", "level"):
        if figures.get(key) != evaluation.metrics.get(key):
            raise UsageError(
                f"--compare {earlier}: its {key} is '{figures.get(key)}', this run's "
                f"'{evaluation.metrics.get(key)}'; only runs of the same kind can be compared"
            )
    names = scoring.HEADLINES[evaluation.task]
    for which, run in (("its", figures), ("this run's", evaluation.metrics)):
        if missing := [name for name in names if name not in run]:
            raise UsageError(
                f"--compare {earlier}: {', '.join(missing)} cannot be compared, for {which} depth "
                f"is {run.get('depth')}; give both runs --top-k 10 or more"
            )
    theirs = _read_scores(earlier / "records.jsonl", names)
    ours = {record["id"]: record["scores"] for record in evaluation.records}
    _check_same_questions(set(ours), set(theirs), earlier)
    comparison: dict[str, Any] = {"earlier": str(earlier), "n": len(ours)}
    for name in names:
        comparison[name] = _compare(name, ours, theirs, seed)
    return comparison | _mcnemar(BINARY[evaluation.task], ours, theirs)


def _compare(
    name: str,
    ours: Mapping[str, Mapping[str, float]],
    theirs: Mapping[str, Mapping[str, float]],
    seed: int,
) -> dict[str, float]:
    scale = scoring.scale_of(name)
    pairs = [(ours[q][name], theirs[q][name]) for q in ours]
    tested = statistics.paired_bootstrap([a for a, _ in pairs], [b for _, b in pairs], seed=seed)
    return {
        "ours": scale * scoring.mean(a for a, _ in pairs),
        "earlier": scale * scoring.mean(b for _, b in pairs),
        **{key: value if key == "p_value" else scale * value for key, value in tested.items()},
    }


def _mcnemar(
    name: str,
    ours: Mapping[str, Mapping[str, float]],
    theirs: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    gained = [q for q in ours if ours[q][name] > theirs[q][name]]
    lost = [q for q in ours if ours[q][name] < theirs[q][name]]
    return {
        "mcnemar": {
            "metric": name,
            "only_ours": len(gained),
            "only_earlier": len(lost),
            "p_value": statistics.mcnemar_exact(len(gained), len(lost)),
        },
        "gained": gained,
        "lost": lost,
    }


def _check_same_questions(ours: set[str], theirs: set[str], earlier: Path) -> None:
    if ours != theirs:
        raise UsageError(
            f"--compare {earlier}: it holds {len(theirs)} questions, this run {len(ours)}, and "
            f"{len(ours & theirs)} are in both; only runs on the same questions can be compared"
        )


def _read_metrics(path: Path) -> Mapping[str, Any]:
    text = "\n".join(line for _, line in read_lines(path))
    try:
        figures = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not valid JSON ({error})", path=path) from error
    if not isinstance(figures, dict):
        raise InputError("is no metrics.json of an evaluation", path=path)
    return figures


def _read_scores(path: Path, names: Sequence[str]) -> dict[str, Mapping[str, float]]:
    return dict(_scores(path, names))


def _scores(path: Path, names: Sequence[str]) -> Iterator[tuple[str, Mapping[str, float]]]:
    for number, line in read_lines(path):
        try:
            record = json.loads(line)
            yield str(record["id"]), {name: float(record["scores"][name]) for name in names}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            message = f"is no record of an evaluation with 'id' and 'scores' ({', '.join(names)})"
            raise InputError(message, path=path, line=number) from error
