"""Making shards in several processes, none of which outlives the one that started it."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection

from odqa.build.shards import ShardJob, make_shard
from odqa.config import CorpusConfig, TokenizerConfig
from odqa.errors import OdqaError
from odqa.protocols import Tokenizer
from odqa.text.tokenizers import create_tokenizer

logger = logging.getLogger(__name__)


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

    def make(self, job: ShardJob) -> ShardJob:
        """Write the shard of ``job``."""
        settings = self._settings
        make_shard(
            job, settings.corpus, self._tokenizer, settings.title_weight, settings.duplicates
        )
        return job


def make_shards(jobs: Iterable[ShardJob], settings: ShardSettings) -> Iterator[int]:
    """Write the shard of every job; yields the number of documents of each that is done.

    One job is done here, since starting processes takes longer; more are done by as many processes
    as there are processor cores, with no more documents in memory than keep them busy.

    Raises:
        OdqaError: a process failed or was ended from outside.
    """
    jobs = iter(jobs)
    head = [job for _, job in zip(range(2), jobs, strict=False)]
    if len(head) < 2 or n_cores() == 1:
        maker = ShardMaker(settings)
        for job in _chain(head, jobs):
            yield len(maker.make(job).documents)
        return
    yield from _in_processes(_chain(head, jobs), settings, n_cores())


def n_cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _chain(head: list[ShardJob], jobs: Iterator[ShardJob]) -> Iterator[ShardJob]:
    while head:  # popped, so that their documents can be forgotten
        yield head.pop(0)
    yield from jobs


def _in_processes(
    jobs: Iterator[ShardJob], settings: ShardSettings, n_workers: int
) -> Iterator[int]:
    with _pool(settings, n_workers) as pool:
        pending: set[Future[int]] = set()
        for job in jobs:
            pending.add(pool.submit(_work, job))
            if len(pending) > n_workers:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


@contextlib.contextmanager
def _pool(settings: ShardSettings, n_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Workers that are ended at once, whatever they are at, when the body raises.

    They hold one end of a pipe and exit when the other is closed: the executor itself can only wait
    for the work it has handed out. What they leave half written has another name than a shard, and
    the next run removes it.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    their_end, our_end = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(n_workers, context, _start_worker, (settings, their_end))
    try:
        yield pool
    except BaseException as error:
        our_end.close()
        if isinstance(error, BrokenProcessPool):
            raise OdqaError(
                "a process that was splitting and tokenising articles was ended from outside, "
                "probably for want of memory; run the same command again: it continues where it was"
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        our_end.close()
        their_end.close()


_maker: ShardMaker | None = None


def _start_worker(settings: ShardSettings, line: connection.Connection) -> None:
    global _maker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends its workers
    threading.Thread(target=_end_with_parent, args=(line,), daemon=True).start()
    _maker = ShardMaker(settings)


def _end_with_parent(line: connection.Connection) -> None:
    """Ends this process when the parent closes ``line``, be it by being killed."""
    connection.wait([line])
    os._exit(1)


def _work(job: ShardJob) -> int:
    if _maker is None:
        raise RuntimeError("the worker was not started by _start_worker")
    try:
        return len(_maker.make(job).documents)
    except OdqaError as error:
        # Subclasses with other arguments do not survive the way back through a pipe.
        raise OdqaError(str(error)) from None
