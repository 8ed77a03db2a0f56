"""Running an exported transformer in ONNX Runtime, one text at a time, texts side by side.

Each text is run alone and on one thread: nothing is padded, and what comes out for a text never
depends on what else was asked, nor on the number of cores. Several texts run on several cores.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from odqa.errors import OdqaError
from odqa.models.weights import read_metadata, read_tensors
from odqa.processes import n_cores

GRAPH, WEIGHTS_FILE, TOKENIZER = "model.onnx", "weights.safetensors", "tokenizer.json"
INT8_GRAPH = "model.int8.onnx"
SPAN_HEAD = "logits"
CODES, SCALES = ".codes", ".scales"  # a matrix of integers with a scale for each column
ATTENTION_PARTS = (".query", ".key", ".value")  # of the joined matrix, apart in integers

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


def runtime_tensors(tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, Floats]:
    """The graph's initializers out of a BERT's tensors: transposed, query, key and value joined."""
    types = tensors["embeddings.token_type_embeddings.weight"]
    found: dict[str, Floats] = {
        "words": tensors["embeddings.word_embeddings.weight"],
        "positions": tensors["embeddings.position_embeddings.weight"] + types[0],
        "embeddings.gamma": tensors["embeddings.LayerNorm.weight"],
        "embeddings.beta": tensors["embeddings.LayerNorm.bias"],
    }
    layer = 0
    while f"encoder.layer.{layer}.output.dense.weight" in tensors:
        found |= _layer_tensors(tensors, f"encoder.layer.{layer}.", f"l{layer}.")
        layer += 1
    if "qa_outputs.weight" in tensors:
        found["spans.weight"] = tensors["qa_outputs.weight"].T
        found["spans.bias"] = tensors["qa_outputs.bias"]
    return {name: np.ascontiguousarray(values, np.float32) for name, values in found.items()}


def _layer_tensors(
    tensors: Mapping[str, npt.NDArray[Any]], source: str, target: str
) -> dict[str, Floats]:
    attention = [f"{source}attention.self.{part}" for part in ("query", "key", "value")]
    found = {
        f"{target}qkv.weight": np.concatenate(
            [tensors[f"{a}.weight"].T for a in attention], axis=1
        ),
        f"{target}qkv.bias": np.concatenate([tensors[f"{a}.bias"] for a in attention]),
        f"{target}inner.weight": tensors[f"{source}intermediate.dense.weight"].T,
        f"{target}inner.bias": tensors[f"{source}intermediate.dense.bias"],
    }
    for name, module in (("attended", "attention.output"), ("outer", "output")):
        found[f"{target}{name}.weight"] = tensors[f"{source}{module}.dense.weight"].T
        found[f"{target}{name}.bias"] = tensors[f"{source}{module}.dense.bias"]
        found[f"{target}{name}.gamma"] = tensors[f"{source}{module}.LayerNorm.weight"]
        found[f"{target}{name}.beta"] = tensors[f"{source}{module}.LayerNorm.bias"]
    return found


def int8_tensors(tensors: Mapping[str, Floats]) -> dict[str, npt.NDArray[Any]]:
    """``runtime_tensors`` with the layers' matrices as ``CODES`` int8 and ``SCALES`` fp32.

    value = code * its column's scale; the largest of a column has the code 127 or -127. Query, key
    and value become three matrices: one product of all would have to be split again.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    for name, values in tensors.items():
        if values.ndim != 2 or not name.startswith("l"):
            found[name] = values
            continue
        parts = ATTENTION_PARTS if name.endswith("qkv.weight") else ("",)
        for part, matrix in zip(parts, np.split(values, len(parts), axis=1), strict=True):
            scales = np.abs(matrix).max(axis=0) / 127
            scales[scales == 0] = 1
            codes = np.rint(matrix / scales).astype(np.int8)
            found[name + part + CODES] = np.ascontiguousarray(codes)
            found[name + part + SCALES] = scales
    return found


def exported_file(folder: Path, name: str) -> Path:
    """A file of an export, or of the export that it shares tensors with."""
    path = folder / name
    if path.exists():
        return path
    metadata = read_metadata(folder / WEIGHTS_FILE)
    return folder.parent / metadata.get("shared", "") / name


def load_tensors(folder: Path) -> dict[str, Floats]:
    """All tensors of an export in fp32, those of the one it shares with included.

    Raises:
        OdqaError: a file is missing or damaged.
    """
    tensors, metadata = read_tensors(folder / WEIGHTS_FILE)
    if "shared" in metadata:
        shared, _ = read_tensors(folder.parent / metadata["shared"] / WEIGHTS_FILE)
        tensors = shared | tensors
    return tensors


class OnnxTransformer:
    """An exported model: token ids of texts to its output for each."""

    def __init__(self, folder: Path, precision: str = "fp32") -> None:
        """
        Args:
            folder: of the export.
            precision: fp32, or int8: the layers' products are of integers (exports of readers).

        Raises:
            OdqaError: the export is damaged or cannot be run.
        """
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # the graph is written as it is to run; more would fuse the layers' norms into a slower one
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        tensors = runtime_tensors(load_tensors(folder))
        self.max_length = len(tensors["positions"])
        graph = (folder / (INT8_GRAPH if precision == "int8" else GRAPH)).read_bytes()
        # kept: the session reads these arrays where they are
        self._values = {
            name: ort.OrtValue.ortvalue_from_numpy(values)
            for name, values in _used(tensors, graph).items()
        }
        options.add_external_initializers(list(self._values), list(self._values.values()))
        try:
            self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise OdqaError(f"{folder}: the exported model cannot be run ({error})") from error
        self._pool = ThreadPoolExecutor(n_threads(), thread_name_prefix="odqa-model")

    def run(self, texts: Sequence[Ints]) -> list[Floats]:
        """The output for each text: (length, width).

        The longest texts are begun first, so that the cores end together.
        """
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        futures = {i: self._pool.submit(self._run_one, texts[i]) for i in order}
        return [futures[i].result() for i in range(len(texts))]

    def _run_one(self, ids: Ints) -> Floats:
        output: Floats = self._session.run(None, {"ids": ids[None, :].astype(np.int32)})[0][0]
        return output


def _used(values: Mapping[str, Floats], graph: bytes) -> Mapping[str, npt.NDArray[Any]]:
    """What a graph takes: one that was cut to fewer layers has not all, one may want integers."""
    wanted = {name: array for name, array in values.items() if name.encode() in graph}
    return int8_tensors(wanted) if CODES.encode() in graph else wanted


def n_threads() -> int:
    """The usable cores, or fewer if OMP_NUM_THREADS says so."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return max(min(n_cores(), int(wanted)), 1) if wanted.isdigit() else n_cores()
