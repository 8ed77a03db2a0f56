"""Put the upper layers of an encoder above those of a reader that was made from its lowest ones.

    python scripts/add_layers.py READER BASE OUTPUT

READER and BASE are Hugging Face folders of BERT models; OUTPUT is a copy of READER with as many
layers as BASE, those beyond its own being BASE's. What the reader has learnt is kept for the most
part, so a deeper reader needs less training than one from the base.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from odqa.models.weights import make_readable

WEIGHTS = "model.safetensors"
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("reader", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    reader, base = (load_file(p / WEIGHTS) for p in (arguments.reader, arguments.base))
    config = json.loads((arguments.reader / "config.json").read_text(encoding="utf-8"))
    n_layers = config["num_hidden_layers"]
    for name, tensor in base.items():
        layer = _LAYER.search(name)
        if layer and int(layer[1]) >= n_layers:
            reader[f"bert.{name.removeprefix('bert.')}"] = tensor.float()
            config["num_hidden_layers"] = max(config["num_hidden_layers"], int(layer[1]) + 1)
    if config["num_hidden_layers"] == n_layers:
        parser.error(f"{arguments.base} has no more layers than {arguments.reader}")
    ignored = shutil.ignore_patterns("checkpoint-*", "README.md", "run.json", "log.jsonl", WEIGHTS)
    shutil.copytree(arguments.reader, arguments.output, ignore=ignored, dirs_exist_ok=True)
    save_file(reader, arguments.output / WEIGHTS, metadata={"format": "pt"})
    make_readable(arguments.output / WEIGHTS)
    (arguments.output / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
