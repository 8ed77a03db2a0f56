"""Dropout of a Hugging Face model, other than its own."""

from __future__ import annotations

from typing import Any, Protocol


class DropoutConfig(Protocol):
    """Settings with rates of dropout; None: the model's own."""

    @property
    def hidden_dropout(self) -> float | None: ...

    @property
    def attention_dropout(self) -> float | None: ...


def set_dropout(settings: Any, config: DropoutConfig) -> None:
    """Put the rates that are given into a model's configuration."""
    if config.hidden_dropout is not None:
        settings.hidden_dropout_prob = config.hidden_dropout
    if config.attention_dropout is not None:
        settings.attention_probs_dropout_prob = config.attention_dropout
