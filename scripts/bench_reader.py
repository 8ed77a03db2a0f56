"""Windows a second: the bundled reader beside the 12-layer base in torch fp32, in the same run.

The reader runs in each precision that this processor has (fp32, int8).

    python scripts/bench_reader.py QUESTIONS.json BASE [--windows 96] [--rounds 3]

QUESTIONS is a KorQuAD file whose windows are read; BASE the folder of the base model
(``scripts/make_base_model.py``). The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel

from odqa.corpus.datasets import read_examples
from odqa.models.devices import has_byte_products
from odqa.models.weights import WEIGHTS
from odqa.reading.extractive import BUNDLED, OnnxSpanModel
from odqa.reading.windows import Window, WindowLimits, make_windows


def windows_of(model: OnnxSpanModel, path: Path, n: int, length: int) -> list[Window]:
    """The first n windows of a data set; each filled up to ``length`` by repeating its pieces."""
    limits = WindowLimits(max_length=length)
    found: list[Window] = []
    for example in read_examples(path):
        if example.passage is None:
            continue
        texts = [example.question, example.passage.title, example.passage.text * 4]
        question, title, passage = model.encode(texts)
        found.append(make_windows(question, title, passage, model.layout, limits)[0])
        if len(found) == n:
            break
    return found


def torch_read(model: Any, windows: Sequence[Window], batch_size: int = 16) -> None:
    for batch in _batches(windows, batch_size):
        length = max(len(window.ids) for window in batch)
        ids = np.ones((len(batch), length), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, window in enumerate(batch):
            ids[row, : len(window.ids)] = window.ids
            mask[row, : len(window.ids)] = 1
        with torch.inference_mode():
            model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))


def _batches(windows: Sequence[Window], size: int) -> list[Sequence[Window]]:
    return [windows[i : i + size] for i in range(0, len(windows), size)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("questions", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("--windows", type=int, default=96)
    parser.add_argument("--length", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    precisions = ["fp32", "int8"] if has_byte_products() else ["fp32"]
    readers = {name: OnnxSpanModel(WEIGHTS / BUNDLED, name) for name in precisions}
    base = AutoModel.from_pretrained(args.base, add_pooling_layer=False).eval()
    windows = windows_of(readers["fp32"], args.questions, args.windows, args.length)
    for reader in readers.values():
        reader.logits(windows[:8])
    torch_read(base, windows[:16])
    rates: dict[str, list[float]] = {name: [] for name in (*readers, "torch")}
    for _ in range(args.rounds):
        for name in rates:
            began = time.perf_counter()
            if name in readers:
                readers[name].logits(windows)
            else:
                torch_read(base, windows)
            rates[name].append(len(windows) / (time.perf_counter() - began))
    result: dict[str, Any] = {
        "windows": len(windows),
        "tokens_a_window": round(statistics.mean(len(w.ids) for w in windows), 1),
        "threads": torch.get_num_threads(),
        "torch_fp32_12_layers_windows_per_second": [round(rate, 2) for rate in rates["torch"]],
    }
    for name in readers:
        ratios = [a / b for a, b in zip(rates[name], rates["torch"], strict=True)]
        result[f"bundled_{name}_windows_per_second"] = [round(rate, 2) for rate in rates[name]]
        result[f"ratio_{name}_median"] = round(statistics.median(ratios), 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
