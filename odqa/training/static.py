"""Training the static encoder: a vector for each term, learnt from text alone and questions.

Two texts that belong together are drawn near, against all others of the batch (InfoNCE, van den
Oord et al. 2018): a part of one sentence and the rest of its passage (inverse cloze task, Lee et
al. 2019), and a question and the passage that answers it. The table begins as the vectors that a
sentence encoder gives to the terms alone, reduced by PCA and scaled down for frequent terms
(Arora et al. 2017). A teacher may also say how similar each question of a batch is to each passage
that answers one of them (``odqa.training.similarity``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812

from odqa.errors import ConfigError, UsageError
from odqa.models.static import StaticEncoder, make_bags
from odqa.models.weights import write_tensors
from odqa.protocols import Encoder, Vectors
from odqa.text.tokenizers import create_tokenizer
from odqa.training.distributed import world_size
from odqa.training.loop import train
from odqa.training.loop_config import LoopConfig
from odqa.training.outputs import held
from odqa.training.randomness import seed_everything
from odqa.training.record import digest_of
from odqa.training.similarity import SimilarityTeacherConfig, divergence, load_teacher
from odqa.training.term_passages import Ids, TermPassages, read_term_passages
from odqa.types import Passage

logger = logging.getLogger(__name__)

TAUGHT = "teacher.npz"


@dataclass(frozen=True, slots=True)
class StaticTrainingConfig:
    """What to train and how."""

    tokenizer: str = "mecab"
    terms: int = 60_000  # size of the vocabulary: the most frequent ones
    dim: int = 256
    every: int = 1  # take each n-th article of the corpus
    temperature: float = 0.05
    question_share: float = 0.1  # of a batch; the rest are cloze pairs
    keep_sentence: float = 0.3  # how often the passage keeps the sentence asked from
    keep_title: float = 0.9
    title_weight: int = 3  # how often a passage's title counts, as in the sparse index
    teacher: SimilarityTeacherConfig = field(default_factory=SimilarityTeacherConfig)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            epochs=10, batch_size=1024, learning_rate=2e-3, weight_decay=0.0, save_every=500,
            log_every=50,
        )
    )  # fmt: skip

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            ConfigError: a value is out of range.
            UsageError: the loop is to look at evaluations; a static encoder has none.
        """
        for name in ("terms", "dim", "every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.title_weight < 0:
            raise ConfigError(f"title_weight must be 0 or more, got {self.title_weight}")
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be above 0, got {self.temperature}")
        for name in ("question_share", "keep_sentence", "keep_title"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        self.loop.check()  # before the corpus is read, which takes a while
        self.loop.check_unevaluated("measure the table with odqa evaluate when it is done")


def initial_table(
    terms: Sequence[str], counts: npt.NDArray[np.int64], encoder: Encoder, dim: int
) -> Vectors:
    """(terms, dim): the encoder's vectors of the terms alone, by PCA, weighted by rarity.

    The weight is a / (a + p) with p the term's share of all terms and a = 1e-3 (Arora et al. 2017).
    """
    vectors = encoder.encode_questions(terms)
    vectors = vectors - vectors.mean(axis=0)
    _, _, components = np.linalg.svd(vectors, full_matrices=False)
    reduced = vectors @ components[:dim].T
    reduced /= np.maximum(np.linalg.norm(reduced, axis=1, keepdims=True), 1e-12)
    share = counts / counts.sum()
    return np.asarray(reduced * (1e-3 / (1e-3 + share))[:, None], dtype=np.float32)


class StaticModel(torch.nn.Module):
    """The table and the question weights."""

    def __init__(self, table: Vectors) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.from_numpy(table))
        self.question_weights = torch.nn.Parameter(torch.ones(len(table)))

    def forward(self, texts: Sequence[Ids], *, questions: bool) -> torch.Tensor:
        """(texts, dim) rows of unit length."""
        bags = make_bags(texts)
        device = self.table.device
        ids = torch.from_numpy(bags.ids).long().to(device)
        weights = torch.from_numpy(bags.weights).to(device)
        if questions:
            weights = weights * self.question_weights[ids]
        starts = torch.from_numpy(bags.starts[:-1]).to(device)
        sums = F.embedding_bag(ids, self.table, starts, mode="sum", per_sample_weights=weights)
        return F.normalize(sums, dim=1)


class StaticTask:
    """Pairs of texts and the contrastive loss over a batch of them."""

    def __init__(
        self,
        model: StaticModel,
        passages: TermPassages,
        questions: Sequence[tuple[Ids, Ids]],
        config: StaticTrainingConfig,
        taught: tuple[Vectors, Vectors] | None = None,
    ) -> None:
        """``taught``: the teacher's vectors of the questions and of their passages."""
        self.model, self.passages, self.questions = model, passages, questions
        self.config, self._taught = config, taught

    def batches(self, epoch: int) -> list[tuple[int, Ids]]:
        """The passages of an epoch in batches, each with a seed for what is drawn from them."""
        seed = self.config.loop.seed + epoch
        order = np.random.default_rng(seed).permutation(len(self.passages)).astype(np.int32)
        share = self.config.question_share if self.questions else 0.0
        size = max(round(self.config.loop.batch_size * (1 - share)), 1)
        cuts = range(0, max(len(order) - size, 1), size)
        return [(seed * 1_000_003 + i, order[i : i + size]) for i in cuts]

    def loss(self, batch: tuple[int, Ids], whole: Any = None) -> torch.Tensor:
        """InfoNCE in both directions over the pairs of a batch.

        With a teacher, its weighted mean with the divergence from the teacher's similarities,
        over the batch's questions and the passages that answer them.
        """
        seed, rows = batch
        random = np.random.default_rng(seed)
        pairs = [pair for row in rows if (pair := self._cloze(int(row), random)) is not None]
        n_questions = min(self.config.loop.batch_size - len(rows), len(self.questions))
        chosen = random.choice(len(self.questions), n_questions, replace=False)
        pairs += [self.questions[i] for i in chosen]
        asked = self.model([question for question, _ in pairs], questions=True)
        given = self.model([passage for _, passage in pairs], questions=False)
        logits = asked @ given.T / self.config.temperature
        labels = torch.arange(len(pairs), device=logits.device)
        loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        if self._taught is None or not n_questions:
            return loss
        asked_by, given_by = (vectors[chosen] for vectors in self._taught)
        right = torch.from_numpy(asked_by @ given_by.T).to(logits.device)
        distance = divergence(
            logits[-n_questions:, -n_questions:], right / self.config.teacher.temperature
        )
        return (1 - self.config.teacher.weight) * loss + self.config.teacher.weight * distance

    def evaluate(self) -> dict[str, float]:
        """None: what a table is worth shows in the retrieval task alone."""
        return {}

    def save(self, folder: Path) -> None:
        """Write the weights as they are (what is used is written at the end, made smaller)."""
        from safetensors.torch import save_model

        save_model(self.model, str(folder / "model.safetensors"))

    def _cloze(self, row: int, random: np.random.Generator) -> tuple[Ids, Ids] | None:
        """Part of a sentence (half the time with the title), and the passage, mostly without."""
        passage = self.passages[row]
        if not passage.sentences:
            return None
        chosen = int(random.integers(len(passage.sentences)))
        sentence = passage.sentences[chosen]
        part = sentence[random.random(len(sentence)) < random.uniform(0.3, 0.9)]
        if random.random() < 0.5:
            part = np.concatenate([passage.title, part])
        keep = random.random() < self.config.keep_sentence or len(passage.sentences) == 1
        rest = [s for i, s in enumerate(passage.sentences) if keep or i != chosen]
        if random.random() < self.config.keep_title:
            rest = [passage.title] * self.config.title_weight + rest
        text = np.concatenate(rest)
        return (part, text) if len(part) and len(text) else None


def question_pairs(
    pairs: Sequence[tuple[str, Passage]], terms: Sequence[str], config: StaticTrainingConfig
) -> dict[int, tuple[Ids, Ids]]:
    """(question, passage with its title) in term numbers, by place in ``pairs``.

    Those of which nothing is left are not there.
    """
    tokenizer = create_tokenizer(config.tokenizer)
    numbers = {term: i for i, term in enumerate(terms)}

    def known(texts: Sequence[str]) -> list[Ids]:
        found = tokenizer.tokenize(texts)
        return [np.array([numbers[t] for t in text if t in numbers], np.int32) for text in found]

    questions = known([question for question, _ in pairs])
    passages = known([f"{p.title}\n" * config.title_weight + p.text for _, p in pairs])
    both = enumerate(zip(questions, passages, strict=True))
    return {i: (question, passage) for i, (question, passage) in both
            if len(question) and len(passage)}  # fmt: skip


def taught_vectors(
    pairs: Sequence[tuple[str, Passage]], teacher: Encoder, cache: Path
) -> tuple[Vectors, Vectors]:
    """The teacher's vectors of the questions and of their passages, kept in ``cache``.

    A cache of another teacher, or of other pairs, is made anew.
    """
    source = f"{teacher.fingerprint} {_digest_of_pairs(pairs)}"
    if cache.exists():
        with np.load(cache, allow_pickle=False) as arrays:
            if arrays["teacher"] == source:
                return arrays["asked"], arrays["given"]
    logger.info("the teacher reads %d questions and their passages", len(pairs))
    asked = teacher.encode_questions([question for question, _ in pairs])
    given = teacher.encode_passages([passage for _, passage in pairs])
    part = cache.with_name(cache.name + ".part")
    with part.open("wb") as file:
        np.savez(file, asked=asked, given=given, teacher=np.array(source))
    part.replace(cache)
    return asked, given


def _digest_of_pairs(pairs: Sequence[tuple[str, Passage]]) -> str:
    return digest_of([question, p.title, p.text] for question, p in pairs)


def train_static(
    corpus: str,
    pairs: Sequence[tuple[str, Passage]],
    config: StaticTrainingConfig,
    output: Path,
    *,
    initial: Encoder | None,
) -> StaticEncoder:
    """Train and write ``output/static-ko.safetensors``; continues an interrupted run.

    Args:
        corpus: any source that ``read_documents`` takes.
        pairs: (question, passage), to learn from beside the corpus.
        config: sizes, shares and the loop.
        output: the run's folder.
        initial: gives the initial vectors of the terms; None starts at random.

    Raises:
        ConfigError, UsageError: a value is out of range, or another process is training into
            ``output``.
    """
    if world_size() > 1:
        raise UsageError(
            "a static encoder is trained by one process: its loss sets each text of a batch "
            "against all others; leave torchrun out"
        )
    config.check()
    teacher = load_teacher(config.teacher)
    with held(output):
        return _train(corpus, pairs, config, output, initial, teacher)


def _train(
    corpus: str,
    pairs: Sequence[tuple[str, Passage]],
    config: StaticTrainingConfig,
    output: Path,
    initial: Encoder | None,
    teacher: Encoder | None,
) -> StaticEncoder:
    source = {
        "corpus": Path(corpus).name,
        "bytes": Path(corpus).stat().st_size if Path(corpus).is_file() else 0,
        "tokenizer": config.tokenizer,
        "every": config.every,
        "terms": config.terms,
        "initial": initial.fingerprint if initial else "random",
        "dim": config.dim,
    }
    if config.loop.overwrite:
        for pattern in ("passages-*.npz", "initial-*.npy", TAUGHT):
            for path in output.glob(pattern):
                path.unlink()
    # what is kept for going on is told from that of another run in the same folder
    key = hashlib.blake2b(json.dumps(source).encode(), digest_size=4).hexdigest()
    seed_everything(config.loop.seed)
    passages, terms = read_term_passages(
        corpus,
        output / f"passages-{key}.npz",
        tokenizer=config.tokenizer,
        every=config.every,
        most_terms=config.terms,
    )
    questions = question_pairs(pairs, terms, config)
    logger.info(
        "%d passages, %d terms, %d question pairs", len(passages), len(terms), len(questions)
    )
    model = StaticModel(_start(passages, terms, config, output / f"initial-{key}.npy", initial))
    taught = None
    if teacher is not None:
        taught = taught_vectors([pairs[i] for i in questions], teacher, output / TAUGHT)
    task = StaticTask(model, passages, list(questions.values()), config, taught)
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k != "loop"} | source
    settings["questions"] = _digest_of_pairs(pairs)
    record = train(task, config.loop, output, settings=settings)
    path = output / "static-ko.safetensors"
    _write(path, model, terms, config)
    summary = {"config": dataclasses.asdict(config), "corpus": Path(corpus).name, **record}
    summary |= {"n_passages": len(passages), "n_terms": len(terms), "n_questions": len(questions)}
    summary["initial"] = source["initial"]
    (output / "run.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    return StaticEncoder.load(path)


def _start(
    passages: TermPassages,
    terms: Sequence[str],
    config: StaticTrainingConfig,
    cache: Path,
    initial: Encoder | None,
) -> Vectors:
    if initial is None:
        random = np.random.default_rng(config.loop.seed)
        return random.normal(0, 0.1, (len(terms), config.dim)).astype(np.float32)
    if not cache.exists():
        counts = np.bincount(passages.ids, minlength=len(terms))
        np.save(cache, initial_table(terms, counts, initial, config.dim), allow_pickle=False)
    return np.asarray(np.load(cache, allow_pickle=False), dtype=np.float32)


def _write(
    path: Path, model: StaticModel, terms: Sequence[str], config: StaticTrainingConfig
) -> None:
    tensors = {
        "table": model.table.detach().cpu().numpy(),
        "question_weights": model.question_weights.detach().cpu().numpy(),
        "terms": np.frombuffer("\n".join(terms).encode("utf-8"), dtype=np.uint8),
    }
    metadata = {
        "tokenizer_name": config.tokenizer,
        "tokenizer": create_tokenizer(config.tokenizer).fingerprint,
        "title_weight": str(config.title_weight),
    }
    write_tensors(path, tensors, metadata)
