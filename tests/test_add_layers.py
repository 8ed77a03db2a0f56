"""A reader of more layers from one of fewer (scripts/add_layers.py)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import weights_of, write_bert

pytest.importorskip("torch")
pytest.importorskip("transformers")

SCRIPT = Path(__file__).parents[1] / "scripts" / "add_layers.py"


def test_upper_layers_come_from_the_base(tmp_path: Path) -> None:
    from transformers import AutoModelForQuestionAnswering

    texts = ["한강은 서울을 지난다."]
    write_bert(tmp_path / "reader", texts, reader=True, layers=2, seed=3)
    write_bert(tmp_path / "base", texts, reader=False, layers=4, seed=5)

    def run(base: str) -> subprocess.CompletedProcess[str]:
        given = [str(tmp_path / name) for name in ("reader", base, "out")]
        command = [sys.executable, str(SCRIPT), *given]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("base").returncode == 0
    assert json.loads((tmp_path / "out/config.json").read_text())["num_hidden_layers"] == 4
    made, reader, base = (weights_of(tmp_path / name) for name in ("out", "reader", "base"))
    for layer, source in ((0, reader), (1, reader), (2, base), (3, base)):
        name = f"encoder.layer.{layer}.output.dense.weight"
        expected = source.get(f"bert.{name}", source.get(name))
        np.testing.assert_array_equal(made[f"bert.{name}"], expected)
    np.testing.assert_array_equal(made["qa_outputs.weight"], reader["qa_outputs.weight"])
    model = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out")
    assert len(model.bert.encoder.layer) == 4
    again = run("reader")
    assert again.returncode == 2
    assert "has no more layers" in again.stderr
