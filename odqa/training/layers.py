"""Which layers of a Hugging Face encoder are kept, and which are trained."""

from __future__ import annotations

from typing import Any, Protocol

from odqa.errors import ConfigError


class LayersConfig(Protocol):
    """Settings of what is kept and trained."""

    @property
    def layers(self) -> int:
        """So many are kept; 0: all."""
        ...

    @property
    def keep(self) -> str:
        """Which ones: "lowest", or "spread" over the depth."""
        ...

    @property
    def frozen_layers(self) -> int:
        """The embeddings and so many layers are not trained; -1: all are."""
        ...


def spread(n_layers: int, wanted: int) -> list[int]:
    """``wanted`` of ``n_layers`` layers at even distances, the highest among them.

    Of 12 layers 4 are the layers 2, 5, 8 and 11, counted from 0.
    """
    return [(i + 1) * n_layers // wanted - 1 for i in range(wanted)]


def set_layers(model: Any, config: LayersConfig) -> None:
    """Throw away the layers that are not wanted, and stop the training of the frozen ones.

    Raises:
        ConfigError: there are fewer layers than wanted, or ``keep`` is unknown.
    """
    if config.keep not in ("lowest", "spread"):
        raise ConfigError(f"keep: must be lowest or spread, not '{config.keep}'")
    found = model.config.num_hidden_layers
    if not 0 <= config.layers <= found:
        raise ConfigError(
            f"layers must lie in 1 to {found}, the model's number, or be 0 for all; "
            f"got {config.layers}"
        )
    if config.layers:
        lowest = config.keep == "lowest"
        _keep(model, range(config.layers) if lowest else spread(found, config.layers))
    freeze(model, config.frozen_layers)


def _keep(model: Any, chosen: range | list[int]) -> None:
    import torch

    encoder = model.base_model.encoder
    encoder.layer = torch.nn.ModuleList(encoder.layer[i] for i in chosen)
    model.config.num_hidden_layers = len(chosen)


def freeze(model: Any, n_layers: int) -> None:
    """Stop training the embeddings and the lowest ``n_layers`` layers (-1: nothing)."""
    if n_layers < 0:
        return
    base = model.base_model
    for module in [base.embeddings, *base.encoder.layer[:n_layers]]:
        module.requires_grad_(False)
