"""The training loop: optimiser, schedule, accumulation, checkpoints, evaluation, time budget.

What is learnt and from what is the caller's: a ``Task`` gives batches, a loss and figures.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from odqa.errors import OdqaError, UsageError
from odqa.models.devices import pick_device, pick_precision
from odqa.training import checkpoints
from odqa.training.distributed import Processes, joined
from odqa.training.evaluations import Evaluations
from odqa.training.interrupts import stop_requests
from odqa.training.logs import LOG, TENSORBOARD, Logs
from odqa.training.loop_config import LoopConfig, schedule
from odqa.training.randomness import random_state, seed_everything, set_random_state

logger = logging.getLogger(__name__)

_SKIPPED_IN_A_ROW = 25  # fp16 steps without a finite loss before the run is given up


class Task(Protocol):
    """What the loop trains: batches of an epoch in a seeded order, and the loss of one."""

    @property
    def model(self) -> torch.nn.Module: ...

    def batches(self, epoch: int) -> Sequence[Any]: ...

    def loss(self, batch: Any, whole: Any = None) -> torch.Tensor:
        """The mean over the items of a batch.

        Args:
            batch: what to learn from.
            whole: the batch of which ``batch`` is one process's share. What is no mean over items
                is then so weighted that the mean of all shares' losses, each counting as many
                times as it has items, is the loss of ``whole``.
        """
        ...

    def evaluate(self) -> dict[str, float]:
        """Figures on held-out data, higher is better, the one that decides first; or none."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model with whatever its use needs, its weights as ``model.safetensors``."""
        ...


