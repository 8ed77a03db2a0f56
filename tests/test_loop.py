"""The training loop on a model of a few numbers: budgets, evaluation, checkpoints, going on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from odqa.config import merge, set_values
from odqa.errors import ConfigError, InputError, MissingDependencyError, OdqaError, UsageError

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from odqa.training import checkpoints, runs  # noqa: E402
from odqa.training.evaluations import Evaluations  # noqa: E402
from odqa.training.loop import train  # noqa: E402
from odqa.training.loop_config import LoopConfig, schedule  # noqa: E402
from odqa.training.randomness import length_batches  # noqa: E402

LOOP = LoopConfig(
    learning_rate=0.05, max_steps=6, batch_size=2, save_every=3, log_every=2, device="cpu",
    precision="fp32", threads=1,
)  # fmt: skip


class Line:
    """Learns y = 2x with dropout, which draws from torch's generator; a batch is a list of x."""

    def __init__(self, figures: Iterator[float] | None = None, *, dropout: float = 0.0) -> None:
        torch.manual_seed(1)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(1, 8), torch.nn.Dropout(dropout), torch.nn.Linear(8, 1)
        )
        self.figures = figures
        self.seen: list[list[float]] = []
        self.losses: list[float] = []
        self.at: Callable[[int], None] = lambda call: None

    def batches(self, epoch: int) -> list[list[float]]:
        return [[float(epoch), x] for x in (1.0, 2.0, 3.0)]

    def loss(self, batch: list[float]) -> Any:
        self.at(len(self.seen))
        self.seen.append(batch)
        x = torch.tensor(batch)[:, None]
        loss = ((self.model(x) - 2 * x) ** 2).mean()
        self.losses.append(loss.item())
        return loss

    def evaluate(self) -> dict[str, float]:
        assert not self.model.training
        return {} if self.figures is None else {"figure": next(self.figures), "other": 1.0}

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_model

        save_model(self.model, str(folder / "model.safetensors"))

    def weights(self) -> list[Any]:
        return [value.clone() for value in self.model.state_dict().values()]


class KilledError(Exception):
    """The process is gone."""


