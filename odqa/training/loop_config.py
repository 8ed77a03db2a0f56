"""How a training loop runs: its settings, and the learning rate over a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from odqa.errors import ConfigError, UsageError
from odqa.models.devices import check_device, check_precision
from odqa.training.logs import check_log_to

MOST_SEED = 2**31  # numpy's seeds have 32 bits, and epochs and processes are added to it
SCHEDULES = ("linear", "cosine", "constant")


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How to train. One step is one update of the weights."""

    epochs: float = 2.0
    max_steps: int = 0  # 0: as many as the epochs have
    max_minutes: float = 0.0  # 0: no limit; the learning rate then follows the time used
    batch_size: int = 16  # over all processes
    eval_batch_size: int = 64  # of an evaluation
    gradient_accumulation: int = 1  # batches whose gradients are averaged for one step
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    adam_epsilon: float = 1e-8
    schedule: str = "linear"  # linear | cosine | constant
    warmup: float = 0.06  # share of the run
    warmup_steps: int = 0  # in place of the share, if above 0
    max_gradient_norm: float = 1.0  # 0: gradients are not clipped
    save_every: int = 200  # steps between checkpoints; 0: one at the end of each epoch
    keep_checkpoints: int = 1  # newest ones kept beside the best; 0: all
    eval_every: int = 0  # steps between evaluations on --dev; 0: one at the end of each epoch
    patience: int = 0  # evaluations without a better one after which the run ends; 0: no limit
    evaluate_checkpoints: bool = False  # at the end, evaluate every checkpoint that is kept
    log_every: int = 10
    log_to: tuple[str, ...] = ()  # tensorboard, wandb
    resume: str = ""  # the checkpoint to go on from; "": the newest
    overwrite: bool = False  # remove an earlier run in the output folder
    seed: int = 13
    device: str = "auto"
    precision: str = "auto"  # auto | fp32 | bf16 | fp16
    threads: int = 0  # 0: all cores

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            ConfigError: a value is out of range or unknown.
        """
        at_least = {"batch_size": 1, "eval_batch_size": 1, "gradient_accumulation": 1}
        at_least |= {"log_every": 1, "max_steps": 0, "save_every": 0, "eval_every": 0}
        at_least |= {"keep_checkpoints": 0, "patience": 0, "warmup_steps": 0, "threads": 0}
        at_least |= {"max_gradient_norm": 0, "max_minutes": 0, "weight_decay": 0}
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise ConfigError(f"loop.{name} must be {least} or more")
        if not 0 <= self.seed < MOST_SEED:
            raise ConfigError(f"loop.seed must lie in 0 to {MOST_SEED - 1}, got {self.seed}")
        for name in ("learning_rate", "adam_epsilon", "epochs"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"loop.{name} must be above 0")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"loop.warmup must lie in [0, 1), got {self.warmup}")
        if self.schedule not in SCHEDULES:
            raise ConfigError(
                f"loop.schedule: unknown '{self.schedule}'; known: {', '.join(SCHEDULES)}"
            )
        check_precision(self.precision, "loop.precision")
        check_device(self.device, "loop.device")
        if self.overwrite and self.resume:
            raise UsageError("a run that is overwritten cannot be resumed; give one of the two")
        check_log_to(self.log_to)

    def check_unevaluated(self, mend: str) -> None:
        """Refuse what hangs on evaluations, in a run that has none.

        Args:
            mend: what to do about it.

        Raises:
            UsageError: ``patience`` or ``evaluate_checkpoints`` is set.
        """
        for name in ("patience", "evaluate_checkpoints"):
            if getattr(self, name):
                raise UsageError(
                    f"loop.{name} looks at evaluations while the model learns, and this run has "
                    f"none; {mend}, or leave it out"
                )

    def warmup_share(self, step: int, progress: float) -> float:
        """What share of the run the warm-up takes, seen from ``step``, the steps made.

        A warm-up in steps is held against the steps that the run comes to at its pace, which are
        ``step / progress``: where minutes end it, they are fewer than its epochs have.
        """
        if not self.warmup_steps:
            return self.warmup
        return self.warmup_steps * progress / step if step else math.inf


def schedule(progress: float, warmup: float, kind: str = "linear") -> float:
    """Factor of the learning rate: linear to 1 over ``warmup`` of the run, then by ``kind``.

    "linear" falls to 0 in a line, "cosine" in half a wave, "constant" stays.
    """
    if progress < warmup:
        return progress / warmup
    left = max((1 - progress) / max(1 - warmup, 1e-9), 0.0)
    if kind == "cosine":
        return (1 - math.cos(math.pi * left)) / 2
    return left if kind == "linear" else 1.0