def train(
    task: Task, config: LoopConfig, run_dir: Path, *, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Train to the end of the budget, going on from a checkpoint in ``run_dir`` if there is one.

    The model is left with the weights of the best checkpoint where the task has figures, else with
    the last ones.

    Args:
        task: what to train.
        config: how.
        run_dir: gets ``checkpoint-STEP`` folders and ``log.jsonl``.
        settings: what the run depends on beside ``config``; a run begun with others is not gone
            on with.

    Returns:
        steps, minutes, the mean loss of the last tenth, device, precision, processes; with
        figures: ``dev`` (the best ones), ``best_step`` and ``evaluations`` by step.

    Raises:
        ConfigError: a value is out of range.
        UsageError: the folder holds a run of another kind, or no such checkpoint.
        KeyboardInterrupt: after Ctrl-C or a termination signal, once a checkpoint is written.
    """
    config.check()
    if config.threads:
        torch.set_num_threads(config.threads)
    with joined(pick_device(config.device)) as processes:
        precision = processes.same(pick_precision(config.precision, str(processes.device)))
        if processes.main:
            logger.info("training on %s in %s", processes.device, precision)
            _prepare(run_dir, config)
        task.model.to(processes.device).train()
        return _Run(task, config, run_dir, processes, precision, settings or {}).go()


def _prepare(run_dir: Path, config: LoopConfig) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    checkpoints.tidy(run_dir)
    if config.overwrite:
        for folder in checkpoints.checkpoints(run_dir):
            checkpoints.remove(folder)
        (run_dir / LOG).unlink(missing_ok=True)
        shutil.rmtree(run_dir / TENSORBOARD, ignore_errors=True)


class _Loss(torch.nn.Module):
    """The loss as a module's output, so that DistributedDataParallel sees the whole step."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self._task = task

    def forward(self, batch: Any, *whole: Any) -> torch.Tensor:
        return self._task.loss(batch, *whole)


class _Run:
    def __init__(
        self,
        task: Task,
        config: LoopConfig,
        run_dir: Path,
        processes: Processes,
        precision: str,
        settings: Mapping[str, Any],
    ) -> None:
        self.task, self.config, self.run_dir = task, config, run_dir
        self.processes, self.precision, self.settings = processes, precision, settings
        self.device = processes.device
        self.parameters = [p for p in task.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            _decay_groups(task.model, config.weight_decay),
            lr=config.learning_rate,
            eps=config.adam_epsilon,
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.step, self.seconds, self.skipped = 0, 0.0, 0
        self.losses: list[float] = []
        self.gradient_norm = 0.0
        self.evaluations = Evaluations()
        n_batches = len(task.batches(0))
        if not n_batches:
            raise OdqaError("the training data makes no batch; nothing to learn")
        self.per_epoch = math.ceil(n_batches / config.gradient_accumulation)
        self.total = config.max_steps or max(round(self.per_epoch * config.epochs), 1)
        # what decides the order of the data: with another the run would not be the same
        self.fixed = {
            **settings,
            "loop.batch_size": config.batch_size,
            "loop.gradient_accumulation": config.gradient_accumulation,
            "loop.seed": config.seed,
            "batches of an epoch": n_batches,
            "processes": processes.world,
        }

    def go(self) -> dict[str, Any]:
        seed_everything(self.config.seed + self.processes.rank)
        self._resume()
        self._loss: torch.nn.Module = _Loss(self.task)
        if self.processes.world > 1:
            self._loss = torch.nn.parallel.DistributedDataParallel(self._loss)
        self.logs: Logs | None = None
        if self.processes.main:
            shown = {**self.settings, "loop": dataclasses.asdict(self.config)}
            self.logs = Logs(self.run_dir, self.config.log_to, self.step, shown)
        self.began = time.perf_counter() - self.seconds
        with stop_requests(forceable=self.processes.world == 1) as asked:
            for batches in self._steps():
                self.seconds, stop = self.processes.agree(self._elapsed(), asked())
                if self._progress() >= 1 or self._has_waited_long():
                    break
                if stop:
                    self._stop()
                self._update(batches)
                self.step += 1
                if self.logs and self.step % self.config.log_every == 0:
                    self.logs.training(self._record())
                if self.step % (self.config.eval_every or self.per_epoch) == 0:
                    self._evaluate()
                due = self.step % (self.config.save_every or self.per_epoch) == 0
                if due or self.evaluations.best == self.step:
                    self.save()
            if self.processes.main and 0 < self.step <= self.config.warmup_steps:
                logger.warning(
                    "all %d steps were warm-up, loop.warmup_steps being %d: the learning rate "
                    "never came down; give fewer, or loop.warmup, a share",
                    self.step, self.config.warmup_steps,
                )  # fmt: skip
            late = self.step not in self.evaluations.figures
            if late:
                self._evaluate()
            # a checkpoint of this step that is there already does not know its evaluation
            self.save(again=late and self.step in self.evaluations.figures)
            self._finish()
        if self.logs:
            self.logs.close()
        return self._outcome()

    def _elapsed(self) -> float:
        return time.perf_counter() - self.began

    def _progress(self) -> float:
        by_time = self.seconds / 60 / self.config.max_minutes if self.config.max_minutes else 0.0
        return max(self.step / self.total, by_time)

    def _has_waited_long(self) -> bool:
        waited = self.evaluations.waited
        if not self.config.patience or waited < self.config.patience:
            return False
        if self.processes.main:
            logger.info("no better evaluation for %d times; the run ends", waited)
        return True

    def _steps(self) -> Iterator[Sequence[Any]]:
        """The batches of each step from the current one on, in an order the seed alone decides."""
        step, epoch, size = 0, 0, self.config.gradient_accumulation
        while True:
            batches = self.task.batches(epoch)
            n_steps = max(math.ceil(len(batches) / size), 1)
            if step + n_steps > self.step:
                for i in range(self.step - step, n_steps):
                    yield batches[i * size : (i + 1) * size]
            step, epoch = step + n_steps, epoch + 1

    def _update(self, batches: Sequence[Any]) -> None:
        config = self.config
        progress = self._progress()
        warmup = config.warmup_share(self.step, progress)
        self.rate = config.learning_rate * schedule(progress, warmup, config.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for number, batch in enumerate(batches, start=1):
            with self._no_exchange(number < len(batches)):
                loss = self._weighted_loss(batch) / len(batches)
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() / self.processes.world
        self._take(float(self.processes.total(total)))
        self.scaler.unscale_(self.optimizer)
        limit = config.max_gradient_norm or math.inf
        self.gradient_norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, limit))
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _weighted_loss(self, batch: Any) -> torch.Tensor:
        """The loss over this process's share, so weighted that the mean over all is the batch's."""
        with self._autocast():
            if self.processes.world == 1:
                return self._loss(batch)  # type: ignore[no-any-return]
            share = self.processes.share(batch)
            weight = len(share) * self.processes.world / len(batch)
            return self._loss(share or batch[:1], batch) * weight  # type: ignore[no-any-return]

    def _no_exchange(self, wanted: bool) -> contextlib.AbstractContextManager[Any]:
        """Gradients are averaged over the processes once a step, with its last batch."""
        parallel = isinstance(self._loss, torch.nn.parallel.DistributedDataParallel)
        if wanted and parallel:
            return self._loss.no_sync()  # type: ignore[operator, no-any-return]
        return contextlib.nullcontext()

    def _take(self, loss: float) -> None:
        self.skipped = 0 if math.isfinite(loss) else self.skipped + 1
        allowed = _SKIPPED_IN_A_ROW if self.precision == "fp16" else 0
        if self.skipped > allowed:
            raise OdqaError(
                f"the loss became {loss} at step {self.step}; lower the learning rate, or give "
                f"--set loop.precision=fp32, and begin anew with --overwrite"
            )
        self.losses.append(loss)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)

    def _record(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "of": self.total,
            "epoch": round(self.step / self.per_epoch, 4),
            "loss": round(float(np.mean(self.losses[-self.config.log_every :])), 4),
            "learning_rate": self.rate,
            "gradient_norm": round(self.gradient_norm, 4),
            "minutes": round(self.seconds / 60, 2),
            "progress": round(self._progress(), 4),
        }

    # Evaluation -------------------------------------------------------------------------------

    def _evaluate(self) -> None:
        figures = self._figures()
        if not figures:
            return
        self.evaluations.add(self.step, figures)
        self._log_evaluation(self.step)

    def _figures(self) -> dict[str, float]:
        found: dict[str, float] = {}
        if self.processes.main:
            self.task.model.eval()
            found = self.task.evaluate()
            self.task.model.train()
        return self.processes.same(found)

    def _log_evaluation(self, step: int) -> None:
        if self.logs:
            figures, best = self.evaluations.figures[step], self.evaluations.best == step
            self.logs.evaluation({"step": step, "dev": figures, "best": best})

    def _finish(self) -> None:
        """Evaluate what else is kept, if wanted, and take the best weights."""
        if self.evaluations.best is None:
            return
        if self.config.evaluate_checkpoints:
            self._evaluate_kept()
        if self.evaluations.best != self.step:
            self._load_weights(self.run_dir / f"checkpoint-{self.evaluations.best}")
            if self.processes.main:
                logger.info("the model is that of step %d, the best", self.evaluations.best)

    def _evaluate_kept(self) -> None:
        kept = self.processes.same(checkpoints.steps(self.run_dir))
        for step in kept:
            if step not in self.evaluations.figures:
                self._load_weights(self.run_dir / f"checkpoint-{step}")
                self.evaluations.figures[step] = self._figures()
                self._log_evaluation(step)
        self.evaluations.best = self.evaluations.best_of(kept)
        self._load_weights(self.run_dir / f"checkpoint-{self.step}")

    def _outcome(self) -> dict[str, Any]:
        tail = self.losses[-max(len(self.losses) // 10, 1) :]
        return {
            "steps": self.step,
            "minutes": self.seconds / 60,
            "loss": float(np.mean(tail)) if tail else float("nan"),
            "device": str(self.device),
            "precision": self.precision,
            "processes": self.processes.world,
            **self.evaluations.outcome(),
        }

    # Checkpoints ------------------------------------------------------------------------------

    def _stop(self) -> None:
        self.save()
        if self.processes.main:
            given = "resume" if self.config.resume else "overwrite" if self.config.overwrite else ""
            logger.warning(
                "stopped after step %d of %d; %s holds a checkpoint. Run the same command again%s "
                "to go on from it",
                self.step, self.total, self.run_dir, given and f", but without --{given},",
            )  # fmt: skip
        self.processes.same(None)  # the others wait until it is written
        raise KeyboardInterrupt

    def save(self, *, again: bool = False) -> None:
        """Write a checkpoint of this step, unless there is one (then ``again``), and remove those
        not kept."""
        states = self.processes.gather(random_state(self.device))
        if not self.processes.main:
            return
        if again or not (self.run_dir / f"checkpoint-{self.step}").exists():
            state = {
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "precision": self.precision,
                "step": self.step,
                "seconds": self._elapsed(),  # with this step's, and its evaluation's
                "losses": self.losses,
                **self.evaluations.state(),
                "random": states,
                "fixed": self.fixed,
            }

            def fill(folder: Path) -> None:
                self.task.save(folder)
                torch.save(state, folder / checkpoints.STATE)

            checkpoints.write(self.run_dir, self.step, fill)
        also = () if self.evaluations.best is None else (self.evaluations.best,)
        checkpoints.prune(self.run_dir, self.config.keep_checkpoints, also=also)

    def _resume(self) -> None:
        """Go on from a checkpoint, if there is one; later ones belong to another continuation."""
        name = checkpoints.find(self.run_dir, self.config.resume) if self.processes.main else None
        folder = self.processes.same(name)
        if folder is None:
            return
        state = checkpoints.read_state(folder, self.device)
        self._check_fixed(state["fixed"])
        self._load_weights(folder)
        self.optimizer.load_state_dict(state["optimizer"])
        decays = (self.config.weight_decay, 0.0)  # as they are set now
        for group, decay in zip(self.optimizer.param_groups, decays, strict=True):
            group.update(weight_decay=decay, eps=self.config.adam_epsilon)
        if state["scaler"]:  # empty where the run was not in fp16 until now
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]
        self.evaluations.load(state, self.processes.same(checkpoints.steps(self.run_dir)))
        set_random_state(state["random"][self.processes.rank], self.device)
        self.processes.same(None)  # all have read; only now is anything removed
        if self.processes.main:
            logger.info("continuing at step %d of %d", self.step, self.total)
            before = state.get("precision", self.precision)
            if before != self.precision:
                logger.warning(
                    "the run was in %s until now and goes on in %s, so its losses are not those "
                    "that it would have had; give --set loop.precision=%s to keep them",
                    before, self.precision, before,
                )  # fmt: skip
            for later in checkpoints.checkpoints(self.run_dir):
                if checkpoints.step_of(later) > self.step:
                    checkpoints.remove(later)

    def _check_fixed(self, begun: Mapping[str, Any]) -> None:
        for key, value in self.fixed.items():
            if key in begun and begun[key] != value:
                raise UsageError(
                    f"{self.run_dir} holds a run that was begun with {key} = {begun[key]!r}, and "
                    f"now it is {value!r}; give it another --output, or --overwrite"
                )

    def _load_weights(self, folder: Path) -> None:
        from safetensors.torch import load_model

        load_model(self.task.model, folder / checkpoints.WEIGHTS, device=str(self.device))


def _decay_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and layer norms do not."""
    named = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in named if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
