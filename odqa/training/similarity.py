"""Teaching an encoder by another one's similarities.

What is near to what is learnt from a better and slower encoder: of a question, the softmax of its
similarities to a set of passages is brought towards that of the teacher's (a listwise form of
G. Hinton, O. Vinyals and J. Dean, Distilling the Knowledge in a Neural Network, 2015). The two
need not have vectors of one length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812

from odqa.errors import ConfigError
from odqa.protocols import Encoder


@dataclass(frozen=True, slots=True)
class SimilarityTeacherConfig:
    """An encoder to imitate."""

    model: str = ""  # a bundled encoder, a Hugging Face id or a folder; none: nobody teaches
    weight: float = 0.5  # of the distance from the teacher; the contrast has the rest
    temperature: float = 0.05  # what the teacher's similarities are divided by
    max_length: int = 256  # of what a transformer as the teacher reads, in tokens


def load_teacher(config: SimilarityTeacherConfig) -> Encoder | None:
    """The encoder that ``config`` names, or None.

    Raises:
        ConfigError: weight or temperature is out of range, or the name is no encoder's.
        OdqaError: the model cannot be loaded.
    """
    from odqa.build import create_encoder
    from odqa.config import DenseConfig

    if not 0 <= config.weight <= 1:
        raise ConfigError(f"teacher.weight must lie in [0, 1], got {config.weight}")
    if config.temperature <= 0:
        raise ConfigError(f"teacher.temperature must be above 0, got {config.temperature}")
    if not config.model or not config.weight:
        return None
    return create_encoder(DenseConfig(encoder=config.model, max_length=config.max_length))


def divergence(logits: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of the students' distributions from the teacher's, their mean.

    Args:
        logits: (questions, passages) the student's similarities over its temperature.
        taught: the teacher's, of the same shape; where the student's are masked, these are too.
    """
    return F.kl_div(
        logits.log_softmax(-1), taught.log_softmax(-1), log_target=True, reduction="batchmean"
    )
