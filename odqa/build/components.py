"""Configuration to components: the only tables from names to code.

A component is exchanged by a row in a table. What is heavy to import is imported in the row's own
function, so a search with BM25 alone never loads a transformer.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from odqa.config import Config, DenseConfig, FusionConfig, ReaderConfig, RerankConfig
from odqa.errors import ConfigError, IndexNotUsableError, OdqaError
from odqa.models.devices import check_device, check_precision
from odqa.pipeline import Pipeline
from odqa.protocols import Encoder, Fusion, Reader, Reranker
from odqa.retrieval.ranking import RowRetriever
from odqa.store import Manifest, PassageStore, open_groups, parse_manifest, read_manifest
from odqa.text.tokenizers import create_tokenizer

__all__ = [
    "create_encoder",
    "create_fusion",
    "create_polar",
    "create_reader",
    "create_reranker",
    "create_tokenizer",
    "open_pipeline",
    "open_retriever",
]

if TYPE_CHECKING:
    from odqa.reading.polar import PolarAnswerer

logger = logging.getLogger(__name__)

FactoryT = TypeVar("FactoryT")
LEGS = ("sparse", "dense")
_EXPORT = "model.onnx"  # marks a folder that holds a model in the bundled ones' form
RETRIEVERS: Mapping[str, tuple[str, ...]] = {
    "sparse": ("sparse",),
    "dense": ("dense",),
    "hybrid": LEGS,
}


def _static_encoder(config: DenseConfig, _: bool) -> Encoder:
    from odqa.models.static import StaticEncoder

    return StaticEncoder.load(None if config.encoder in ENCODERS else Path(config.encoder))


def _e5_encoder(config: DenseConfig, stored: bool) -> Encoder:
    from odqa.models.e5 import E5Encoder

    folder = None if config.encoder in ENCODERS else Path(config.encoder)
    wanted = "fp32" if stored or config.precision != "auto" else "auto"
    return E5Encoder.load(folder, precision=wanted)


def _transformers_encoder(config: DenseConfig, _: bool) -> Encoder:
    from odqa.retrieval.transformers_encoder import TransformersEncoder

    return TransformersEncoder.load(config)


def _extractive_reader(config: ReaderConfig) -> Reader:
    from odqa.reading.extractive import ExtractiveReader

    return ExtractiveReader.load(config)


def _log_linear_fusion(config: FusionConfig) -> Fusion:
    from odqa.fusion import LogLinearFusion

    return LogLinearFusion(config)


# The second argument: whether the vectors are stored in an index, which another machine may search,
# or only compared with each other within one question.
EncoderFactory = Callable[[DenseConfig, bool], Encoder]
ENCODERS: dict[str, EncoderFactory] = {
    "static-ko": _static_encoder,
    "e5-small-ko": _e5_encoder,
}
READERS: dict[str, Callable[[ReaderConfig], Reader]] = {
    "reader-ko": _extractive_reader,
}


def create_encoder(config: DenseConfig) -> Encoder:
    """The encoder that ``dense.encoder`` names.

    A bundled one; a file (a static encoder that ``odqa train encoder`` wrote); a folder with an
    exported e5; another folder or a Hugging Face id (a transformer).

    Raises:
        ConfigError: the name is none of these, or device or precision is unknown.
        MissingDependencyError: it needs a package that is not installed.
    """
    check_device(config.device, "dense.device")
    check_precision(config.precision, "dense.precision")
    return _encoder_factory(config.encoder, "dense.encoder")(config, True)


def create_reader(config: ReaderConfig) -> Reader:
    """The reader that ``reader.model`` names: a bundled one, a folder, or a Hugging Face id.

    Raises:
        ConfigError: the name is none of these, or the device is unknown.
        MissingDependencyError: it needs a package that is not installed.
    """
    check_device(config.device, "reader.device")
    return _named(READERS, config.model, "reader.model", _extractive_reader)(config)


def create_reranker(config: RerankConfig, dense: DenseConfig | None = None) -> Reranker | None:
    """The second stage, or None where ``rerank.encoder`` is "none".

    A Hugging Face model whose own settings name a sequence classifier is a cross-encoder. Lengths,
    batches, device and precision are those of ``dense``; the prefixes and the pooling are what the
    encoder's authors prescribe.

    Raises:
        ConfigError: the encoder's name is unknown, or a value is out of range.
    """
    if config.encoder == "none":
        return None
    factory = _encoder_factory(config.encoder, "rerank.encoder")
    if factory is _transformers_encoder:
        from odqa.retrieval.cross_encoder import (
            CrossEncoder,
            CrossEncoderReranker,
            is_cross_encoder,
        )

        if is_cross_encoder(config.encoder):
            crossed = CrossEncoder.load(config.encoder, dense or DenseConfig())
            return CrossEncoderReranker(crossed, config)
    from odqa.retrieval.rerank import EncoderReranker

    settings = dataclasses.replace(
        dense or DenseConfig(),
        encoder=config.encoder,
        pooling="auto",
        question_prefix=None,
        passage_prefix=None,
    )
    return EncoderReranker(factory(settings, False), config)


def create_fusion(config: FusionConfig) -> Fusion:
    """The fusion of readings into answers."""
    return _log_linear_fusion(config)


def create_polar(config: ReaderConfig) -> PolarAnswerer | None:
    """What answers yes/no questions, or None where they are left to the reader."""
    from odqa.reading.polar import PolarAnswerer

    return PolarAnswerer() if config.yes_no else None


def legs_of(retriever: str) -> tuple[str, ...]:
    """The legs that ``retrieval.retriever`` stands for.

    Raises:
        ConfigError: the name is unknown.
    """
    if retriever not in RETRIEVERS:
        known = ", ".join(RETRIEVERS)
        raise ConfigError(f"retrieval.retriever: unknown '{retriever}'; known: {known}")
    return RETRIEVERS[retriever]


def retriever_of(legs: Sequence[str]) -> str:
    """The name that stands for ``legs``, as recorded in a manifest."""
    return next(name for name, of_name in RETRIEVERS.items() if set(of_name) == set(legs))


def open_retriever(index_dir: Path | str, config: Config, leg: str | None = None) -> RowRetriever:
    """The retriever of a finished index: one leg or both merged.

    An index that an update replaces while its parts are being opened is opened again, so that all
    parts are of one.

    Args:
        index_dir: the folder of the index.
        config: of the search; what the index was built with is taken from its manifest.
        leg: "sparse", "dense" or "hybrid". None stands for ``config.retrieval.retriever``, or for
            the one leg that the index has where that is "hybrid".

    Raises:
        IndexNotUsableError: the index is unfinished, damaged, lacks the leg, or was built with
            another tokenizer, encoder or setting than the configuration asks for.
        ConfigError: ``leg`` is unknown, or a value is out of range.
    """
    index_dir = Path(index_dir)
    while True:
        manifest = read_manifest(index_dir)
        try:
            retriever = _open_as(manifest, index_dir, config, leg)
        except (OdqaError, OSError, ValueError):
            if parse_manifest(index_dir).checksum == manifest.checksum:
                raise
        else:
            if parse_manifest(index_dir).checksum == manifest.checksum:
                return retriever


def _open_as(manifest: Manifest, index_dir: Path, config: Config, leg: str | None) -> RowRetriever:
    from odqa.retrieval.collapse import Collapser, CollapsingRetriever
    from odqa.retrieval.hybrid import HybridRetriever
    from odqa.retrieval.overlap import OverlapOrder, OverlapRetriever

    config = configured_as_built(config, manifest, index_dir)
    wanted = legs_of(leg or config.retrieval.retriever)
    legs = tuple(name for name in wanted if name in manifest.legs)
    if not legs or (leg is not None and legs != wanted):
        raise IndexNotUsableError(
            f"{index_dir}: the index has only its {' and '.join(manifest.legs)} leg; search with "
            f"--retriever {manifest.legs[0]}, or build it again with --retriever hybrid --force"
        )
    if legs != wanted:
        logger.info("%s has no dense or no sparse leg; searching by %s alone", index_dir, legs[0])
    store = PassageStore.open(index_dir / "passages")
    open_leg = {"sparse": _open_sparse, "dense": _open_dense}
    opened = [open_leg[name](index_dir / name, store, config) for name in legs]
    collapse = Collapser(store, open_groups(index_dir, len(store)), config.retrieval)
    order = OverlapOrder(store, config.overlap)
    if len(opened) == 1:
        return CollapsingRetriever(OverlapRetriever(opened[0], order), collapse)
    sparse, dense = opened
    return HybridRetriever(sparse, dense, config.retrieval, collapse, order)


def open_pipeline(index: Path | str, config: Config) -> Pipeline:
    """Everything that is needed to answer questions over an index.

    Raises:
        OdqaError: as ``open_retriever``, ``create_reranker``, ``create_reader``.
    """
    hybrid = legs_of(config.retrieval.retriever) == LEGS
    return Pipeline(
        open_retriever(index, config),
        create_reader(config.reader),
        create_fusion(config.fusion),
        n_passages=config.reader.passages,
        reranker=create_reranker(config.rerank, config.dense) if hybrid else None,
        rerank_depth=config.rerank.depth,
        polar=create_polar(config.reader),
    )


def index_config(config: Config, legs: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The settings that the content of an index depends on, by section."""
    sections: dict[str, dict[str, Any]] = {
        "corpus": dataclasses.asdict(config.corpus),
        "duplicates": dataclasses.asdict(config.duplicates),
    }
    if "sparse" in legs:
        sections["tokenizer"] = dataclasses.asdict(config.tokenizer)
        sparse = dataclasses.asdict(config.sparse)
        del sparse["discount_question_words"]  # a matter of the question
        sections["sparse"] = sparse
    if "dense" in legs:
        dense = dataclasses.asdict(config.dense)
        for name in ("batch_tokens", "device", "precision"):  # how it is run, not what comes out
            del dense[name]
        sections["dense"] = dense
    return sections


