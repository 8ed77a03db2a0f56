"""A masked language model and its tokenizer: new, or one to go on from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from odqa.errors import ConfigError, OdqaError
from odqa.models.cut_tokenizer import CutTokenizer, load_cut_tokenizer
from odqa.reading.extractive import positions
from odqa.training.dropout import set_dropout
from odqa.training.new_vocabulary import take_vocabulary
from odqa.training.randomness import seed_everything

if TYPE_CHECKING:
    from odqa.training.pretraining import PretrainingConfig


def surroundings(tokenizer: CutTokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special pieces before and after a text, seen from one that the tokenizer made."""
    encoded = tokenizer.backend("가")
    owners = encoded.sequence_ids()
    ids, first = encoded["input_ids"], owners.index(0)
    last = max(i for i, owner in enumerate(owners) if owner == 0)
    return tuple(ids[:first]), tuple(ids[last + 1 :])


def load_model(config: PretrainingConfig) -> tuple[Any, CutTokenizer]:
    """(model, tokenizer): a new masked language model, or one to go on from.

    With another tokenizer than its own, the model takes that one's vocabulary
    (``odqa.training.new_vocabulary``).

    Raises:
        OdqaError: a model or tokenizer cannot be loaded, or they do not fit together.
        ConfigError: a sequence is longer than the model reads.
    """
    from transformers import AutoModelForMaskedLM

    seed_everything(config.loop.seed)
    tokenizer = _tokenizer(config.tokenizer or config.model, "--tokenizer", config.morphemes)
    if config.model:
        model = _known_model(config, tokenizer)
    else:
        settings = _new_config(config, tokenizer)
        set_dropout(settings, config)
        model = AutoModelForMaskedLM.from_config(settings)  # type: ignore[no-untyped-call]
    if config.max_length > (most := positions(model)):
        raise ConfigError(
            f"max_length is {config.max_length}, but the model reads at most {most} pieces; give "
            f"--set max_length={most} or less"
        )
    return model, tokenizer


def _known_model(config: PretrainingConfig, tokenizer: CutTokenizer) -> Any:
    from transformers import AutoConfig, AutoModelForMaskedLM

    try:
        settings = AutoConfig.from_pretrained(config.model)
        set_dropout(settings, config)
        model = AutoModelForMaskedLM.from_pretrained(config.model, config=settings)
    except (OSError, ValueError) as error:
        raise OdqaError(f"--model '{config.model}' cannot be loaded: {error}") from error
    model.float()  # weights are trained in fp32, whatever they were stored in
    if config.tokenizer:
        take_vocabulary(model, _tokenizer(config.model, "--model", None), tokenizer)
    return model


def _tokenizer(name: str, option: str, morphemes: bool | None) -> CutTokenizer:
    try:
        tokenizer = load_cut_tokenizer(name, morphemes=morphemes)
    except (OSError, ValueError) as error:
        raise OdqaError(f"{option} '{name}' cannot be loaded: {error}") from error
    if tokenizer.backend.pad_token_id is None:
        raise OdqaError(f"{option} '{name}' has no padding token")
    return tokenizer


def _new_config(config: PretrainingConfig, tokenizer: CutTokenizer) -> Any:
    from transformers import BertConfig, ElectraConfig

    backend = tokenizer.backend
    sizes: dict[str, Any] = {
        "vocab_size": len(backend),
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.positions,
        "pad_token_id": backend.pad_token_id,
        "bos_token_id": backend.bos_token_id,
        "eos_token_id": backend.eos_token_id,
    }
    if config.kind == "electra":
        return ElectraConfig(**sizes, embedding_size=config.embedding_size)
    return BertConfig(**sizes)
