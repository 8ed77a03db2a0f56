"""What a run was: ``run.json``, and the model card that is made from it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import odqa
from odqa.evaluation.scoring import format_value
from odqa.types import Example

RECORD = "run.json"
CARD = "README.md"
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a run's data, by its name alone."""

    role: str  # train | dev
    name: str
    n: int  # questions, or articles
    sha256: str | None  # None: no file, such as what is bundled with odqa


def data_file(role: str, path: Path, n: int) -> DataFile:
    """The description of a file, or of the bundled sample."""
    if not path.is_file():
        return DataFile(role, path.name, n, None)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return DataFile(role, path.name, n, digest.hexdigest())


def digest_of(items: Iterable[Any]) -> str:
    """A digest of what was learnt from, item by item (texts and lists): 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for item in items:
        digest.update(json.dumps(item).encode())
    return digest.hexdigest()


def examples_digest(examples: Sequence[Example]) -> str:
    """As ``digest_of``: of questions, answers and passages with their titles."""
    return digest_of(
        [e.question, e.answers, e.answer_starts, [p.title, p.text] if (p := e.passage) else None]
        for e in examples
    )


def run_record(
    kind: str,
    config: Any,
    files: Sequence[DataFile],
    counts: Mapping[str, int],
    outcome: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything about a run: settings, data, figures, machine and versions.

    Args:
        kind: "reader", "encoder", "reranker" or "pretrain".
        config: the dataclass of its settings.
        files: the data.
        counts: of what was read from them.
        outcome: what ``odqa.training.loop.train`` returned.
    """
    return {
        "kind": kind,
        "config": dataclasses.asdict(config),
        "data": [dataclasses.asdict(file) for file in files],
        **counts,
        **outcome,
        "hardware": _hardware(str(outcome["device"])),
        "versions": _versions(),
    }


def write_record(record: Mapping[str, Any], folder: Path) -> None:
    """Write ``run.json`` and the model card beside the model."""
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")
    (folder / CARD).write_text(model_card(record), encoding="utf-8")


def _hardware(device: str) -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> dict[str, str]:
    import torch
    import transformers

    return {
        "odqa": odqa.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }


# The model card -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a model card says of a kind of training."""

    task: str  # Hugging Face's name
    what: str
    counted: str  # what a file's number counts
    dev: str  # what the figures are of
    use: str  # a command


_KINDS = {
    "reader": _Kind(
        "question-answering", "an extractive reader", "questions", "questions given as dev data",
        'odqa ask --set reader.model=FOLDER "질문"',
    ),
    "reranker": _Kind(
        "text-ranking", "a cross-encoder that reorders passages for a question", "questions",
        "questions given as dev data", 'odqa ask --set rerank.encoder=FOLDER "질문"',
    ),
    "encoder": _Kind(
        "sentence-similarity", "a sentence encoder", "questions",
        "questions given as dev data",
        "odqa build-index documents.jsonl --set dense.encoder=FOLDER",
    ),
    "pretrain": _Kind(
        "fill-mask", "a masked language model", "articles", "sequences of articles held out",
        "odqa train reader --train my.json --model FOLDER",
    ),
}  # fmt: skip
_HYPERPARAMETERS = (
    "learning_rate", "schedule", "warmup", "warmup_steps", "weight_decay", "adam_epsilon",
    "batch_size", "gradient_accumulation", "max_gradient_norm", "seed",
)  # fmt: skip


def model_card(record: Mapping[str, Any]) -> str:
    """The model card: Hugging Face's front matter, and what the record says, in tables."""
    kind = _KINDS[record["kind"]]
    base = str(record["config"]["model"])
    # an id of the hub, no folder
    named = base.count("/") == 1 and not base.startswith((".", "/")) and not Path(base).exists()
    base = base if named else Path(base).name
    return "\n".join([
        *_front_matter(record, kind.task, base if named else None),
        "",
        f"# {kind.what[0].upper()}{kind.what[1:]} for Korean",
        "",
        (f"`{base}`, trained further with " if base else "Trained from the beginning with ")
        + f"`odqa train {record['kind']}` (odqa {record['versions']['odqa']}). "
        f"This page was made from the run's record, `{RECORD}`.",
        "",
        "## Use",
        "",
        "```sh",
        kind.use,
        "```",
        "",
        "## Figures",
        "",
        *_figures(record),
        "",
        "## Data",
        "",
        *_data(record),
        "",
        "## Training",
        "",
        *_training(record),
        "",
    ])  # fmt: skip


def _front_matter(record: Mapping[str, Any], task: str, base: str | None) -> list[str]:
    import yaml

    front: dict[str, Any] = {
        "language": ["ko"],
        "library_name": "transformers",
        "pipeline_tag": task,
        "tags": ["odqa", f"odqa-{record['kind']}"],
    }
    if base is not None:
        front["base_model"] = base
    if "dev" in record:
        names = ", ".join(f["name"] for f in record["data"] if f["role"] == "dev") or "dev"
        metrics = [
            {"type": name, "value": round(value, 4)} for name, value in record["dev"].items()
        ]
        dataset = {"name": names, "type": "custom"}
        result = {"task": {"type": task}, "dataset": dataset, "metrics": metrics}
        front["model-index"] = [{"name": f"odqa-{record['kind']}", "results": [result]}]
    return ["---", yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(), "---"]


def _figures(record: Mapping[str, Any]) -> list[str]:
    if "dev" not in record:
        return ["The run had no data to evaluate on."]
    lines = [
        f"On the {record['n_dev']} {_KINDS[record['kind']].dev}, after step "
        f"{record['best_step']}. It is the best of {len(record['evaluations'])} evaluations, "
        "chosen by the first figure on these same data, which makes the figures a little hopeful.",
        "",
        "| figure | value |",
        "|---|---|",
    ]
    rows = (f"| {name} | {format_value(name, value)} |" for name, value in record["dev"].items())
    return [*lines, *rows]


def _data(record: Mapping[str, Any]) -> list[str]:
    if not record["data"]:
        return [f"{record['n_questions']} questions."]
    counted = _KINDS[record["kind"]].counted
    rows = [f"| file | used for | {counted} | SHA-256 |", "|---|---|---|---|"]
    for file in record["data"]:
        unknown = "bundled with odqa" if file["name"] == "sample" else ""
        digest = f"`{file['sha256']}`" if file["sha256"] else unknown
        rows.append(f"| {file['name']} | {file['role']} | {file['n']} | {digest} |")
    return rows


def _training(record: Mapping[str, Any]) -> list[str]:
    loop, hardware = record["config"]["loop"], record["hardware"]
    place = hardware.get("gpu") or f"{hardware['cpu']} (threads: {hardware['threads']})"
    return [
        f"{record['steps']} steps in {record['minutes']:.1f} minutes on {place}, in "
        f"{record['precision']}, {record['processes']} "
        f"{'process' if record['processes'] == 1 else 'processes'}; mean loss of the last tenth "
        f"{record['loss']:.4f}.",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {name} | {loop[name]} |" for name in _HYPERPARAMETERS),
        "",
        ", ".join(f"{name} {version}" for name, version in record["versions"].items()) + ".",
    ]
