"""The training loop: optimiser, schedule, accumulation, clipping, checkpoints, resume, time budget.

What is learnt and from what is the caller's: a ``Task`` gives batches and a loss.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from odqa.errors import OdqaError
from odqa.models.devices import pick_device, pick_precision

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How to train. One step is one update of the weights."""

    epochs: float = 2.0
    max_steps: int = 0  # 0: as many as the epochs have
    max_minutes: float = 0.0  # 0: no limit; the learning rate then decays with the time used
    batch_size: int = 16
    gradient_accumulation: int = 1  # batches whose gradients are summed for one step
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    adam_epsilon: float = 1e-8
    warmup: float = 0.06  # share of the run
    max_gradient_norm: float = 1.0
    save_every: int = 50  # steps between checkpoints
    log_every: int = 10
    seed: int = 13
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0  # 0: all cores


class Task(Protocol):
    """What the loop trains: batches of an epoch in a seeded order, and the loss of one."""

    @property
    def model(self) -> torch.nn.Module: ...

    def batches(self, epoch: int) -> Sequence[Any]: ...

    def loss(self, batch: Any) -> torch.Tensor: ...


def train(task: Task, config: LoopConfig, run_dir: Path) -> dict[str, float]:
    """Train to the end of the budget, continuing from ``run_dir/checkpoint.pt`` if it is there.

    Returns:
        steps, minutes and the mean loss of the last tenth.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = torch.device(pick_device(config.device))
    precision = pick_precision(config.precision, str(device))
    logger.info("training on %s in %s", device, precision)
    task.model.to(device).train()
    return _Run(task, config, run_dir, device, precision).go()


class _Run:
    def __init__(
        self, task: Task, config: LoopConfig, run_dir: Path, device: torch.device, precision: str
    ) -> None:
        self.task, self.config, self.run_dir, self.device = task, config, run_dir, device
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.precision = precision
        self.parameters = [p for p in task.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            _decay_groups(task.model, config.weight_decay),
            lr=config.learning_rate,
            eps=config.adam_epsilon,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.step, self.seconds = 0, 0.0
        self.losses: list[float] = []
        per_epoch = max(len(task.batches(0)) // config.gradient_accumulation, 1)
        self.total = config.max_steps or max(round(per_epoch * config.epochs), 1)

    def go(self) -> dict[str, float]:
        seed_everything(self.config.seed)
        self._resume()
        began = time.perf_counter() - self.seconds
        for batches in self._steps():
            self.seconds = time.perf_counter() - began
            if self._progress() >= 1:
                break
            self.losses.append(self._update(batches))
            self.step += 1
            if self.step % self.config.log_every == 0:
                self._log()
            if self.step % self.config.save_every == 0:
                self.save()
        self.save()
        tail = self.losses[-max(len(self.losses) // 10, 1) :]
        mean = float(np.mean(tail)) if tail else float("nan")
        return {"steps": self.step, "minutes": self.seconds / 60, "loss": mean}

    def _progress(self) -> float:
        by_time = self.seconds / 60 / self.config.max_minutes if self.config.max_minutes else 0.0
        return max(self.step / self.total, by_time)

    def _steps(self) -> Iterator[Sequence[Any]]:
        """The batches of each step from the current one on, in an order the seed alone decides."""
        step, epoch, size = 0, 0, self.config.gradient_accumulation
        while True:
            batches = self.task.batches(epoch)
            n_steps = max(len(batches) // size, 1)
            if step + n_steps > self.step:
                for i in range(self.step - step, n_steps):
                    yield batches[i * size : (i + 1) * size]
            step, epoch = step + n_steps, epoch + 1

    def _update(self, batches: Sequence[Any]) -> float:
        rate = self.config.learning_rate * schedule(self._progress(), self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for batch in batches:
            with self._autocast():
                loss = self.task.loss(batch) / len(batches)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        if not np.isfinite(total) and self.precision != "fp16":
            raise OdqaError(
                f"the loss became {total} at step {self.step}; lower the learning rate and start "
                f"again in an empty run folder"
            )
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.max_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return total

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)

    def _log(self) -> None:
        recent = float(np.mean(self.losses[-self.config.log_every :]))
        record = {
            "step": self.step,
            "of": self.total,
            "loss": round(recent, 4),
            "minutes": round(self.seconds / 60, 2),
            "progress": round(self._progress(), 4),
        }
        logger.info("%s", json.dumps(record))
        with (self.run_dir / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def save(self) -> None:
        state = {
            "model": self.task.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
            "random": torch.get_rng_state(),
        }
        part = self.run_dir / "checkpoint.pt.part"
        torch.save(state, part)
        part.replace(self.run_dir / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.run_dir / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.task.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]
        torch.set_rng_state(state["random"].cpu())
        logger.info("continuing at step %d of %d", self.step, self.total)


def schedule(progress: float, warmup: float) -> float:
    """Factor of the learning rate: linear to 1 over ``warmup`` of the run, then linear to 0."""
    if progress < warmup:
        return progress / warmup
    return max((1 - progress) / max(1 - warmup, 1e-9), 0.0)


def length_batches(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """All indices in batches of similar length (little padding), in an order the seed decides."""
    shuffled = np.random.default_rng(seed).permutation(len(lengths))
    pool = batch_size * 32
    batches = []
    for begin in range(0, len(shuffled), pool):
        part = sorted(shuffled[begin : begin + pool].tolist(), key=lambda i: (lengths[i], i))
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    random.Random(seed).shuffle(batches)
    return batches


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)  # transformers still uses it
    torch.manual_seed(seed)


def _decay_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and layer norms do not."""
    named = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in named if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