def same(first: list[Any], second: list[Any]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def names_in(folder: Path) -> list[str]:
    return [path.name for path in checkpoints.checkpoints(folder)]


# Steps, rates and orders ----------------------------------------------------------------------


def test_the_rate_rises_then_falls() -> None:
    assert schedule(0.0, 0.1) == 0
    assert schedule(0.05, 0.1) == 0.05 / 0.1
    assert schedule(0.1, 0.1) == 1
    assert schedule(0.55, 0.1) == pytest.approx((1 - 0.55) / (1 - 0.1))
    assert schedule(1.0, 0.1) == 0
    assert schedule(1.2, 0.1) == 0
    assert schedule(0.0, 0.0) == 1
    assert schedule(0.05, 0.1, "cosine") == 0.5
    assert schedule(0.1, 0.1, "cosine") == 1
    assert schedule(0.55, 0.1, "cosine") == pytest.approx(0.5)
    assert schedule(0.5, 0.0, "cosine") == pytest.approx(0.5)
    assert schedule(0.25, 0.0, "cosine") == pytest.approx((1 + np.cos(np.pi / 4)) / 2)
    assert schedule(1.0, 0.0, "cosine") == pytest.approx(0)
    assert schedule(0.9, 0.1, "constant") == 1


def test_length_batches_hold_everything_once() -> None:
    random = np.random.default_rng(1)
    lengths = random.integers(1, 100, 500).tolist()
    batches = length_batches(lengths, 8, seed=5)
    assert sorted(i for batch in batches for i in batch) == list(range(500))
    assert all(1 <= len(batch) <= 8 for batch in batches)
    assert batches == length_batches(lengths, 8, seed=5)
    assert batches != length_batches(lengths, 8, seed=6)
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
    assert padded < 1.15 * sum(lengths)
    assert length_batches([], 8, seed=5) == []


def test_epochs_give_their_steps(tmp_path: Path) -> None:
    line = Line()
    record = train(line, replace(LOOP, max_steps=0, epochs=3, warmup=0.0), tmp_path)
    assert record["steps"] == 9
    assert line.seen == [[float(epoch), i] for epoch in range(3) for i in (1.0, 2.0, 3.0)]
    log = log_of(tmp_path)
    assert [entry["step"] for entry in log] == [2, 4, 6, 8]
    assert [entry["epoch"] for entry in log] == [0.6667, 1.3333, 2.0, 2.6667]
    # the rate of step s (from 1) is that of the progress before it
    assert [entry["learning_rate"] for entry in log] == pytest.approx(
        [0.05 * (1 - (step - 1) / 9) for step in (2, 4, 6, 8)]
    )
    assert all(entry["gradient_norm"] > 0 for entry in log)


def test_warmup_in_steps(tmp_path: Path) -> None:
    train(Line(), replace(LOOP, warmup=0.9, warmup_steps=3, log_every=1), tmp_path)
    rates = [entry["learning_rate"] / 0.05 for entry in log_of(tmp_path)]
    assert rates == pytest.approx([0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])


def test_gradients_of_several_batches_make_one_step(tmp_path: Path) -> None:
    line = Line()
    assert train(line, replace(LOOP, max_steps=2, gradient_accumulation=3), tmp_path)["steps"] == 2
    assert len(line.seen) == 6


def test_an_epoch_leaves_no_batch_out(tmp_path: Path) -> None:
    line = Line()
    loop = replace(LOOP, max_steps=0, epochs=1, gradient_accumulation=2)
    assert train(line, loop, tmp_path)["steps"] == 2
    assert len(line.seen) == 3


def test_clipping_can_be_left_out(tmp_path: Path) -> None:
    def moved(limit: float, folder: str) -> float:
        line = Line()
        line.loss = lambda batch: 1e3 * line.model(torch.ones(1, 1)).sum()  # type: ignore[method-assign]
        before = line.weights()
        loop = replace(LOOP, max_steps=1, warmup=0.0, max_gradient_norm=limit, adam_epsilon=1e3)
        train(line, loop, tmp_path / folder)
        return sum(float((a - b).abs().sum()) for a, b in zip(before, line.weights(), strict=True))

    assert moved(0.0, "free") > 10 * moved(1.0, "clipped")


def test_no_time_means_no_step(tmp_path: Path) -> None:
    assert train(Line(), replace(LOOP, max_steps=10**9, max_minutes=1e-9), tmp_path)["steps"] <= 1


class Clock:
    """Every step of its line takes eight seconds, so a minute has eight steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("odqa.training.loop.time", self)

    def perf_counter(self) -> float:
        return self.now

    def line(self, *, killed_at: int = -1) -> Line:
        line = Line(dropout=0.5)

        def step(call: int) -> None:
            if call == killed_at:
                raise KilledError
            self.now += 8

        line.at = step
        return line


# of 10,000 steps eight are made; the rates are those of the progress 0, 8/60, 16/60, ... 56/60
MINUTE = replace(LOOP, max_steps=10_000, max_minutes=1.0, save_every=1, log_every=1)


@pytest.mark.parametrize(
    ("warmup", "wanted"),
    [
        ({"warmup": 0.4}, [0, 1 / 3, 2 / 3, 1, 28 / 36, 20 / 36, 12 / 36, 4 / 36]),
        ({"warmup_steps": 3}, [0, 1 / 3, 2 / 3, 1, 28 / 36, 20 / 36, 12 / 36, 4 / 36]),
        ({"warmup": 0.0}, [1, 52 / 60, 44 / 60, 36 / 60, 28 / 60, 20 / 60, 12 / 60, 4 / 60]),
    ],
)
def test_a_run_that_minutes_end_warms_up_and_comes_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warmup: dict[str, Any], wanted: list[float]
) -> None:
    loop = replace(MINUTE, **warmup)
    whole = Clock(monkeypatch).line()
    assert train(whole, loop, tmp_path / "whole")["steps"] == 8
    rates = [entry["learning_rate"] / 0.05 for entry in log_of(tmp_path / "whole")]
    assert rates == pytest.approx(wanted)

    for killed_at in (2, 5):  # while it warms up, and after
        folder = tmp_path / f"cut at {killed_at}"
        with pytest.raises(KilledError):
            train(Clock(monkeypatch).line(killed_at=killed_at), loop, folder)
        rest = Clock(monkeypatch).line()
        train(rest, loop, folder)
        assert rest.losses == whole.losses[killed_at:]
        assert same(rest.weights(), whole.weights())


def test_a_run_that_ends_while_it_warms_up_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train(Clock(monkeypatch).line(), replace(MINUTE, warmup_steps=7), tmp_path / "seven")
    assert "warm-up" not in caplog.text  # the eighth step has the full rate
    train(Clock(monkeypatch).line(), replace(MINUTE, warmup_steps=9), tmp_path / "nine")
    assert "all 8 steps were warm-up, loop.warmup_steps being 9" in caplog.text
    rates = [entry["learning_rate"] / 0.05 for entry in log_of(tmp_path / "nine")]
    assert rates == pytest.approx([step / 9 for step in range(8)])


def test_the_time_of_an_evaluation_counts_when_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps take 16 seconds and the evaluation after them 44: the minute is over."""
    clock = Clock(monkeypatch)

    def evaluation() -> Iterator[float]:
        clock.now += 44
        yield 1.0

    loop = replace(MINUTE, eval_every=2, save_every=2)
    cut = clock.line()
    cut.figures = evaluation()
    assert train(cut, loop, tmp_path)["steps"] == 2
    state = torch.load(tmp_path / "checkpoint-2" / "training.pt", weights_only=True)
    assert state["seconds"] == 60


def test_no_minutes_are_no_limit(tmp_path: Path) -> None:
    assert train(Line(), replace(LOOP, max_minutes=0.0), tmp_path)["steps"] == LOOP.max_steps
    with pytest.raises(ConfigError, match=r"loop\.max_minutes must be 0 or more"):
        train(Line(), replace(LOOP, max_minutes=-1.0), tmp_path / "less")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_loss_that_is_no_number_is_said(tmp_path: Path, precision: str) -> None:
    line = Line()
    line.loss = lambda batch: line.model[0].weight.sum() * float("nan")  # type: ignore[method-assign]
    with pytest.raises(OdqaError, match="learning rate"):
        train(line, replace(LOOP, precision=precision, max_steps=100), tmp_path)


@pytest.mark.parametrize(
    "setting",
    ["batch_size=0", "learning_rate=0.0", "warmup=1.0", "schedule=steep", "log_to=[paper]",
     "patience=-1", "save_every=-1", "eval_batch_size=0", "seed=-1", "device=gpu", "device=cuda:x",
     "precision=fp8"],
)  # fmt: skip
def test_values_that_mean_nothing_are_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"loop\.{setting.split('=')[0]}"):
        train(Line(), set_values(LOOP, [setting]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_rates_are_written_as_people_write_them() -> None:
    assert set_values(LOOP, ["learning_rate=5e-5"]).learning_rate == 5e-5
    assert set_values(LOOP, ["learning_rate=1E-4"]).learning_rate == 1e-4
    with pytest.raises(ConfigError, match="expected float, got 'e-5'"):
        set_values(LOOP, ["learning_rate=e-5"])


def test_lists_of_names_in_settings() -> None:
    assert set_values(LOOP, ["log_to=[tensorboard, wandb]"]).log_to == ("tensorboard", "wandb")
    assert merge(LOOP, {"log_to": []}, where="x").log_to == ()
    with pytest.raises(ConfigError, match="a list of names"):
        set_values(LOOP, ["log_to=tensorboard"])


# Evaluation -----------------------------------------------------------------------------------


def test_evaluations_by_hand() -> None:
    found = Evaluations()
    assert found.outcome() == {}
    for step, figure in ((2, 10.0), (4, 30.0), (6, 30.0), (8, 20.0)):
        found.add(step, {"figure": figure, "other": -figure})
    assert (found.best, found.waited) == (4, 2)  # an equal one is not better
    assert found.best_of([2, 6, 8, 9]) == 6
    assert found.best_of([9]) is None
    assert found.outcome()["dev"] == {"figure": 30.0, "other": -30.0}
    for kept, best in (([4, 8], 4), ([6, 8], 6), ([], None)):
        again = Evaluations()
        again.load(found.state(), kept)
        assert (again.best, again.waited) == (best, 2)


def test_the_best_checkpoint_is_the_model(tmp_path: Path) -> None:
    line = Line(iter([10.0, 30.0, 20.0]))
    outcome = train(line, replace(LOOP, save_every=100, eval_every=2), tmp_path)
    assert outcome["best_step"] == 4
    assert outcome["dev"] == {"figure": 30.0, "other": 1.0}
    assert {s: f["figure"] for s, f in outcome["evaluations"].items()} == {
        "2": 10.0, "4": 30.0, "6": 20.0
    }  # fmt: skip
    assert names_in(tmp_path) == ["checkpoint-4", "checkpoint-6"]  # the best and the newest
    shorter = Line()
    shorter.model.load_state_dict(weights_in(tmp_path / "checkpoint-4"))
    assert same(line.weights(), shorter.weights())
    entries = [(e["step"], e["dev"]["figure"], e["best"]) for e in log_of(tmp_path) if "dev" in e]
    assert entries == [(2, 10.0, True), (4, 30.0, True), (6, 20.0, False)]


def weights_in(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_an_evaluation_at_the_end_of_each_epoch_and_of_the_run(tmp_path: Path) -> None:
    outcome = train(Line(iter([1.0, 2.0, 3.0])), replace(LOOP, max_steps=7), tmp_path)
    assert list(outcome["evaluations"]) == ["3", "6", "7"]
    assert outcome["best_step"] == 7


def test_patience_ends_a_run(tmp_path: Path) -> None:
    line = Line(iter([5.0, 4.0, 5.0, 6.0]))
    outcome = train(line, replace(LOOP, max_steps=50, eval_every=2, patience=2), tmp_path)
    assert (outcome["steps"], outcome["best_step"]) == (6, 2)  # an equal one is not better
    again = train(Line(iter([])), replace(LOOP, max_steps=50, eval_every=2, patience=2), tmp_path)
    assert (again["steps"], again["best_step"]) == (6, 2)


def test_every_kept_checkpoint_can_be_evaluated(tmp_path: Path) -> None:
    loop = replace(LOOP, save_every=1, keep_checkpoints=0, eval_every=4, evaluate_checkpoints=True)
    # at step 4 and at the end, then 1, 2, 3 and 5
    line = Line(iter([40.0, 41.0, 10.0, 90.0, 30.0, 50.0]))
    outcome = train(line, loop, tmp_path)
    assert {int(s): f["figure"] for s, f in outcome["evaluations"].items()} == {
        1: 10.0, 2: 90.0, 3: 30.0, 4: 40.0, 5: 50.0, 6: 41.0
    }  # fmt: skip
    assert outcome["best_step"] == 2
    best = Line()
    best.model.load_state_dict(weights_in(tmp_path / "checkpoint-2"))
    assert same(line.weights(), best.weights())


# Going on -------------------------------------------------------------------------------------


def kill(call: int) -> None:
    if call == 4:
        raise KilledError


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_killed_run_goes_on_to_the_same_losses_and_weights(
    tmp_path: Path, precision: str
) -> None:
    loop = replace(LOOP, precision=precision, log_every=1, eval_every=2)
    whole = Line(iter([3.0, 1.0, 2.0]), dropout=0.5)
    expected = train(whole, loop, tmp_path / "whole")

    cut = Line(iter([3.0, 1.0]), dropout=0.5)
    cut.at = kill
    with pytest.raises(KilledError):
        train(cut, loop, tmp_path / "cut")  # after 4 steps; the newest checkpoint is of the third
    assert names_in(tmp_path / "cut") == ["checkpoint-2", "checkpoint-3"]
    rest = Line(iter([1.0, 2.0]), dropout=0.5)
    found = train(rest, loop, tmp_path / "cut")
    assert rest.losses == whole.losses[3:]
    assert rest.seen == whole.seen[3:]
    assert same(rest.weights(), whole.weights())
    assert found["evaluations"] == expected["evaluations"]
    assert found["best_step"] == expected["best_step"] == 2

    def untimed(folder: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in e.items() if k != "minutes"} for e in log_of(folder)]

    assert untimed(tmp_path / "cut") == untimed(tmp_path / "whole")  # nothing twice


@pytest.mark.parametrize(
    ("before", "now"), [("fp32", "fp16"), ("fp32", "bf16"), ("fp16", "fp32"), ("bf16", "fp16")]
)
def test_a_run_may_go_on_in_another_precision_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, before: str, now: str
) -> None:
    cut = Line()
    cut.at = kill
    with pytest.raises(KilledError):
        train(cut, replace(LOOP, precision=before), tmp_path)
    rest = Line()
    outcome = train(rest, replace(LOOP, precision=now), tmp_path)
    assert f"was in {before} until now and goes on in {now}" in caplog.text
    assert (outcome["steps"], outcome["precision"], len(rest.seen)) == (6, now, 3)
    assert np.isfinite(rest.losses).all()
    caplog.clear()
    train(Line(), replace(LOOP, precision=now, max_steps=7), tmp_path)
    assert "until now" not in caplog.text


def test_any_checkpoint_can_be_gone_on_from(tmp_path: Path) -> None:
    loop = replace(LOOP, save_every=1, keep_checkpoints=0)
    whole = Line(dropout=0.5)
    train(whole, loop, tmp_path)
    for name in ("checkpoint-2", "2", str(tmp_path / "checkpoint-2")):
        rest = Line(dropout=0.5)
        train(rest, replace(loop, resume=name), tmp_path)
        assert rest.losses == whole.losses[2:]
        assert same(rest.weights(), whole.weights())
    with pytest.raises(InputError, match="no checkpoint 'checkpoint-9'; it has: checkpoint-1"):
        train(Line(), replace(loop, resume="checkpoint-9"), tmp_path)


def test_a_late_evaluation_is_in_the_last_checkpoint(tmp_path: Path) -> None:
    """Step 6 is saved when due, and evaluated only after; it is the best of more steps."""
    config = replace(LOOP, save_every=2, eval_every=4)
    train(Line(iter([1.0, 9.0])), config, tmp_path)
    longer = replace(config, max_steps=10)
    found = train(Line(iter([2.0, 3.0])), longer, tmp_path)
    assert found["best_step"] == 6
    assert found["evaluations"].keys() == {"4", "6", "8", "10"}


def test_a_best_checkpoint_that_is_gone_is_no_longer_the_best(tmp_path: Path) -> None:
    config = replace(LOOP, save_every=2, eval_every=2, keep_checkpoints=0)
    train(Line(iter([9.0, 1.0, 3.0])), config, tmp_path)
    checkpoints.remove(tmp_path / "checkpoint-2")
    found = train(Line(iter([2.0])), replace(config, max_steps=8), tmp_path)
    assert found["best_step"] == 6


def test_what_is_set_now_is_what_goes_on(tmp_path: Path) -> None:
    """Weight decay and epsilon are as changeable as the rate: the optimiser's old ones go."""
    train(Line(), LOOP, tmp_path)
    longer = replace(LOOP, max_steps=9)
    kept, decayed = Line(), Line()
    shutil.copytree(tmp_path, tmp_path / "twin")
    train(kept, longer, tmp_path)
    train(decayed, replace(longer, weight_decay=5.0), tmp_path / "twin")
    assert not same(kept.weights(), decayed.weights())


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first, again = Line(), Line()
    train(first, LOOP, tmp_path)
    assert train(again, LOOP, tmp_path)["steps"] == LOOP.max_steps
    assert again.seen == []
    assert same(again.weights(), first.weights())
    assert train(again, replace(LOOP, max_steps=8), tmp_path)["steps"] == 8
    assert len(again.seen) == 2


def test_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    train(Line(), LOOP, tmp_path, settings={"data": "a"})
    with pytest.raises(UsageError, match=r"data = 'a', and now it is 'b'.*--overwrite"):
        train(Line(), LOOP, tmp_path, settings={"data": "b"})
    with pytest.raises(UsageError, match=r"loop\.seed"):
        train(Line(), replace(LOOP, seed=14), tmp_path, settings={"data": "a"})
    anew = Line()
    train(anew, replace(LOOP, max_steps=2, overwrite=True), tmp_path, settings={"data": "b"})
    assert len(anew.seen) == 2
    assert names_in(tmp_path) == ["checkpoint-2"]
    assert [entry["step"] for entry in log_of(tmp_path)] == [2]
    with pytest.raises(UsageError, match="one of the two"):
        train(Line(), replace(LOOP, overwrite=True, resume="2"), tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Settings:
        model: str = "base"
        loop: LoopConfig = LOOP

    def begin(task: Line) -> None:
        counts = {"n_questions": 3}
        runs.run("reader", task, Settings(), tmp_path, data="", files=(), counts=counts)

    first = Line()
    first.at = lambda call: begin(Line())  # while the first is learning
    with pytest.raises(UsageError, match="another process is training into this folder"):
        begin(first)
    assert not (tmp_path / "model.safetensors").exists()
    begin(Line())  # what has ended holds nothing
    assert (tmp_path / "run.json").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_checkpoint(
    tmp_path: Path, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Line(dropout=0.5)
    train(whole, LOOP, tmp_path / "whole")
    handler = signal.getsignal(number)
    stopped = Line(dropout=0.5)
    stopped.at = lambda call: os.kill(os.getpid(), number) if call == 1 else None
    with pytest.raises(KeyboardInterrupt):
        train(stopped, LOOP, tmp_path / "run")
    assert signal.getsignal(number) is handler
    assert names_in(tmp_path / "run") == ["checkpoint-2"]  # the step was finished
    assert "Run the same command again" in caplog.text
    rest = Line(dropout=0.5)
    train(rest, LOOP, tmp_path / "run")
    assert stopped.losses + rest.losses == whole.losses
    assert same(rest.weights(), whole.weights())


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    line = Line()

    def interrupt(call: int) -> None:
        if call == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    line.at = interrupt
    with pytest.raises(KeyboardInterrupt):
        train(line, LOOP, tmp_path)
    assert names_in(tmp_path) == ["checkpoint-3"]


def test_half_a_checkpoint_replaces_none(tmp_path: Path) -> None:
    line = Line()
    save = line.save

    def dying(folder: Path) -> None:
        save(folder)
        if folder.name.startswith("checkpoint-6"):
            (folder / "model.safetensors").write_bytes(b"half")
            raise KilledError

    line.save = dying  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        train(line, LOOP, tmp_path)
    assert names_in(tmp_path) == ["checkpoint-3"]
    assert (tmp_path / "checkpoint-6.part").exists()
    rest = Line()
    train(rest, LOOP, tmp_path)
    assert len(rest.seen) == 3
    assert [p.name for p in tmp_path.glob("checkpoint*")] == ["checkpoint-6"]


def test_a_removal_cut_short_leaves_nothing_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(folder: Path, **options: object) -> None:
        if folder.exists():
            raise KilledError

    folder = checkpoints.write(tmp_path, 5, lambda f: None)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.shutil, "rmtree", dying)
        with pytest.raises(KilledError):
            checkpoints.remove(folder)
    assert names_in(tmp_path) == []
    checkpoints.tidy(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_said(tmp_path: Path) -> None:
    train(Line(), LOOP, tmp_path)
    (tmp_path / "checkpoint-6" / "training.pt").write_bytes(b"damaged")
    with pytest.raises(OdqaError, match=r"remove .*checkpoint-6 to go on from an earlier"):
        train(Line(), LOOP, tmp_path)


# Where figures go -----------------------------------------------------------------------------


def test_tensorboard_gets_the_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loop = replace(LOOP, log_to=("tensorboard",), eval_every=3)
    train(Line(iter([1.0, 2.0])), loop, tmp_path, settings={"data": "가"})
    curves = EventAccumulator(str(tmp_path / "tensorboard"))
    curves.Reload()
    assert set(curves.Tags()["scalars"]) == {
        "train/loss", "train/learning_rate", "train/gradient_norm", "train/epoch", "dev/figure",
        "dev/other",
    }  # fmt: skip
    losses = [(e.step, e.value) for e in curves.Scalars("train/loss")]
    logged = [(e["step"], e["loss"]) for e in log_of(tmp_path) if "loss" in e]
    assert [s for s, _ in losses] == [2, 4, 6]
    assert losses == [(s, pytest.approx(v, rel=1e-5)) for s, v in logged]
    assert [(e.step, e.value) for e in curves.Scalars("dev/figure")] == [(3, 1.0), (6, 2.0)]


def test_a_tensorboard_gone_on_with_has_each_step_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loop = replace(LOOP, log_to=("tensorboard",), log_every=1)
    cut = Line()
    cut.at = kill
    with pytest.raises(KilledError):
        train(cut, loop, tmp_path)
    train(Line(), loop, tmp_path)
    curves = EventAccumulator(str(tmp_path / "tensorboard"))
    curves.Reload()
    assert [e.step for e in curves.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(Line(), replace(LOOP, log_to=("wandb",)), tmp_path, settings={"data": "가"})
    (run,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert run.stat().st_size > 0
    assert (tmp_path / "wandb-id.txt").read_text() in run.name


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")]
)
def test_a_tracker_that_is_not_installed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"pip install 'odqa\[{name}\]'"):
        train(Line(), replace(LOOP, log_to=(name,)), tmp_path)
