"""Making shards in several processes, none of which outlives the one that started it."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

from odqa.build.shards import ShardJob, make_shard
from odqa.config import CorpusConfig, TokenizerConfig
from odqa.errors import ConfigError, OdqaError
from odqa.processes import n_cores, resident_bytes, worker_pool
from odqa.protocols import Tokenizer
from odqa.text.tokenizers import create_tokenizer

_WORK = "splitting and tokenising articles"


@dataclass(frozen=True, slots=True)
class ShardSettings:
    """What a worker must know to make shards; ``tokenizer`` is None for an index without terms."""

    corpus: CorpusConfig
    tokenizer: TokenizerConfig | None
    title_weight: int
    duplicates: bool = True  # whether near duplicates are looked for


class ShardMaker:
    """Makes shards in this process."""

    def __init__(self, settings: ShardSettings) -> None:
        self._settings = settings
        self._tokenizer: Tokenizer | None = None
        if settings.tokenizer is not None:
            self._tokenizer = create_tokenizer(settings.tokenizer.name)

    def warm_up(self) -> None:
        """Have the tokenizer load what it loads at its first use."""
        if self._tokenizer is not None:
            self._tokenizer.tokenize(["한국어"])

    def make(self, job: ShardJob) -> ShardJob:
        """Write the shard of ``job``."""
        settings = self._settings
        make_shard(
            job, settings.corpus, self._tokenizer, settings.title_weight, settings.duplicates
        )
        return job


def make_shards(
    jobs: Iterable[ShardJob], settings: ShardSettings, workers: int = 0
) -> Iterator[int]:
    """Write the shard of every job; yields the number of documents of each that is done.

    One job is done here, since starting processes takes longer; more are done by ``workers``
    processes (0: as many as there are usable cores), with no more documents in memory than keep
    them busy.

    Raises:
        ConfigError: ``workers`` is negative.
        OdqaError: a process failed or was ended from outside.
    """
    processes = n_workers(workers)
    jobs = iter(jobs)
    head = [job for _, job in zip(range(2), jobs, strict=False)]
    if len(head) < 2 or processes == 1:
        maker = ShardMaker(settings)
        for job in _chain(head, jobs):
            yield len(maker.make(job).documents)
        return
    yield from _in_processes(_chain(head, jobs), settings, processes)


def time_a_worker(job: ShardJob, settings: ShardSettings) -> tuple[float, int | None]:
    """Have a worker make one shard; its CPU seconds, and the most memory it held.

    The memory is None where the system does not tell.
    """
    with worker_pool(1, _WORK, _start_worker, (settings,)) as pool:
        pool.submit(_warm_up).result()
        started = pool.submit(time.process_time).result()
        pool.submit(_work, job).result()
        seconds = pool.submit(time.process_time).result() - started
        return seconds, pool.submit(resident_bytes, peak=True).result()


def n_workers(wanted: int) -> int:
    """The processes that ``build.workers`` stands for: 0 for one on each usable core.

    Raises:
        ConfigError: the number is negative.
    """
    if wanted < 0:
        raise ConfigError(f"build.workers must be 0 (all usable cores) or more, got {wanted}")
    return wanted or n_cores()


def _chain(head: list[ShardJob], jobs: Iterator[ShardJob]) -> Iterator[ShardJob]:
    while head:  # popped, so that their documents can be forgotten
        yield head.pop(0)
    yield from jobs


def _in_processes(
    jobs: Iterator[ShardJob], settings: ShardSettings, processes: int
) -> Iterator[int]:
    with worker_pool(processes, _WORK, _start_worker, (settings,)) as pool:
        pending: set[Future[int]] = set()
        for job in jobs:
            pending.add(pool.submit(_work, job))
            if len(pending) > processes:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


_maker: ShardMaker | None = None


def _start_worker(settings: ShardSettings) -> None:
    global _maker
    _maker = ShardMaker(settings)
    # A shard is millions of small objects without cycles, and looking for some took a fifth of the
    # time.
    gc.disable()


def _warm_up() -> None:
    """Load the dictionary."""
    if _maker is not None:
        _maker.warm_up()


def _work(job: ShardJob) -> int:
    if _maker is None:
        raise RuntimeError("the worker was not started by _start_worker")
    try:
        return len(_maker.make(job).documents)
    except OdqaError as error:
        # Subclasses with other arguments do not survive the way back through a pipe.
        raise OdqaError(str(error)) from None
