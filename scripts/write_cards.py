"""Writes the bundled models' cards, docs/cards/NAME.md, from the records docs/cards/NAME.json.

    python scripts/write_cards.py
    python scripts/write_cards.py run NAME ROUND RUN_FOLDER
    python scripts/write_cards.py figure NAME SET METRICS.json COMMAND

The second takes up what a run recorded, the third what ``odqa evaluate`` found. A record is begun
by hand: what the model is, where it comes from, its licence and its limits. tests/test_docs.py
holds the cards to the records.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from odqa.evaluation.scoring import format_value
from odqa.models.weights import WEIGHTS

CARDS = Path(__file__).parents[1] / "docs" / "cards"
_NOTE = "<!-- written by scripts/write_cards.py from {}.json -->"
FIGURES = ("exact_match", "f1", "xor_exact_match", "xor_f1", "ndcg@10", "recall@100", "hit@100")
_KEPT = ("steps", "minutes", "loss", "precision", "device", "hardware", "versions", "data",
         "n_questions", "n_windows", "n_passages", "n_terms")  # fmt: skip
_SETTINGS = ("layers", "frozen_layers", "token_dropout", "mined_negatives", "group_negatives",
             "dim", "question_share")  # fmt: skip
_LOOP = ("batch_size", "learning_rate", "schedule", "warmup", "weight_decay", "seed")


def card(record: dict[str, Any], name: str) -> str:
    """The page of one model."""
    lines = [f"# {name}", _NOTE.format(name), "", record["what"], ""]
    lines += [f"- From: {record['from']}", f"- Licence: {record['licence']}"]
    lines += [f"- Size: {_megabytes(name):.1f} MB on disk", f"- Made by: `{record['made_by']}`", ""]
    lines += ["## Use", "", "```sh", *record["use"], "```", ""]
    if record.get("figures"):
        lines += ["## Figures", "", "| questions | n | figure | value | 95 % interval | command |"]
        lines += ["|---|---|---|---|---|---|", *_figure_rows(record["figures"]), ""]
    if record.get("runs"):
        lines += ["## Training", *_run_lines(record["runs"]), ""]
    for title, key in (("Not in the records", "unrecorded"), ("Limits", "limits")):
        if record.get(key):
            lines += [f"## {title}", "", *(f"- {text}" for text in record[key]), ""]
    return "\n".join(lines)


def _megabytes(name: str) -> float:
    folder = WEIGHTS / name
    files = folder.iterdir() if folder.is_dir() else [WEIGHTS / f"{name}.safetensors"]
    return sum(file.stat().st_size for file in files) / 1e6


def _figure_rows(figures: list[dict[str, Any]]) -> Iterator[str]:
    for found in figures:
        for name, value in found["values"].items():
            low, high = (format_value(name, v) for v in found["intervals"][name])
            yield (
                f"| {found['set']} | {found['n']} | {name} | {format_value(name, value)} | "
                f"{low} to {high} | `{found['command']}` |"
            )


def _run_lines(runs: list[dict[str, Any]]) -> Iterator[str]:
    for run in runs:
        hardware = run["hardware"]
        data = ", ".join(f"{file['name']} ({file['n']})" for file in run.get("data", []))
        settings = {**run["settings"], **run["loop"]}
        yield from ("", f"### {run['round']}", "")
        yield (
            f"{run['steps']} steps in {run['minutes']:.0f} minutes on "
            f"{hardware.get('gpu') or hardware['cpu']} ({hardware['threads']} threads), in "
            f"{run['precision']}, from `{run['from']}`. Data: {data or run['n_questions']}. "
            f"Mean loss of the last tenth {run['loss']:.3f}. "
            + ", ".join(f"{key} {value}" for key, value in settings.items())
            + f". torch {run['versions']['torch']}."
        )


def taken_run(folder: Path, name: str) -> dict[str, Any]:
    """What a card says of a run, from its ``run.json``."""
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    config = record["config"]
    return {
        "round": name,
        "from": Path(str(config.get("model", record.get("initial")))).name,
        "settings": {key: config[key] for key in _SETTINGS if config.get(key)},
        "loop": {key: config["loop"][key] for key in _LOOP},
        **{key: record[key] for key in _KEPT if key in record},
    }


def taken_figure(path: Path, name: str, command: str) -> dict[str, Any]:
    """What a card says of an evaluation, from its ``metrics.json``."""
    metrics = json.loads(path.read_text(encoding="utf-8"))
    intervals = metrics["confidence_intervals"]
    known = [figure for figure in FIGURES if figure in intervals]
    return {
        "set": name,
        "n": metrics["n"],
        "command": command,
        "values": {figure: metrics[figure] for figure in known},
        "intervals": {figure: intervals[figure] for figure in known},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    kinds = parser.add_subparsers(dest="kind")
    run = kinds.add_parser("run")
    for argument, kind in (("name", str), ("round", str), ("folder", Path)):
        run.add_argument(argument, type=kind)
    figure = kinds.add_parser("figure")
    for argument, kind in (("name", str), ("set", str), ("metrics", Path), ("command", str)):
        figure.add_argument(argument, type=kind)
    arguments = parser.parse_args()
    if arguments.kind is not None:
        path = CARDS / f"{arguments.name}.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        if arguments.kind == "run":
            key, new = "runs", taken_run(arguments.folder, arguments.round)
            same = "round"
        else:
            new = taken_figure(arguments.metrics, arguments.set, arguments.command)
            key, same = "figures", "set"
        others = [one for one in record.get(key, []) if one[same] != new[same]]
        record[key] = [*others, new]
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for path in sorted(CARDS.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        path.with_suffix(".md").write_text(card(record, path.stem), encoding="utf-8")


if __name__ == "__main__":
    main()
