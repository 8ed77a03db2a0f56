"""From a Hugging Face BERT folder to the form it runs in without torch: a graph and a weights file.

The graph is ONNX with ONNX Runtime's fused transformer operators, one text at a time and so without
padding or a mask; its initializers are only named and shaped there. Their values lie in a weights
file (``odqa.models.weights``) under the names that ``transformers`` gives them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from odqa.errors import MissingDependencyError, OdqaError
from odqa.models.cut_tokenizer import SETTINGS, read_settings
from odqa.models.onnx import (
    ATTENTION_PARTS,
    CODES,
    GRAPH,
    INT8_GRAPH,
    SCALES,
    SPAN_HEAD,
    TOKENIZER,
    WEIGHTS_FILE,
    int8_tensors,
    runtime_tensors,
)
from odqa.models.weights import write_tensors
from odqa.retrieval.transformers_encoder import E5, POOLING, own_prescription
from odqa.training.outputs import held

OPSET, MICROSOFT_OPSET = 18, 1
ZERO, GELU_ZERO = 128, 32  # the byte of 0; GELU is nowhere below -0.17, so most are for above
LEAST, LEAST_GELU = 1e-9, 0.17 * (255 - GELU_ZERO) / GELU_ZERO  # the size of a token, at least
# small, and added to every token: rounding them is seen in the output
EXACT = frozenset(
    {
        "embeddings.position_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        "qa_outputs.weight",
    }
)

_UNUSED = ("pooler.", "cls.")  # heads of pre-training


def export(folder: Path, output: Path, *, shared: Path | None = None) -> None:
    """Write graph, weights, tokenizer and settings of a BERT encoder or reader into ``output``.

    Args:
        folder: a Hugging Face folder of a BERT model, with or without span heads.
        output: made if absent.
        shared: an export whose equal tensors are not stored again but taken from there; it must
            lie beside ``output``.

    Raises:
        OdqaError: the folder holds no BERT model, a reader that was trained with token types, or
            an encoder that is used otherwise than e5.
        UsageError: another process is writing into ``output``.
        MissingDependencyError: the package ``onnx`` is not installed.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "bert" or config.get("hidden_act", "gelu") != "gelu":
        raise OdqaError(f"{folder}: only BERT with exact GELU can be exported, not this model")
    layout = read_settings(str(folder)).get("layout")  # only a reader has one
    if layout is not None and layout["token_types"]:
        raise OdqaError(f"{folder}: a reader that uses token types cannot be exported")
    if (folder / POOLING).exists() and (how := own_prescription(str(folder))) != E5:
        raise OdqaError(
            f"{folder}: only encoders with e5's pooling and prefixes can be exported, not {how}"
        )
    with held(output):
        _write(folder, output, config, shared)


def _write(folder: Path, output: Path, config: Mapping[str, Any], shared: Path | None) -> None:
    layout = read_settings(str(folder)).get("layout")  # only a reader has one
    tensors = _read_model(folder)
    values = runtime_tensors(tensors)
    (output / GRAPH).write_bytes(build_graph(config, values))
    (output / INT8_GRAPH).write_bytes(build_graph(config, int8_tensors(values)))
    own = dict(tensors)
    if shared is not None:
        from odqa.models.weights import read_tensors

        known, _ = read_tensors(shared / WEIGHTS_FILE)
        own = {
            name: values
            for name, values in tensors.items()
            if name not in known or not np.array_equal(known[name], values)
        }
    metadata = {"shared": shared.name} if shared is not None else {}
    write_tensors(output / WEIGHTS_FILE, own, metadata, exact=EXACT, half=True)
    # the settings tell that an exported folder is a reader: they are never left to another
    for name in (TOKENIZER,) if layout is None else (TOKENIZER, SETTINGS):
        same = name == TOKENIZER and shared is not None and _same(folder / name, shared / name)
        if (folder / name).exists() and not same:
            (output / name).write_bytes((folder / name).read_bytes())


