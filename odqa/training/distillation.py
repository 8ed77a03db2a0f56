"""Teaching a small reader by a large one: its logits, and its layers' outputs.

The student learns to put its probabilities where the teacher puts them (G. Hinton, O. Vinyals and
J. Dean, Distilling the Knowledge in a Neural Network, 2015), and each of its layers to give what
the teacher's layer at the same share of the depth gives (S. Sun et al., Patient Knowledge
Distillation for BERT Model Compression, EMNLP 2019). The answers need not be right: made questions
will do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812

from odqa.errors import ConfigError, OdqaError
from odqa.reading.checkpoint import ReaderTokenizer, load_reader_tokenizer
from odqa.training.layers import spread

_PROBE = ("훈민정음을 만든 임금은?", "훈민정음", "세종은 1443년에 훈민정음을 만들었다.")
_MASKED = -1e4


class Teacher:
    """A trained reader, and how far a student is from it."""

    def __init__(
        self, name: str, student: ReaderTokenizer, *, temperature: float, hidden: float
    ) -> None:
        """Load the reader ``name``: a Hugging Face id or folder.

        Args:
            name: of the teacher.
            student: the tokenizer of what is taught; the teacher must cut text as it does.
            temperature: what both's logits are divided by, so that also unlikely places count.
            hidden: what the distance of the layers counts beside that of the logits; 0: nothing.

        Raises:
            ConfigError: ``temperature`` or ``hidden`` is out of range, or teacher and student do
                not see the same pieces.
            OdqaError: the model cannot be loaded.
        """
        from transformers import AutoModelForQuestionAnswering

        if temperature <= 0 or hidden < 0:
            raise ConfigError(
                "teacher.temperature must be above 0 and teacher.hidden at least 0, got "
                f"{temperature} and {hidden}"
            )
        try:
            self.model: Any = AutoModelForQuestionAnswering.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise OdqaError(f"teacher.model '{name}' cannot be loaded: {error}") from error
        self.model.float().eval().requires_grad_(False)
        self.temperature, self.hidden = temperature, hidden
        tokenizer = load_reader_tokenizer(name)
        ours, theirs = (
            [(pieces.ids.tolist(), pieces.starts.tolist()) for pieces in t.encode(list(_PROBE))]
            for t in (student, tokenizer)
        )
        if ours != theirs or student.layout != tokenizer.layout:
            raise ConfigError(
                f"teacher.model: '{name}' cuts text into other pieces than the student, or lays "
                "them out otherwise; a teacher has its student's tokenizer, morphemes and titles"
            )

    def check(self, student: torch.nn.Module) -> None:
        """Refuse a student whose layers cannot be held against the teacher's.

        Raises:
            ConfigError: it is wider or narrower, or has more layers.
        """
        if not self.hidden:
            return
        mine, its = self.model.config, cast("Any", student).config
        for what, meaning, bad in (
            ("hidden_size", "numbers a token", mine.hidden_size != its.hidden_size),
            ("num_hidden_layers", "layers", mine.num_hidden_layers < its.num_hidden_layers),
        ):
            if bad:
                raise ConfigError(
                    f"teacher.hidden: the teacher has {getattr(mine, what)} {meaning}, the student "
                    f"{getattr(its, what)}; give --set teacher.hidden=0"
                )

    def distance(
        self,
        inputs: Mapping[str, torch.Tensor],
        output: Any,
        counts: tuple[float, float] | None = None,
    ) -> torch.Tensor:
        """How far the student is from the teacher on a batch.

        The Kullback-Leibler divergence of its start and end probabilities from the teacher's, both
        at the temperature, times its square (so that the gradients keep their size), and ``hidden``
        times the mean squared difference of the layers' outputs, each brought to length 1.

        Args:
            inputs: what the teacher is given.
            output: the student's, with its hidden states where ``hidden`` counts.
            counts: how many windows and how many pieces the two means are over; None: those of
                the batch. One process's share of a batch has more or fewer than another's.
        """
        self.model.to(inputs["input_ids"].device)
        with torch.no_grad():
            taught = self.model(**inputs, output_hidden_states=bool(self.hidden))
        mask = inputs["attention_mask"] == 0
        n_windows, n_pieces = counts or (len(mask), (~mask).sum())
        found = torch.zeros((), device=mask.device)
        for name in ("start_logits", "end_logits"):
            right, logits = (
                (o[name].float() / self.temperature).masked_fill(mask, _MASKED)
                for o in (taught, output)
            )
            divergence = F.kl_div(
                logits.log_softmax(-1),
                right.log_softmax(-1),
                log_target=True,
                reduction="sum",
            )
            found = found + divergence / n_windows * self.temperature**2 / 2
        if self.hidden:
            found = found + self.hidden * _distance_of_layers(
                taught.hidden_states[1:], output.hidden_states[1:], ~mask, n_pieces
            )
        return found


def _distance_of_layers(
    teacher: Sequence[torch.Tensor],
    student: Sequence[torch.Tensor],
    seen: torch.Tensor,
    n_pieces: float | torch.Tensor,
) -> torch.Tensor:
    """Mean over layers and pieces of the squared distance of the directions, in [0, 4]."""
    chosen = [teacher[i] for i in spread(len(teacher), len(student))]
    weights = seen / n_pieces
    total = torch.zeros((), device=seen.device)
    for right, given in zip(chosen, student, strict=True):
        difference = F.normalize(right.float(), dim=-1) - F.normalize(given.float(), dim=-1)
        total = total + (difference.square().sum(-1) * weights).sum()
    return total / len(student)
