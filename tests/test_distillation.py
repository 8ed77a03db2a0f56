"""A small reader learns from a large one."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import documented, korquad, set_loop
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import sample_examples, texts_of, weights_of, write_bert

from odqa.cli.main import main
from odqa.errors import ConfigError, OdqaError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from odqa.reading.checkpoint import load_reader_tokenizer  # noqa: E402
from odqa.training.distillation import Teacher  # noqa: E402
from odqa.training.layers import spread  # noqa: E402
from odqa.training.loop_config import LoopConfig  # noqa: E402
from odqa.training.reader import ReaderTask, load_model, train_reader  # noqa: E402
from odqa.training.reader_config import ReaderTrainingConfig, TeacherConfig  # noqa: E402

EXAMPLES = sample_examples(8)
LOOP = LoopConfig(
    max_steps=30, batch_size=4, learning_rate=1e-3, device="cpu", precision="fp32", threads=1
)
SETTINGS = ReaderTrainingConfig(
    morphemes=True, max_length=96, stride=8, max_question_length=24, hidden_dropout=0.0,
    attention_dropout=0.0, loop=LOOP,
)  # fmt: skip


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader of four layers."""
    folder = tmp_path_factory.mktemp("teacher")
    write_bert(folder, texts_of(EXAMPLES), reader=True, layers=4)
    load_reader_tokenizer(str(folder), morphemes=True, titles=True).save(folder)
    return folder


def settings(teacher: Path, **values: float) -> ReaderTrainingConfig:
    """A student of two of the teacher's layers."""
    taught = TeacherConfig(model=str(teacher), **values)  # type: ignore[arg-type]
    return replace(SETTINGS, model=str(teacher), layers=2, keep="spread", teacher=taught)


def test_layers_at_even_distances() -> None:
    assert spread(12, 6) == [1, 3, 5, 7, 9, 11]
    assert spread(12, 4) == [2, 5, 8, 11]
    assert spread(10, 4) == [1, 4, 6, 9]
    assert spread(3, 3) == [0, 1, 2]


@given(st.integers(1, 48), st.data())
def test_spread_layers_ascend_to_the_highest(n_layers: int, data: st.DataObject) -> None:
    chosen = spread(n_layers, data.draw(st.integers(1, n_layers)))
    assert chosen[0] >= 0
    assert chosen[-1] == n_layers - 1
    assert all(a < b for a, b in itertools.pairwise(chosen))


def test_a_student_starts_with_the_layers_it_keeps(teacher: Path) -> None:
    whole = weights_of(teacher)
    for keep, layers in (("lowest", (0, 1)), ("spread", (1, 3))):
        student = load_model(replace(settings(teacher), keep=keep))
        assert student.config.num_hidden_layers == 2
        state = student.state_dict()
        for mine, its in enumerate(layers):
            name = "bert.encoder.layer.{}.output.dense.weight"
            np.testing.assert_array_equal(state[name.format(mine)], whole[name.format(its)])
    with pytest.raises(ConfigError, match="keep"):
        load_model(replace(settings(teacher), keep="highest"))


def test_nobody_is_far_from_himself(teacher: Path) -> None:
    task = ReaderTask(
        EXAMPLES,
        (config := replace(settings(teacher, weight=1.0), layers=0)),
        load_model(config).eval(),
    )
    assert task.loss([[0], [1], [2]]).item() == pytest.approx(0, abs=1e-5)


def test_the_distance_by_hand(teacher: Path) -> None:
    tokenizer = load_reader_tokenizer(str(teacher))
    its = Teacher(str(teacher), tokenizer, temperature=2.0, hidden=0.5)
    config = settings(teacher, temperature=2.0, hidden=0.5)
    task = ReaderTask(EXAMPLES, config, load_model(config).eval())
    inputs = tokenizer.tensors(task.windows[:1], torch.device("cpu"))  # nothing padded
    with torch.no_grad():
        mine = task.model(**inputs, output_hidden_states=True)
        right = its.model(**inputs, output_hidden_states=True)
    wanted = 0.0
    for name in ("start_logits", "end_logits"):
        p, q = (
            np.exp(z) / np.exp(z).sum()
            for z in (o[name].numpy().astype(float)[0] / 2 for o in (right, mine))
        )
        wanted += 4 * float((p * np.log(p / q)).sum()) / 2
    for layer, matched in ((1, 2), (2, 4)):
        a, b = (
            h / np.linalg.norm(h, axis=-1, keepdims=True)
            for h in (mine.hidden_states[layer][0].numpy(), right.hidden_states[matched][0].numpy())
        )
        wanted += 0.5 * float(((a - b) ** 2).sum(axis=-1).mean()) / 2
    assert float(its.distance(inputs, mine)) == pytest.approx(wanted, rel=1e-4)


