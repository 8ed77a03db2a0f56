"""The base model's packed file, read and written again, whole and cut to some of its pieces."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from script_modules import load_script
from tiny_models import vocabulary

from odqa.models.pieces import PieceTokenizer, build_tokenizer
from odqa.retrieval.transformers_encoder import E5, own_prescription

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

HIDDEN, LAYERS, HEADS, FORWARD, POSITIONS, TYPES = 64, 2, 2, 128, 64, 2
TEXT = "세종대왕은 훈민정음을 만들었다."
OTHERS = "ΑΒΓΔабвгд漢字仮名ひらがな"
PIECES = vocabulary([TEXT, OTHERS], ["▁세종", "대왕", "▁훈민정음", "ひら"])
IDS = {piece: i for i, (piece, _) in enumerate(PIECES)}
script = load_script("make_base_model")


def quantize_q4_0(values: np.ndarray) -> bytes:
    """llama.cpp's Q4_0: the value of largest size is -8 steps; 16 low nibbles, then 16 high."""
    blocks = values.reshape(-1, 32)
    largest = blocks[np.arange(len(blocks)), np.abs(blocks).argmax(axis=1)]
    scales = (largest / -8).astype("<f2")
    steps = np.where(scales == 0, 1, scales).astype(np.float32)
    codes = np.clip(np.rint(blocks / steps[:, None]) + 8, 0, 15).astype(np.uint8)
    nibbles = codes[:, :16] | codes[:, 16:] << 4
    return b"".join(s.tobytes() + n.tobytes() for s, n in zip(scales, nibbles, strict=True))


def packed_tensors() -> list[tuple[str, bytes, int]]:
    """(name, bytes, number of values), matrices in Q4_0 and vectors in fp32."""
    random = np.random.default_rng(3)
    vectors = {"emb.pos": POSITIONS * HIDDEN, "emb.type": TYPES * HIDDEN}
    vectors |= {"emb.ln.w": HIDDEN, "emb.ln.b": HIDDEN}
    matrices = {"emb.word": (len(PIECES), HIDDEN)}
    for layer in range(LAYERS):
        for part in ("q", "k", "v", "ao"):
            matrices[f"l{layer}.{part}.w"] = (HIDDEN, HIDDEN)
            vectors[f"l{layer}.{part}.b"] = HIDDEN
        matrices[f"l{layer}.fi.w"], vectors[f"l{layer}.fi.b"] = (FORWARD, HIDDEN), FORWARD
        matrices[f"l{layer}.fo.w"], vectors[f"l{layer}.fo.b"] = (HIDDEN, FORWARD), HIDDEN
        for part in ("aln", "oln"):
            vectors |= {f"l{layer}.{part}.w": HIDDEN, f"l{layer}.{part}.b": HIDDEN}
    tensors = []
    for name, shape in matrices.items():
        values = random.normal(0, 0.3, shape).astype(np.float32)
        tensors.append((name, quantize_q4_0(values), values.size))
    for name, size in vectors.items():
        tensors.append((name, random.normal(0, 0.3, size).astype("<f4").tobytes(), size))
    return tensors


def pack() -> bytes:
    """A file as ``read_packed`` reads it."""
    names = [piece.encode() for piece, _ in PIECES]
    text = b"".join(names)
    offsets = np.cumsum([0, *(len(name) for name in names)]).astype("<u4")
    scores = np.array([score for _, score in PIECES], dtype="<f4")
    sizes = (HIDDEN, LAYERS, HEADS, FORWARD, len(PIECES), POSITIONS, TYPES)
    head = b"E5S1" + struct.pack("<I7i", 1, *sizes) + struct.pack("<fi", 1e-12, 32)
    head += struct.pack("<5i", len(PIECES), 3, 0, 2, 1) + struct.pack("<Q", len(text))
    head += offsets.tobytes() + scores.tobytes() + text
    rules = b"some rules"
    head += struct.pack("<iI", 1, len(rules)) + rules
    tensors = packed_tensors()
    table_bytes = 4 + sum(2 + len(name.encode()) + 21 for name, _, _ in tensors)
    at = len(head) + table_bytes
    table, data = struct.pack("<i", len(tensors)), b""
    for name, raw, count in tensors:
        encoded = name.encode()
        table += struct.pack("<H", len(encoded)) + encoded
        table += struct.pack("<BIQQ", 1, count, at + len(data), len(raw))
        data += raw
    return head + table + data


@pytest.fixture(scope="module")
def model() -> Any:
    return script.read_packed(pack())


