"""Numbers in blocks of 8 and 4 bits: what is lost, what is not, and files of them."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from odqa.errors import OdqaError
from odqa.models.weights import (
    BLOCK,
    dequantize_q4,
    dequantize_q8,
    quantize_q4,
    quantize_q8,
    read_tensors,
    write_tensors,
)

matrices = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.sampled_from([32, 64, 96])),
    elements=st.floats(-100, 100, width=32),
)


@settings(deadline=None)
@given(matrices)
def test_q8_is_off_by_half_a_step_at_most(values: np.ndarray) -> None:
    codes, scales = quantize_q8(values)
    assert codes.shape == values.shape
    assert scales.shape == (len(values), values.shape[1] // BLOCK)
    error = np.abs(dequantize_q8(codes, scales) - values).reshape(-1, BLOCK).max(axis=1)
    # scales below the least normal fp16 number are rounded by up to 2**-25, 127 times over
    tiny = 127 * 2.0**-25
    steps = scales.reshape(-1).astype(np.float64)
    assert (error <= np.maximum(steps / 2 * (1 + 1e-5), tiny)).all()


@settings(deadline=None)
@given(matrices)
def test_q8_of_q8_loses_nothing_more(values: np.ndarray) -> None:
    values[np.abs(values) < 2**-7] = 0  # where the scale is a normal fp16 number
    once = dequantize_q8(*quantize_q8(values))
    np.testing.assert_array_equal(dequantize_q8(*quantize_q8(once)), once)


def test_q8_by_hand() -> None:
    values = np.zeros((1, 32), np.float32)
    values[0, :3] = [127, -64, 0.6]
    codes, scales = quantize_q8(values)
    assert scales[0, 0] == 127 / 127
    assert codes[0, :4].tolist() == [127, -64, 1, 0]


nibbles = npst.arrays(np.int64, (3, 64), elements=st.integers(0, 15))


@settings(deadline=None)
@given(nibbles, st.lists(st.sampled_from([2.0**-9, 0.5, 0.0127, -0.031]), min_size=6, max_size=6))
def test_q4_keeps_what_lies_on_its_grid(codes: np.ndarray, steps: list[float]) -> None:
    codes = codes.reshape(6, 32)
    codes[:, 5] = 0  # the largest value of a block has nibble 0: -8 steps
    scales = np.array(steps, np.float16).astype(np.float32)
    values = ((codes - 8).astype(np.float32) * scales[:, None]).reshape(3, 64)
    stored = quantize_q4(values)
    assert stored is not None
    packed, kept = stored
    assert packed.dtype == np.uint8
    assert packed.shape == (3, 32)
    np.testing.assert_array_equal(kept.reshape(-1), scales.astype(np.float16))
    np.testing.assert_array_equal(dequantize_q4(packed, kept), values)


def test_q4_refuses_what_it_would_change() -> None:
    random = np.random.default_rng(1)
    assert quantize_q4(random.normal(size=(2, 64)).astype(np.float32)) is None
    on_grid = (random.integers(0, 16, (1, 32)) - 8).astype(np.float32)
    on_grid[0, 0] = -8
    assert quantize_q4(on_grid) is not None
    on_grid[0, 3] += 0.01
    assert quantize_q4(on_grid) is None


def test_q4_by_hand() -> None:
    packed = np.zeros((1, 16), np.uint8)
    packed[0, 0] = 0xF0 | 0x1  # value 0 from the low nibble, value 16 from the high one
    values = dequantize_q4(packed, np.array([[0.5]], np.float16))
    assert values[0, 0] == (1 - 8) * 0.5
    assert values[0, 16] == (15 - 8) * 0.5
    assert values[0, 1] == (0 - 8) * 0.5


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    grid = (random.integers(0, 16, (4, 64)) - 8).astype(np.float32)
    grid[:, [0, 32]] = -8
    tensors = {
        "grid.weight": grid,
        "normal.weight": random.normal(size=(4, 64)).astype(np.float32),
        "kept.weight": random.normal(size=(4, 64)).astype(np.float32),
        "odd.weight": random.normal(size=(4, 33)).astype(np.float32),
        "bias": random.normal(size=64).astype(np.float32),
        "terms": np.arange(7, dtype=np.uint8),
        "zeros": np.zeros((2, 32), np.float32),
    }
    path = tmp_path / "weights.safetensors"
    write_tensors(path, tensors, {"a": "b"}, exact={"kept.weight"})
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    found, metadata = read_tensors(path)
    assert metadata == {"a": "b"}
    assert found.keys() == tensors.keys()
    for name in tensors.keys() - {"normal.weight"}:
        assert found[name].dtype == tensors[name].dtype
        np.testing.assert_array_equal(found[name], tensors[name])
    wanted = dequantize_q8(*quantize_q8(tensors["normal.weight"]))
    np.testing.assert_array_equal(found["normal.weight"], wanted)
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        stored = set(file.keys())
    assert {"grid.weight.q4", "normal.weight.q8", "kept.weight", "odd.weight"} <= stored


@pytest.mark.parametrize(("half", "bits", "error"), [(False, 8.5, 1 / 250), (True, 16, 2**-11)])
def test_a_matrix_takes_few_bits(tmp_path: Path, half: bool, bits: float, error: float) -> None:
    values = np.random.default_rng(3).uniform(-1, 1, size=(256, 256)).astype(np.float32)
    write_tensors(tmp_path / "a", {"w": values}, {}, half=half)
    assert bits <= 8 * (tmp_path / "a").stat().st_size / values.size < bits + 0.1
    found, _ = read_tensors(tmp_path / "a")
    assert found["w"].dtype == np.float32
    np.testing.assert_allclose(found["w"], values, atol=error)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are others there")
def test_others_may_read_what_is_written(tmp_path: Path) -> None:
    """A model trained by one user and served by another; safetensors writes for its owner alone."""
    before = os.umask(0o022)
    try:
        write_tensors(tmp_path / "a.safetensors", {"x": np.zeros((1, 32), np.float32)}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o644


def test_a_matrix_on_a_grid_takes_four_bits_wherever_it_can(tmp_path: Path) -> None:
    grid = np.full((256, 256), -8, np.float32)
    write_tensors(tmp_path / "a", {"w": grid}, {}, half=True)
    assert 8 * (tmp_path / "a").stat().st_size / grid.size < 4.6


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(OdqaError, match=r"weights\.safetensors"):
        read_tensors(path)
    write_tensors(path, {"w": np.ones((4, 64), np.float32)}, {})
    whole = path.read_bytes()
    for damaged in (whole[:-20], whole[:30], b"", b"no such format at all", b"\xff" * 64):
        path.write_bytes(damaged)
        with pytest.raises(OdqaError, match=r"weights\.safetensors"):
            read_tensors(path)
