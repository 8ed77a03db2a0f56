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
        ConfigError: there are fewer layers than wanted, ``keep`` is unknown, or the model has no
            layers under the name that BERT gave them.
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

    layers = _layers_of(model)
    model.base_model.encoder.layer = torch.nn.ModuleList(layers[i] for i in chosen)
    model.config.num_hidden_layers = len(chosen)


def _layers_of(model: Any) -> Any:
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    if layers is None or not hasattr(model.base_model, "embeddings"):
        raise ConfigError(
            "layers and frozen_layers are for models built as BERT, RoBERTa or ELECTRA are, not "
            f"for '{model.config.model_type}'; leave them out"
        )
    return layers


def freeze(model: Any, n_layers: int) -> None:
    """Stop training the embeddings and the lowest ``n_layers`` layers (-1: nothing).

    Raises:
        ConfigError: the model has fewer, or none under the name that BERT gave them.
    """
    if n_layers < 0:
        return
    layers = _layers_of(model)
    if n_layers > len(layers):
        raise ConfigError(f"frozen_layers is {n_layers}, but the model has {len(layers)} layers")
    for module in [model.base_model.embeddings, *layers[:n_layers]]:
        module.requires_grad_(False)
