"""What a run draws: seeds, the order of its data, and the states that a checkpoint holds."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)  # transformers still uses it
    torch.manual_seed(seed)


def length_batches(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """All indices in batches of similar length (little padding), in an order the seed decides."""
    shuffled = np.random.default_rng(seed).permutation(len(lengths))
    pool = batch_size * 32
    batches = []
    for begin in range(0, len(shuffled), pool):
        part = sorted(shuffled[begin : begin + pool].tolist(), key=lambda i: (lengths[i], i))
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    random.Random(seed).shuffle(batches)
    return batches


def random_state(device: torch.device) -> dict[str, Any]:
    """The states of all generators, in types that torch loads without unpickling code."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Put the states of ``random_state`` back."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
