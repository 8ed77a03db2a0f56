"""The bundled models: are their files whole, and do they compute."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

from odqa.doctor.checks import Finding, Surroundings, failed, ok
from odqa.errors import OdqaError

_REINSTALL = "install odqa again (pip install --force-reinstall --no-deps), or clone it again"
_PARAGRAPH = "서울은 대한민국의 수도이다."
_QUESTION = "대한민국의 수도는 어디인가?"


def files(surroundings: Surroundings) -> Finding:
    """Whether every file is there, can be opened, and is the one that was installed."""
    from odqa.models.weights import WEIGHTS, read_metadata

    paths = [WEIGHTS / name for name in _names()]
    faults = [f"{path} is missing" for path in paths if not path.is_file()]
    for path in paths:
        if path.suffix == ".safetensors" and path.is_file():
            try:
                read_metadata(path)
            except OdqaError as error:
                faults.append(str(error))
    faults += [f"{path} is not as it was installed" for path in _changed(WEIGHTS)]
    if faults:
        return failed("; ".join(faults), _REINSTALL)
    size = sum(path.stat().st_size for path in paths)
    return ok(f"{len(paths)} files, {size / 1e6:.1f} MB in {WEIGHTS}")


def run(surroundings: Surroundings) -> Finding:
    """Whether each model gives vectors of unit length, or an answer, for a small text."""
    said = [f"{name} {_encode(name)}" for name in ("static-ko", "e5-small-ko")]
    said.append(f"reader-ko answers '{_read()}'")
    return ok(", ".join(said))


def _names() -> Iterator[str]:
    from odqa.models import e5, onnx, static
    from odqa.reading.extractive import BUNDLED

    yield static.FILE
    for file in (onnx.GRAPH, onnx.WEIGHTS_FILE, onnx.TOKENIZER):
        yield f"{e5.NAME}/{file}"
    for file in (onnx.GRAPH, onnx.WEIGHTS_FILE, "odqa.json"):
        yield f"{BUNDLED}/{file}"


def _changed(weights: Path) -> Iterator[Path]:
    """Files whose checksum is not the one that the installer recorded; none of a source folder."""
    try:
        recorded = importlib.metadata.files("odqa") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for entry in recorded:
        path = Path(str(entry.locate()))
        if entry.hash is None or entry.hash.mode != "sha256" or weights not in path.parents:
            continue
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != entry.hash.value:
                yield path


def _encode(name: str) -> str:
    """The length of the vectors of a bundled encoder, which are checked.

    Raises:
        OdqaError: they are not what they must be.
    """
    import numpy as np

    from odqa.build import create_encoder
    from odqa.config import DenseConfig

    encoder = create_encoder(DenseConfig(encoder=name))
    vectors = encoder.encode_questions([_PARAGRAPH, _QUESTION])
    lengths = np.linalg.norm(vectors, axis=1)
    if vectors.shape != (2, encoder.dim) or not np.allclose(lengths, 1, atol=1e-3):
        raise OdqaError(f"{name} gives vectors {vectors.shape} of length {lengths}. {_REINSTALL}")
    return f"{encoder.dim} numbers"


def _read() -> str:
    """The answer of the bundled reader.

    Raises:
        OdqaError: it has none.
    """
    from odqa.build import create_reader
    from odqa.config import ReaderConfig
    from odqa.types import Candidate, Passage

    passage = Passage("1#0", "1", "서울", _PARAGRAPH, 0, len(_PARAGRAPH))
    candidates = [Candidate(passage, 1.0, 0, "given")]
    (readings,) = create_reader(ReaderConfig()).read([_QUESTION], [candidates], k=1)
    if not readings:
        raise OdqaError(f"reader-ko finds no answer in '{_PARAGRAPH}'. {_REINSTALL}")
    return readings[0].text