def _same(first: Path, second: Path) -> bool:
    """Whether two tokenizers are both there and make the same pieces."""
    if not (first.exists() and second.exists()):
        return False
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in (first, second)]
    models = [_without_rounding(part["model"]) for part in parts]
    return models[0] == models[1] and parts[0]["normalizer"] == parts[1]["normalizer"]


def _without_rounding(model: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer's model; scores of unigram pieces change in their last digits when saved."""
    if model["type"] != "Unigram":
        return model
    return {"vocab": [(piece, round(score, 4)) for piece, score in model["vocab"]]}


def _read_model(folder: Path) -> dict[str, npt.NDArray[Any]]:
    from safetensors.numpy import load_file

    tensors = load_file(folder / "model.safetensors")
    named = {name.removeprefix("bert."): values for name, values in tensors.items()}
    return {n: v for n, v in named.items() if not n.startswith(_UNUSED)}


def build_graph(config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The serialised ONNX model: ids (1, length) int32 to hidden states or span logits.

    With the tensors of ``int8_tensors`` the layers' products are of integers.
    """
    try:
        from onnx import TensorProto, helper
    except ImportError as error:
        raise MissingDependencyError("onnx", "train", "exporting a model") from error
    graph = _Graph(helper, config, int8=any(name.endswith(CODES) for name in tensors))
    state = graph.node(
        "EmbedLayerNormalization",
        ["ids", "", "words", "positions", "", "embeddings.gamma", "embeddings.beta", ""],
        extra_outputs=1,
        epsilon=graph.epsilon,
    )
    for layer in range(config["num_hidden_layers"]):
        state = graph.layer(state, f"l{layer}.")
    if "spans.weight" in tensors:
        logits = graph.node("MatMul", [state, "spans.weight"], domain="")
        graph.node("Add", [logits, "spans.bias"], domain="", output=SPAN_HEAD)
        outputs = [helper.make_tensor_value_info(SPAN_HEAD, TensorProto.FLOAT, [1, "length", 2])]
    else:
        graph.node("Identity", [state], domain="", output="hidden")
        shape = [1, "length", config["hidden_size"]]
        outputs = [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, shape)]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT32, [1, "length"])]
    initializers = [_named_only(name, values) for name, values in sorted(tensors.items())]
    initializers += graph.constants
    model = helper.make_model(
        helper.make_graph(graph.nodes, "bert", inputs, outputs, initializers),
        producer_name="odqa",
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid("com.microsoft", MICROSOFT_OPSET),
        ],
        ir_version=9,
    )
    return bytes(model.SerializeToString(deterministic=True))


class _Graph:
    """Collects nodes; each takes tensor names and gives its first output's."""

    def __init__(self, helper: Any, config: Mapping[str, Any], *, int8: bool) -> None:
        self._helper, self._config, self._int8 = helper, config, int8
        self.epsilon = float(config.get("layer_norm_eps", 1e-12))
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        if int8:
            self.constants = _constants()
            flat = self.node("Reshape", ["ids", "flat"], domain="")
            self._length = self.node("Shape", [flat], domain="")

    def node(
        self,
        operator: str,
        inputs: list[str],
        *,
        domain: str = "com.microsoft",
        output: str | None = None,
        extra_outputs: int = 0,
        **attributes: Any,
    ) -> str:
        name = output or f"n{len(self.nodes)}"
        outputs = [name, *(f"{name}.{i}" for i in range(extra_outputs))]
        self.nodes.append(
            self._helper.make_node(
                operator, inputs, outputs, domain=domain, name=name, **attributes
            )
        )
        return name

    def layer(self, state: str, at: str) -> str:
        """One transformer layer (post-norm, as in BERT)."""
        attended = self._product(self._attention(state, at), f"{at}attended.weight")
        state = self._add_and_norm(attended, state, f"{at}attended")
        inner = self._product(state, f"{at}inner.weight")
        inner = self.node("BiasGelu", [inner, f"{at}inner.bias"])
        outer = self._product(inner, f"{at}outer.weight", of_gelu=True)
        return self._add_and_norm(outer, state, f"{at}outer")

    def _attention(self, state: str, at: str) -> str:
        heads, weight, bias = (
            self._config["num_attention_heads"],
            f"{at}qkv.weight",
            f"{at}qkv.bias",
        )
        if not self._int8:
            return self.node("Attention", [state, weight, bias], num_heads=heads)
        rounded = self._rounded(state)
        parts = [self._of_integers(*rounded, f"{weight}{part}") for part in ATTENTION_PARTS]
        return self.node("MultiHeadAttention", [*parts, bias], num_heads=heads)

    def _product(self, state: str, weight: str, *, of_gelu: bool = False) -> str:
        """``state`` times a matrix."""
        if not self._int8:
            return self.node("MatMul", [state, weight], domain="")
        return self._of_integers(*self._rounded(state, of_gelu=of_gelu), weight)

    def _rounded(self, state: str, *, of_gelu: bool = False) -> tuple[str, str, str]:
        """The bytes of ``state``, each token's scale (1, length, 1), and which byte is 0.

        Every token has a scale of its own, so that its eight bits are its own.
        """
        of = ".gelu" if of_gelu else ""
        size = state if of_gelu else self.node("Abs", [state], domain="")
        size = self.node("ReduceMax", [size, "last"], domain="", keepdims=1)
        size = self.node("Max", [size, f"least{of}"], domain="")
        scale = self.node("Mul", [size, f"step{of}"], domain="")
        inputs = [state, self.node("Reshape", [scale, "flat"], domain=""), self._zeros(of)]
        return self.node("QuantizeLinear", inputs, domain="", axis=1), scale, f"zero{of}"

    def _zeros(self, of: str) -> str:
        """``zero`` for each token: made once for all layers."""
        name = f"zeros{of}"
        if all(node.name != name for node in self.nodes):
            inputs = [f"zero{of}", self._length]
            self.node("Expand", inputs, domain="", output=name)
        return name

    def _of_integers(self, codes: str, scale: str, zero: str, weight: str) -> str:
        """Bytes times a matrix of integers, which has a scale for each column."""
        inputs = [codes, f"{weight}{CODES}", "one", f"{weight}{SCALES}", zero]
        return self.node("Mul", [self.node("MatMulIntegerToFloat", inputs), scale], domain="")

    def _add_and_norm(self, new: str, state: str, name: str) -> str:
        # a fifth of the time of ONNX Runtime's SkipLayerNormalization, which does the same
        new = self.node("Add", [new, f"{name}.bias"], domain="")
        both = self.node("Add", [new, state], domain="")
        inputs = [both, f"{name}.gamma", f"{name}.beta"]
        return self.node("LayerNormalization", inputs, domain="", epsilon=self.epsilon)


def _constants() -> list[Any]:
    from onnx import numpy_helper

    values: dict[str, npt.NDArray[Any]] = {
        "last": np.array([-1], np.int64),  # an axis
        "flat": np.array([-1], np.int64),  # a shape
        "one": np.array(1, np.float32),
        "zero": np.array(ZERO, np.uint8),
        "zero.gelu": np.array(GELU_ZERO, np.uint8),
        "step": np.array(1 / (255 - ZERO), np.float32),
        "step.gelu": np.array(1 / (255 - GELU_ZERO), np.float32),
        "least": np.array(LEAST, np.float32),
        "least.gelu": np.array(LEAST_GELU, np.float32),
    }
    return [numpy_helper.from_array(array, name) for name, array in values.items()]


def _named_only(name: str, values: npt.NDArray[Any]) -> Any:
    """An initializer whose values are given when the session is made."""
    from onnx import StringStringEntryProto, TensorProto

    return TensorProto(
        name=name,
        data_type=TensorProto.INT8 if values.dtype == np.int8 else TensorProto.FLOAT,
        dims=values.shape,
        data_location=TensorProto.EXTERNAL,
        external_data=[StringStringEntryProto(key="location", value=WEIGHTS_FILE)],
    )
