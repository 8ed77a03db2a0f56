"""One probe in a process of its own: a request on stdin, its finding on stdout, both JSON."""

import dataclasses
import json
import os
import sys
from pathlib import Path

from odqa.config import Config, merge
from odqa.doctor.checks import Surroundings, examine
from odqa.doctor.run import load_probe


def main() -> None:
    """Answer one request."""
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no result
    request = json.load(sys.stdin)
    surroundings = Surroundings(
        merge(Config(), request["config"], where="the request"),
        Path(request["indexes_dir"]),
        None if request["index"] is None else Path(request["index"]),
    )
    finding = examine(lambda given: load_probe(request["probe"])(given), surroundings)
    with results:
        json.dump(dataclasses.asdict(finding), results)


if __name__ == "__main__":
    main()
