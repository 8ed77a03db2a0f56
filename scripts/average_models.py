"""Average the weights of two models of one shape, fine-tuned one from the other.

    python scripts/average_models.py FIRST SECOND OUTPUT [--weight 0.6]

FIRST and SECOND are Hugging Face folders; OUTPUT is a copy of SECOND whose weights are
``weight * SECOND + (1 - weight) * FIRST`` (M. Wortsman et al., Robust Fine-tuning of Zero-shot
Models, CVPR 2022): what the second round forgot of other kinds of questions partly comes back.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from odqa.models.weights import make_readable

WEIGHTS = "model.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--weight", type=float, default=0.6, help="of the second (default: 0.6)")
    arguments = parser.parse_args()
    first, second = (load_file(p / WEIGHTS) for p in (arguments.first, arguments.second))
    if {n: t.shape for n, t in first.items()} != {n: t.shape for n, t in second.items()}:
        parser.error(f"{arguments.first} and {arguments.second} are not of one shape")
    # the record and the figures are of SECOND alone
    ignored = shutil.ignore_patterns("checkpoint-*", "README.md", "run.json", "log.jsonl", WEIGHTS)
    shutil.copytree(arguments.second, arguments.output, ignore=ignored, dirs_exist_ok=True)
    averaged = {
        # what neither run has trained stays equal bit by bit, and so can be shared when exported
        name: tensor.contiguous()
        if tensor.equal(first[name])
        else (arguments.weight * tensor + (1 - arguments.weight) * first[name]).contiguous()
        for name, tensor in second.items()
    }
    save_file(averaged, arguments.output / WEIGHTS, metadata={"format": "pt"})
    make_readable(arguments.output / WEIGHTS)


if __name__ == "__main__":
    main()
