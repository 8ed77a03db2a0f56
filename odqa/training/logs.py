"""Where a run's figures go: the console, ``log.jsonl``, and what ``loop.log_to`` names."""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from odqa.errors import ConfigError, MissingDependencyError

logger = logging.getLogger(__name__)
LOG = "log.jsonl"
TENSORBOARD = "tensorboard"  # the folder of its event files, in the run's
_WANDB_ID = "wandb-id.txt"


class Tracker(Protocol):
    """A service that draws curves."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files for ``tensorboard --logdir RUN``."""

    def __init__(self, run_dir: Path, step: int, settings: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingDependencyError(
                "tensorboard", "tensorboard", "loop.log_to: [tensorboard]"
            ) from error
        # what a killed run wrote after its last checkpoint is not shown
        self._writer: Any = SummaryWriter(
            str(run_dir / TENSORBOARD), purge_step=step + 1 if step else None
        )
        if not step:
            text = json.dumps(settings, indent=1, ensure_ascii=False)
            self._writer.add_text("settings", f"```\n{text}\n```", 0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases; ``WANDB_PROJECT``, ``WANDB_MODE`` and the rest are its own."""

    def __init__(self, run_dir: Path, step: int, settings: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MissingDependencyError("wandb", "wandb", "loop.log_to: [wandb]") from error
        id_file = run_dir / _WANDB_ID
        if not (step and id_file.is_file()):
            id_file.write_text(secrets.token_hex(4), encoding="utf-8")
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "odqa"),
            name=run_dir.resolve().name,
            dir=str(run_dir),
            id=id_file.read_text(encoding="utf-8"),
            resume="allow",
            config=dict(settings),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


TRACKERS: Mapping[str, Callable[[Path, int, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


class Logs:
    """Writes each record everywhere it goes."""

    def __init__(
        self, run_dir: Path, log_to: Sequence[str], step: int, settings: Mapping[str, Any]
    ) -> None:
        """
        Args:
            run_dir: the run's folder.
            log_to: names of ``TRACKERS``.
            step: the run goes on after it; later lines of an earlier log are dropped.
            settings: the run's, to be shown beside its curves.
        """
        self._file = run_dir / LOG
        self._trackers: list[Tracker] = []
        _keep_until(self._file, step)
        for name in log_to:
            self._trackers.append(TRACKERS[name](run_dir, step, settings))

    def training(self, record: Mapping[str, Any]) -> None:
        """Loss, rate and pace of the last steps."""
        logger.info(
            "step %d of %d: loss %.4f, learning rate %.2e, %.1f minutes",
            *(record[key] for key in ("step", "of", "loss", "learning_rate", "minutes")),
        )
        names = ("loss", "learning_rate", "gradient_norm", "epoch")
        self._add(record, {f"train/{name}": record[name] for name in names})

    def evaluation(self, record: Mapping[str, Any]) -> None:
        """Figures on held-out data."""
        figures: Mapping[str, float] = record["dev"]
        shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        logger.info("step %d: %s%s", record["step"], shown, " (best)" if record["best"] else "")
        self._add(record, {f"dev/{name}": value for name, value in figures.items()})

    def _add(self, record: Mapping[str, Any], values: Mapping[str, float]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        for tracker in self._trackers:
            tracker.log(int(record["step"]), values)

    def close(self) -> None:
        """End all of them."""
        for tracker in self._trackers:
            tracker.close()


def check_log_to(names: Sequence[str]) -> None:
    """Refuse a tracker that there is not.

    Raises:
        ConfigError: a name is unknown.
    """
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(f"loop.log_to: unknown '{name}'; known: {', '.join(TRACKERS)}")


def _keep_until(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:  # cut off in the middle
            continue
    part = path.with_name(path.name + ".part")
    part.write_text("".join(kept), encoding="utf-8")
    part.replace(path)