def test_q4_0_by_hand() -> None:
    nibbles = bytes([0xF0 | 0x3, *range(1, 16)])
    raw = np.float16(0.5).tobytes() + nibbles + np.float16(-2).tobytes() + bytes([0x80] * 16)
    values = script.dequantize_q4_0(raw, (2, 32))
    assert values.dtype == np.float32
    assert values[0, 0] == (3 - 8) * 0.5  # the low nibble of the first byte
    assert values[0, 16] == (15 - 8) * 0.5  # its high one
    assert values[0, 5] == (5 - 8) * 0.5
    assert values[0, 21] == (0 - 8) * 0.5
    assert values[1].tolist() == [(0 - 8) * -2.0] * 16 + [(8 - 8) * -2.0] * 16


def test_the_packed_file_is_read(model: Any) -> None:
    assert (model.hidden, model.layers, model.heads) == (HIDDEN, LAYERS, HEADS)
    assert (model.feed_forward, model.positions, model.token_types) == (FORWARD, POSITIONS, TYPES)
    assert model.eps == pytest.approx(1e-12)
    assert model.pieces == PIECES
    assert model.tensors["emb.word"].shape == (len(PIECES), HIDDEN)
    assert model.tensors["l1.fi.w"].shape == (FORWARD, HIDDEN)
    assert model.tensors["l1.fo.w"].shape == (HIDDEN, FORWARD)
    for name, raw, _ in packed_tensors():
        if model.tensors[name].ndim == 2:
            assert quantize_q4_0(model.tensors[name]) == raw  # nothing is lost the second time
        else:
            assert model.tensors[name].tobytes() == raw
    with pytest.raises(SystemExit, match="E5S1"):
        script.read_packed(b"GGUF" + bytes(100))


def test_kept_pieces_are_those_that_text_uses() -> None:
    tokenizer = PieceTokenizer(build_tokenizer(PIECES))
    kept = script.kept_pieces(tokenizer, [TEXT, "ひら", TEXT, TEXT], PIECES, min_count=3)
    assert kept == sorted(set(kept))
    names = {PIECES[i][0] for i in kept}
    assert {"<s>", "<pad>", "</s>", "<unk>", "<mask>", "▁", "▁세종", "▁훈민정음"} <= names
    assert {"▁훈", "훈", "."} <= names  # syllables and ASCII are always kept
    assert not {"ひら", "漢", "▁漢", "а"} & names
    rarer = script.kept_pieces(tokenizer, [TEXT, "가ひら"], PIECES, min_count=1)
    assert IDS["ひら"] in rarer


def test_a_cut_model_gives_the_same_vectors(model: Any, tmp_path: Path) -> None:
    tokenizer = PieceTokenizer(build_tokenizer(PIECES))
    kept = script.kept_pieces(tokenizer, [TEXT], PIECES, min_count=1)
    assert 4 < len(kept) < len(PIECES)
    script.write_folder(model, None, tmp_path / "uncut")
    script.write_folder(model, kept, tmp_path / "cut")
    states, tokens, ids = [], [], []
    for name in ("uncut", "cut"):
        folder = tmp_path / name
        bert, told = transformers.BertModel.from_pretrained(
            folder, add_pooling_layer=False, output_loading_info=True
        )
        assert not told["missing_keys"]
        assert not told["unexpected_keys"]
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        batch = tokenizer(TEXT, return_tensors="pt")
        with torch.no_grad():
            states.append(bert.eval()(**batch).last_hidden_state.numpy())
        tokens.append(tokenizer.convert_ids_to_tokens(batch["input_ids"][0]))
        ids.append(batch["input_ids"][0].tolist())
    assert tokens[0] == tokens[1]
    assert tokens[0][:3] == ["<s>", "▁세종", "대왕"]
    assert tokens[0][-1] == "</s>"
    assert "<unk>" not in tokens[0]
    assert ids[0] != ids[1]
    np.testing.assert_array_equal(states[0], states[1])


def test_the_command_writes_both_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "model.whl", "w") as wheel:
        wheel.writestr(script.MEMBER, pack())
    arguments = ["make_base_model.py", str(tmp_path / "model.whl"), "sample", str(tmp_path / "cut")]
    arguments += ["--uncut", str(tmp_path / "uncut"), "--every", "40"]
    monkeypatch.setattr(sys, "argv", arguments)
    script.main()
    assert f"of {len(PIECES)} pieces kept" in capsys.readouterr().out
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    for name in ("cut", "uncut"):
        assert files <= {path.name for path in (tmp_path / name).iterdir()}
        assert own_prescription(str(tmp_path / name)) == E5  # found beside the model
