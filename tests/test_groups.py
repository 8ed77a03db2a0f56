"""A question's own passage and mined ones, their scores on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_models import sample_examples, texts_of, write_bert

from odqa.errors import ConfigError, UsageError
from odqa.types import Example

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from odqa.retrieval.cross_encoder import passage_text  # noqa: E402
from odqa.training.loop_config import LoopConfig  # noqa: E402
from odqa.training.ranking import RankingExample  # noqa: E402
from odqa.training.reader import ReaderTask, load_model, train_reader  # noqa: E402
from odqa.training.reader_config import ReaderTrainingConfig  # noqa: E402

EXAMPLES = sample_examples(12)
LOOP = LoopConfig(
    max_steps=4, batch_size=6, learning_rate=1e-3, device="cpu", precision="fp32", threads=1
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_bert(folder, texts_of(EXAMPLES), reader=False)
    return folder


@pytest.fixture
def settings(base: Path) -> ReaderTrainingConfig:
    return ReaderTrainingConfig(
        model=str(base), morphemes=True, max_length=96, stride=8, max_question_length=24,
        negatives=0.0, empty_windows=0.0, hidden_dropout=0.0, attention_dropout=0.0, loop=LOOP,
    )  # fmt: skip


def mined_for(examples: Sequence[Example], n: int) -> list[RankingExample]:
    texts = [passage_text(e.passage) for e in examples if e.passage is not None]
    return [
        RankingExample(e.question, (text,), tuple(t for t in dict.fromkeys(texts) if t != text)[:n])
        for e, text in zip(examples, texts, strict=True)
    ]


def test_the_loss_over_a_group_by_hand(settings: ReaderTrainingConfig) -> None:
    config = replace(settings, group_negatives=2, group_weight=1.0)
    examples = EXAMPLES[:3]
    task = ReaderTask(examples, config, load_model(config).eval(), mined=mined_for(examples, 4))
    group = next(group for batch in task.batches(0) for group in batch if len(group) == 3)
    own, *rivals = (task.windows[i] for i in group)
    assert own.start > 0
    assert {w.start for w in rivals} == {0}
    assert {w.question for w in rivals} == {own.question}
    starts, ends = [], []
    for window in (own, *rivals):
        inputs = task.tokenizer.tensors([window], torch.device("cpu"))
        output: Any = task.model(**inputs)
        n = len(window.ids)
        for found, logits in ((starts, output.start_logits), (ends, output.end_logits)):
            found.append((logits[0, 1:n] - logits[0, 0]).detach().double())
    expected = 0.0
    for found, place in ((starts, own.start), (ends, own.end)):
        expected -= float(found[0][place - 1] - torch.cat(found).logsumexp(0)) / 2
    assert task.loss([group]).item() == pytest.approx(expected, abs=1e-4)
    alone = [task.loss([[i]]).item() for i in group]  # each by itself
    half = replace(config, group_weight=0.25)
    mixed = ReaderTask(examples, half, task.model, mined=mined_for(examples, 4))
    both = 0.75 * sum(alone) / 3 + 0.25 * expected
    assert mixed.loss([group]).item() == pytest.approx(both, abs=1e-4)
    # a group counts as much as a window that stands alone
    single = mixed.loss([[group[0]]]).item()
    assert mixed.loss([group, [group[0]]]).item() == pytest.approx((both + single) / 2, abs=1e-4)


def test_who_competes_is_drawn_anew(settings: ReaderTrainingConfig) -> None:
    config = replace(settings, group_negatives=1)
    mined = [*mined_for(EXAMPLES, 5), RankingExample("다른 질문?", ("가",), ("나",))]
    task = ReaderTask(EXAMPLES, config, load_model(config), mined=mined)

    def groups(epoch: int) -> set[tuple[int, ...]]:
        return {tuple(group) for batch in task.batches(epoch) for group in batch}

    assert groups(0) == groups(0)
    assert groups(0) != groups(1)
    assert sorted(g[0] for g in groups(0)) == list(range(task._n_own))
    assert all(len(batch) <= config.loop.batch_size // 2 for batch in task.batches(0))
    for first, *rivals in groups(0):
        assert len(rivals) == (task.windows[first].start > 0)
        for rival in rivals:
            assert rival >= task._n_own
            assert task.windows[rival].question == task.windows[first].question


def test_a_group_teaches_which_passage_answers(
    settings: ReaderTrainingConfig, tmp_path: Path
) -> None:
    mined = mined_for(EXAMPLES[:4], 3)
    loop = replace(LOOP, max_steps=40, batch_size=8)
    config = replace(settings, group_negatives=3, loop=loop)
    task = ReaderTask(EXAMPLES[:4], config, load_model(config).eval(), mined=mined)
    group = [group for batch in task.batches(0) for group in batch if len(group) > 1]
    before = float(task.loss(group).detach())
    train_reader(EXAMPLES[:4], config, tmp_path, mined=mined)
    trained = replace(config, model=str(tmp_path))
    after = ReaderTask(EXAMPLES[:4], trained, load_model(trained).eval(), mined=mined)
    assert float(after.loss(group).detach()) < 0.5 * before
    for nothing in ([], [RankingExample("다른 질문?", ("가",), ("나",))]):
        with pytest.raises(UsageError, match="no mined passage belongs"):
            ReaderTask(EXAMPLES[:4], config, task.model, mined=nothing)
    for wrong in ({"group_negatives": -1}, {"group_weight": 1.5}):
        with pytest.raises(ConfigError, match="group_negatives must be"):
            train_reader(EXAMPLES, replace(config, **wrong), tmp_path)  # type: ignore[arg-type]
