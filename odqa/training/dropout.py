"""Dropout of a Hugging Face model, other than its own."""

from __future__ import annotations

from typing import Any, Protocol

from odqa.errors import ConfigError


class DropoutConfig(Protocol):
    """Settings with rates of dropout; None: the model's own."""

    @property
    def hidden_dropout(self) -> float | None: ...

    @property
    def attention_dropout(self) -> float | None: ...


def set_dropout(settings: Any, config: DropoutConfig) -> None:
    """Put the rates that are given into a model's configuration.

    Raises:
        ConfigError: a rate does not lie in [0, 1), or the model has it under another name.
    """
    given = {
        "hidden_dropout": ("hidden_dropout_prob", config.hidden_dropout),
        "attention_dropout": ("attention_probs_dropout_prob", config.attention_dropout),
    }
    for name, (of_model, rate) in given.items():
        if rate is None:
            continue
        if not 0 <= rate < 1:
            raise ConfigError(f"{name} must lie in [0, 1), got {rate}")
        if not hasattr(settings, of_model):
            raise ConfigError(
                f"{name}: a model of the kind '{settings.model_type}' has no {of_model}; "
                "leave it out, and the model keeps its own"
            )
        setattr(settings, of_model, rate)