def test_padding_does_not_count(teacher: Path) -> None:
    config = settings(teacher, weight=1.0)
    task = ReaderTask(EXAMPLES, config, load_model(config).eval())
    by_length = sorted(range(len(task.windows)), key=lambda i: len(task.windows[i].ids))
    pair = [by_length[0], by_length[-1]]
    assert len(task.windows[pair[0]].ids) < len(task.windows[pair[1]].ids)
    # the logits' part is a mean over windows, so a batch is the mean of its windows
    logits_only = settings(teacher, weight=1.0, hidden=0.0)
    task = ReaderTask(EXAMPLES, logits_only, load_model(logits_only).eval())
    alone = [task.loss([[i]]).item() for i in pair]
    assert task.loss([[i] for i in pair]).item() == pytest.approx(sum(alone) / 2, rel=1e-4)


@pytest.mark.parametrize("world", [2, 3])
def test_shares_of_a_batch_make_the_whole(teacher: Path, world: int) -> None:
    """Groups of one, three and two windows of unlike lengths."""
    config = settings(teacher, weight=0.9, hidden=2.0)
    task = ReaderTask(EXAMPLES, config, load_model(config).eval())
    by_length = sorted(range(len(task.windows)), key=lambda i: len(task.windows[i].ids))
    batch = [[by_length[0]], by_length[-3:], by_length[1:3], [by_length[3]]]

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        task.model.zero_grad()
        loss.backward()
        return torch.cat([p.grad.flatten() for p in task.model.parameters() if p.grad is not None])

    whole = task.loss(batch)
    shares = [batch[rank::world] for rank in range(world)]
    losses = [task.loss(share, batch) * len(share) / len(batch) for share in shares]
    together = torch.stack(losses).sum()
    assert float(together.detach()) == pytest.approx(float(whole.detach()), rel=1e-5)
    torch.testing.assert_close(gradient(together), gradient(whole), rtol=1e-3, atol=1e-5)


def test_a_student_comes_nearer_to_its_teacher(teacher: Path, tmp_path: Path) -> None:
    config = settings(teacher, weight=1.0)
    before = ReaderTask(EXAMPLES, config, load_model(config).eval())
    record = train_reader(EXAMPLES, config, tmp_path)
    after = ReaderTask(
        EXAMPLES,
        (trained := replace(config, model=str(tmp_path), layers=0)),
        load_model(trained).eval(),
    )
    batch = [[i] for i in range(len(before.windows))]
    with torch.no_grad():
        assert float(after.loss(batch)) < 0.5 * float(before.loss(batch))
    assert record["config"]["teacher"]["model"] == str(teacher)
    assert record["config"]["keep"] == "spread"


def test_who_cannot_teach_is_told(teacher: Path, tmp_path: Path) -> None:
    def task(**values: float) -> ReaderTask:
        config = settings(teacher, **values)
        return ReaderTask(EXAMPLES, config, load_model(config))

    with pytest.raises(ConfigError, match=r"teacher\.weight"):
        task(weight=1.5)
    with pytest.raises(ConfigError, match=r"teacher\.temperature"):
        task(temperature=0.0)

    def taught_by(folder: Path) -> ReaderTask:
        config = replace(settings(folder), model=str(teacher))
        return ReaderTask(EXAMPLES, config, load_model(config))

    write_bert(tmp_path / "other", ["가나다"], reader=True)
    with pytest.raises(ConfigError, match="other pieces"):
        taught_by(tmp_path / "other")
    low = tmp_path / "low"
    write_bert(low, texts_of(EXAMPLES), reader=True, layers=1)
    load_reader_tokenizer(str(low), morphemes=True, titles=True).save(low)
    with pytest.raises(ConfigError, match="1 layers, the student 2"):
        taught_by(low)
    with pytest.raises(OdqaError, match=r"teacher\.model"):
        taught_by(tmp_path / "nowhere")


def test_the_documented_command_makes_a_smaller_reader(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = documented("training.md", "### A small reader, taught by a large one")
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/reader").symlink_to(teacher)
    korquad(Path("made.json"), EXAMPLES[:4])
    korquad(Path("my.json"), EXAMPLES[4:])
    short = ["max_length=96", "stride=16", "max_question_length=24", "layers=2"]
    settings = [argument for value in short for argument in ("--set", value)]
    assert main([*command[1:], *settings, *set_loop(max_steps=2)]) == 0
    run = json.loads(Path("runs/small/run.json").read_text())
    assert run["config"]["teacher"]["model"] == "runs/reader"
    assert json.loads(Path("runs/small/config.json").read_text())["num_hidden_layers"] == 2
