"""Runs side by side: processes that keep to their own cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from mlrs_cli.compare.runs import Job, execute
from mlrs_cli.errors import MLRSError

__all__ = ["default_jobs", "run_all"]

# Variables by which torchrun and Slurm would make each run one process of many.
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def cores() -> list[int]:
    """The processor's cores that this process may use; under torchrun a share for each process of the machine."""
    every = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    place, beside = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return every[place::beside] or every


def default_jobs() -> int:
    """One run per core; on a machine with a GPU one at a time."""
    import torch

    return 1 if torch.cuda.is_available() else len(cores())


def run_all(jobs: Sequence[Job], processes: int, told: Callable[[Job], None]) -> None:
    """Do every run, `processes` at a time, each in a process of its own with an equal share of the cores.

    Args:
        jobs: in the order in which they are begun.
        processes: how many at a time.
        told: called with each run that has ended.

    Raises:
        MLRSError: a run failed; the others that had begun come to their end.
        KeyboardInterrupt: SIGINT or SIGTERM came; runs that had begun are saved.
    """
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    shares: Any = context.Queue()
    own, workers = cores(), min(processes, len(jobs))
    for number in range(workers):
        # As many cores as if every process were needed: the number of threads is part of a result's last bits.
        shares.put(own[number::processes] or [own[number % len(own)]])
    pool = ProcessPoolExecutor(workers, context, settle, (shares, os.getpid()))
    before = stop_on_term()
    try:
        running = {pool.submit(execute, job): job for job in jobs}
        for done in as_completed(running):
            job = running[done]
            try:
                done.result()
            except BrokenProcessPool:
                raise MLRSError(
                    f"a process died during '{job.schedule}' on task '{job.task}' or beside it, perhaps for want of memory: "
                    f"use fewer --jobs than {processes}"
                ) from None
            except MLRSError as error:
                raise MLRSError(f"schedule '{job.schedule}' on task '{job.task}', seed {job.seed}: {error}") from error
            told(job)
    except KeyboardInterrupt:
        for child in multiprocessing.active_children():
            child.terminate()  # a run in training saves itself first
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def settle(shares: Any, parent: int) -> None:
    """Make a process ready for runs: cores, threads, signals, an end when its parent has ended."""
    share = shares.get()
    if "LOCAL_RANK" in os.environ:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", os.environ["LOCAL_RANK"])  # one GPU a process of torchrun's
    for name in LAUNCHER:
        os.environ.pop(name, None)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and a run in training listens for itself
    import torch

    torch.set_num_threads(len(share))
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()


def end_with(parent: int) -> None:
    """End this process once its parent is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def stop_on_term() -> Any:
    """Take SIGTERM as Ctrl-C; returns the handler before, None outside the main thread."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        return signal.signal(signal.SIGTERM, stop)
    except ValueError:
        return None
