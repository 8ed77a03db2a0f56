"""A run from its task to the folder it leaves: training, the model, its record."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from odqa.models.weights import make_readable
from odqa.training.distributed import is_main
from odqa.training.loop import Task, train
from odqa.training.loop_config import LoopConfig
from odqa.training.outputs import held
from odqa.training.record import DataFile, run_record, write_record


class RunConfig(Protocol):
    """A frozen dataclass of settings, the loop's among them."""

    @property
    def loop(self) -> LoopConfig: ...


def run(
    kind: str,
    task: Task,
    config: RunConfig,
    output: Path,
    *,
    data: Mapping[str, str],
    files: Sequence[DataFile],
    counts: Mapping[str, int],
) -> dict[str, Any]:
    """Train, and write model, record and model card; an interrupted run goes on.

    Args:
        kind: "reader", "encoder", "reranker" or "pretrain".
        task: what to train.
        config: the dataclass of its settings.
        output: the run's folder.
        data: digests of what is learnt from and what is evaluated on, by their names; a run begun
            with other data is not gone on with.
        files: where the data come from, for the record.
        counts: of what was read from them.

    Returns:
        The record, as in ``run.json``.

    Raises:
        UsageError: another process is training into ``output``.
    """
    values: Any = config
    settings = {k: v for k, v in dataclasses.asdict(values).items() if k != "loop"}
    settings |= data
    with held(output) if is_main() else contextlib.nullcontext():
        outcome = train(task, config.loop, output, settings=settings)
        record = run_record(kind, config, files, counts, outcome)
        if is_main():
            task.model.eval()
            task.save(output)
            for path in output.glob("*.safetensors"):
                make_readable(path)
            write_record(record, output)
    return record