def _open_sparse(directory: Path, store: PassageStore, config: Config) -> RowRetriever:
    from odqa.retrieval.bm25 import Bm25Retriever

    tokenizer = create_tokenizer(config.tokenizer.name)
    return Bm25Retriever.open(directory, store, tokenizer, config.sparse)


def _open_dense(directory: Path, store: PassageStore, config: Config) -> RowRetriever:
    from odqa.retrieval.dense import DenseRetriever

    return DenseRetriever.open(directory, store, create_encoder(config.dense), config.dense)


def configured_as_built(config: Config, manifest: Manifest, index_dir: Path) -> Config:
    """``config`` with the settings that an index was built with.

    A setting left at its default follows the index. One that was set to something else would be
    ignored, and the search be another than the user asked for: that is refused.
    """
    changes = {}
    for section, built in manifest.config.items():
        if section == "corpus":  # of no consequence for a search
            continue
        current = getattr(config, section)
        for key, value in built.items():
            asked = getattr(current, key, value)
            if asked not in (value, getattr(type(current)(), key, value)):
                raise IndexNotUsableError(
                    f"{index_dir}: the index was built with {section}.{key}={value}, but the "
                    f"configuration says {asked}; leave that out, or build the index again with it"
                )
        known = {field.name for field in dataclasses.fields(current)}
        changes[section] = dataclasses.replace(
            current, **{key: value for key, value in built.items() if key in known}
        )
    return dataclasses.replace(config, **changes)


def _encoder_factory(name: str, key: str) -> EncoderFactory:
    if name not in ENCODERS:
        if Path(name).is_file():
            return _static_encoder
        if (Path(name) / _EXPORT).is_file():
            return _e5_encoder
    return _named(ENCODERS, name, key, _transformers_encoder)


def _named(table: Mapping[str, FactoryT], name: str, key: str, other: FactoryT) -> FactoryT:
    """The row of a table, or ``other`` for what can only be a folder or a Hugging Face id."""
    if name in table:
        return table[name]
    if "/" in name or Path(name).is_dir():
        return other
    raise ConfigError(
        f"{key}: unknown '{name}'; known: {', '.join(sorted(table))}, the id of a Hugging Face "
        "model (OWNER/NAME), or a folder"
    )
