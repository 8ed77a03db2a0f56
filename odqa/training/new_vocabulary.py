"""A masked language model goes over to another vocabulary without forgetting what it knows."""

from __future__ import annotations

from typing import Any

import torch

from odqa.errors import OdqaError
from odqa.models.cut_tokenizer import CutTokenizer, uses_space_marks
from odqa.models.pieces import SPACE, PieceTokenizer

_MARK = "▁"
_CONTINUES = "##"  # WordPiece: does not begin a word
_ROLES = ("bos", "eos", "cls", "sep", "pad", "unk", "mask")


def take_vocabulary(model: Any, old: CutTokenizer, new: CutTokenizer) -> None:
    """Give ``model`` the rows of another vocabulary, in place.

    A piece that both have keeps its row of the embeddings and of the output layer. Any other begins
    as the mean of the rows of the old pieces that spell it, and special pieces as the old ones of
    their role.

    Args:
        model: an ``AutoModelForMaskedLM``.
        old: its tokenizer.
        new: the tokenizer that it is to have; its pieces mark spaces ("▁") or what does not begin a
            word ("##").

    Raises:
        OdqaError: the new tokenizer marks neither, or the model counts its positions from another
            padding token.
    """
    pad = new.backend.pad_token_id
    positions = getattr(model.base_model.embeddings, "position_embeddings", None)
    first = getattr(positions, "padding_idx", None)
    if first is not None and first != pad:
        raise OdqaError(
            f"the model counts positions from its padding token {first}, and the new tokenizer's "
            f"is {pad}; use a tokenizer in which it has the same number"
        )
    rows = spelt(old, new)
    inputs = model.get_input_embeddings().weight.detach().clone()
    outputs = model.get_output_embeddings()
    weight = outputs.weight.detach().clone()
    bias = None if outputs.bias is None else outputs.bias.detach().clone()
    model.resize_token_embeddings(len(rows), mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(_means(inputs, rows))
        outputs = model.get_output_embeddings()
        outputs.weight.copy_(_means(weight, rows))  # the same again where it is the same tensor
        if bias is not None:
            outputs.bias.copy_(_means(bias[:, None], rows)[:, 0])
    model.get_input_embeddings().padding_idx = pad
    for role in ("bos", "eos", "pad"):
        setattr(model.config, f"{role}_token_id", getattr(new.backend, f"{role}_token_id"))


def spelt(old: CutTokenizer, new: CutTokenizer) -> list[list[int]]:
    """For each piece of the new vocabulary, the old pieces that stand for it, at least one."""
    old_ids, new_ids = old.backend.get_vocab(), new.backend.get_vocab()
    rows: list[list[int]] = [[] for _ in range(max(new_ids.values()) + 1)]
    for role in _ROLES:
        mine, theirs = (getattr(t.backend, f"{role}_token_id") for t in (new, old))
        if mine is not None and theirs is not None:
            rows[mine] = [theirs]
    same_marks = uses_space_marks(old.backend) == uses_space_marks(new.backend)
    missing = [(piece, row) for piece, row in new_ids.items() if not rows[row]]
    if same_marks:
        for piece, row in missing:
            if piece in old_ids:
                rows[row] = [old_ids[piece]]
        missing = [(piece, row) for piece, row in missing if not rows[row]]
    parts = [_part(piece, new) for piece, _ in missing]
    for (_, row), found in zip(missing, _encode(parts, old), strict=True):
        rows[row] = found
    unknown = old.backend.unk_token_id
    return [row or [0 if unknown is None else unknown] for row in rows]


def _part(piece: str, tokenizer: CutTokenizer) -> str:
    """A piece as text, with a space before it if it begins a word."""
    if uses_space_marks(tokenizer.backend):
        return piece.replace(_MARK, SPACE)
    kind = type(tokenizer.backend.backend_tokenizer.model).__name__
    if kind != "WordPiece":
        raise OdqaError(
            f"the new tokenizer ({kind}) marks neither spaces nor what begins no word; make one "
            f"with odqa train tokenizer"
        )
    bare = piece.removeprefix(_CONTINUES)
    return bare if piece.startswith(_CONTINUES) else SPACE + bare


def _encode(parts: list[str], tokenizer: CutTokenizer) -> list[list[int]]:
    """The pieces of parts of words, each alone."""
    if uses_space_marks(tokenizer.backend):
        return PieceTokenizer(tokenizer.backend.backend_tokenizer).encode_parts(parts)
    found = [pieces.ids.tolist() for pieces in tokenizer.encode([part.strip() for part in parts])]
    if type(tokenizer.backend.backend_tokenizer.model).__name__ != "WordPiece":
        return found
    ids = tokenizer.backend.get_vocab()
    names = {number: name for name, number in ids.items()}
    # what begins no word has its own first piece in a WordPiece vocabulary, if it has it
    return [
        [ids.get(_CONTINUES + names[row[0]], row[0]), *row[1:]]
        if row and not part.startswith(SPACE)
        else row
        for part, row in zip(parts, found, strict=True)
    ]


def _means(weight: torch.Tensor, rows: list[list[int]]) -> torch.Tensor:
    """(new, dim): of each new piece the mean of its rows of ``weight``, (old, dim)."""
    lengths = torch.tensor([len(row) for row in rows], device=weight.device)
    flat = torch.tensor([i for row in rows for i in row], device=weight.device)
    owners = torch.repeat_interleave(torch.arange(len(rows), device=weight.device), lengths)
    sums = torch.zeros(len(rows), weight.shape[1], device=weight.device, dtype=weight.dtype)
    return sums.index_add_(0, owners, weight[flat]) / lengths[:, None]
