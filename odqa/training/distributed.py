"""Several processes that train together (torchrun): who is who, and what they must agree on."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from odqa.errors import OdqaError

T = TypeVar("T")

# the others wait while the first one evaluates, and a large data set takes a while
_PATIENCE = datetime.timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those of the run; alone it is rank 0 of 1."""

    rank: int
    world: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this one writes and logs."""
        return self.rank == 0

    def share(self, batch: Any) -> Any:
        """This process's part of a batch, which is a list."""
        return batch if self.world == 1 else batch[self.rank :: self.world]

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def agree(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """The longest time any process has counted, and whether any was asked to stop."""
        if self.world == 1:
            return seconds, stop
        both = torch.tensor([seconds, float(stop)], dtype=torch.float64, device=self.device)
        dist.all_reduce(both, op=dist.ReduceOp.MAX)
        return float(both[0]), bool(both[1])

    def same(self, value: T) -> T:
        """The first process's value, on all."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, device=self.device)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """Every process's value, by rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values


def world_size() -> int:
    """How many processes ``torchrun`` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that writes."""
    return int(os.environ.get("RANK", "0")) == 0


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """The processes of this run, connected: by NCCL on GPUs (one each), else by gloo.

    Raises:
        OdqaError: more processes on this machine than it has GPUs.
    """
    world = world_size()
    if world == 1:
        yield Processes(0, 1, torch.device(device))
        return
    place = torch.device(device)
    if place.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise OdqaError(
                f"torchrun started process {local} here, but there are "
                f"{torch.cuda.device_count()} GPUs; give --nproc-per-node at most that number"
            )
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(dist.get_rank(), world, place)
    finally:
        dist.destroy_process_group()
