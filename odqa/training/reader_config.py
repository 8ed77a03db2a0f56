"""What a reader is trained with."""

from __future__ import annotations

from dataclasses import dataclass, field

from odqa.training.loop_config import LoopConfig


@dataclass(frozen=True, slots=True)
class TeacherConfig:
    """A reader to imitate, see ``odqa.training.distillation``."""

    model: str = ""  # a trained reader: a Hugging Face id or folder; none: nobody teaches
    weight: float = 0.5  # of the distance from the teacher; the answers have the rest
    temperature: float = 2.0  # what the logits of both are divided by
    hidden: float = 1.0  # what the layers' distance counts beside the logits'


@dataclass(frozen=True, slots=True)
class ReaderTrainingConfig:
    """What to fine-tune and how. Lengths are in pieces."""

    model: str = ""  # a Hugging Face id or folder: any encoder
    layers: int = 0  # keep only n layers; 0: all
    keep: str = "lowest"  # which ones: lowest, or spread (evenly over the depth)
    frozen_layers: int = -1  # the embeddings and the n lowest layers are not trained; -1: all are
    morphemes: bool | None = None  # cut text at morpheme boundaries first; None: as the model's is
    titles: bool = True  # put the passage's title in front of it
    max_length: int = 384
    stride: int = 128
    max_question_length: int = 64
    negatives: float = 0.2  # answerless passages of the same article, for each question
    mined_negatives: float = 0.5  # passages of --negatives, for each of their questions
    group_negatives: int = 0  # so many of them compete with each question's own passage instead
    group_weight: float = 0.5  # of the loss over a question's passages together
    empty_windows: float = 0.25  # share of a long passage's answerless windows that is kept
    hidden_dropout: float | None = None  # None: the model's own; on a CPU it takes half of a step
    attention_dropout: float | None = None  # likewise
    token_dropout: float = 0.0  # share of the pieces that are hidden behind the mask token
    max_answer_chars: int = 60  # in evaluation: a longer span is no answer
    n_best: int = 5  # in evaluation: readings kept of each passage
    best_by: str = "f1"  # figure on --dev that the best checkpoint is chosen by
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
