"""Write the span logits of a trained reader, computed in torch, into tests/golden/models.json.

    python scripts/write_golden.py READER

READER is the Hugging Face folder whose export is bundled. The questions, of the sample, are those
that the file has already; tests/test_bundled_models.py holds the export to them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForQuestionAnswering

from odqa.config import ReaderConfig
from odqa.corpus.datasets import read_examples
from odqa.reading.checkpoint import load_reader_tokenizer
from odqa.reading.windows import WindowLimits, make_windows

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "models.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("reader", help="the trained model's folder")
    folder = parser.parse_args().reader
    tokenizer = load_reader_tokenizer(folder)
    model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    examples = {example.question_id: example for example in read_examples("sample", "train")}
    limits = WindowLimits(ReaderConfig().max_length, ReaderConfig().stride)
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for record in golden["reader"]:
        example = examples[record["question_id"]]
        passage = example.passage
        if passage is None:
            parser.error(f"{example.question_id} has no passage")
        pieces = tokenizer.encode([example.question, passage.title, passage.text])
        window = make_windows(*pieces, tokenizer.layout, limits)[0]
        with torch.inference_mode():
            output = model(**tokenizer.tensors([window], torch.device("cpu")))
        record["ids"] = window.ids.tolist()
        for name in ("start_logits", "end_logits"):
            record[name] = [round(value, 3) for value in getattr(output, name)[0].tolist()]
    GOLDEN.write_text(
        json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
