"""The loss of a reader: where the answer starts and ends, in a window and among passages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812

_MASKED = -1e4


def span_loss(
    logits: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    seen: torch.Tensor,
    sizes: Sequence[int],
    group_weight: float,
) -> torch.Tensor:
    """The mean over groups of windows of the loss of start and end.

    Of a window: the cross-entropy among its positions, the first of which stands for "no answer"
    (Devlin et al. 2019, section 4.2). Of a group of several windows: the weighted mean of that,
    averaged over them, with the cross-entropy among all positions of all its windows but the
    first ones. There the logits are taken less that of "no answer" in their window, as a span's
    score is, so the scores of different passages come to one scale (the shared norm of C. Clark
    and M. Gardner, Simple and Effective Multi-Paragraph Reading Comprehension, ACL 2018).

    Args:
        logits: start and end logits, (windows, length) each.
        labels: the positions of the answer's first and last piece, (windows,) each; 0: none.
        seen: (windows, length), false where a window is padded.
        sizes: windows of each group; the answer of several is in the first.
        group_weight: of the loss over a group's windows together.
    """
    losses = []
    for of_place, label in zip(logits, labels, strict=True):
        masked = of_place.float().masked_fill(~seen, _MASKED)
        alone = F.cross_entropy(masked, label, reduction="none")
        relative = masked[:, 1:] - masked[:, :1]
        first = 0
        for size in sizes:
            rows = slice(first, first + size)
            loss = alone[rows].mean()
            if size > 1:
                among = relative[rows].masked_fill(~seen[rows, 1:], _MASKED).reshape(1, -1)
                together = F.cross_entropy(among, label[first : first + 1] - 1)
                loss = (1 - group_weight) * loss + group_weight * together
            losses.append(loss)
            first += size
    return torch.stack(losses).mean()
