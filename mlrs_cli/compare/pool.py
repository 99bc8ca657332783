"""Runs side by side: processes that keep to their own cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from filelock import FileLock

from mlrs_cli.compare.runs import Job, best_device, execute
from mlrs_cli.errors import InterruptedRunError, MLRSError
from mlrs_cli.tasks.datasets import load_dataset

__all__ = ["default_jobs", "run_all"]

# Variables by which torchrun would make each run one process of many.
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
stop_asked: Any = None  # in a worker: set once no further run is to begin


def cores() -> list[int]:
    """The processor's cores that this process may use; under torchrun a share for each process of the machine."""
    every = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    place, beside = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return every[place::beside] or every


def default_jobs(devices: Iterable[str]) -> int:
    """One run per core where all take place on the CPU, else one at a time.

    >>> default_jobs(["cpu", "cuda"])
    1
    """
    return len(cores()) if {best_device() if d == "auto" else d for d in devices} == {"cpu"} else 1


def run_all(jobs: Sequence[Job], processes: int, told: Callable[[Job], None]) -> None:
    """Do every run, `processes` at a time, each in a process of its own with as many cores as any other.

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
    cache = jobs[0].path.parents[1]
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "data.lock"):  # so that a set that must be fetched is fetched once, by one of all parts
        for dataset in {(job.settings.dataset, job.settings.data_dir, job.settings.image_size) for job in jobs}:
            load_dataset(*dataset)
    context = multiprocessing.get_context("spawn")
    places: Any = context.Queue()
    own, workers = cores(), min(processes, len(jobs))
    width = max(1, len(own) // processes)  # the same for all: the number of threads is part of a result's last bits
    for number in range(workers):
        first = number * width % len(own)
        places.put(own[first : first + width])
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, settle, (places, stop))
    with term_as_interrupt():
        try:
            running = {pool.submit(attempt, job): job for job in jobs}
            for done in as_completed(running):
                with named(running[done], processes):
                    done.result()
                told(running[done])
        except KeyboardInterrupt:
            stop.set()
            for child in multiprocessing.active_children():
                child.terminate()  # a run in training saves itself first
            raise
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def named(job: Job, processes: int) -> Iterator[None]:
    """Say of an error which run it ended."""
    try:
        yield
    except InterruptedRunError:
        raise KeyboardInterrupt from None  # the whole group was asked to stop
    except BrokenProcessPool:
        way = f"use fewer --jobs than {processes}" if processes > 1 else "use a smaller batch or model"
        raise MLRSError(f"a process of the comparison died, perhaps for want of memory: {way}") from None
    except Exception as error:
        where = f"schedule '{job.label}' on task '{job.task}', seed {job.seed}"
        kind = type(error) if isinstance(error, MLRSError) else MLRSError
        name = "" if isinstance(error, MLRSError) else f"{type(error).__name__}: "
        raise kind(f"{where}: {name}{error}") from error


def attempt(job: Job) -> None:
    """In a worker: do a run, unless the comparison was asked to stop."""
    if not stop_asked.is_set():
        execute(job)


def settle(places: Any, stop: Any) -> None:
    """Make a worker ready: cores, threads, device, signals, an end when its parent has ended."""
    global stop_asked
    stop_asked = stop
    place = places.get()
    use_own_gpu()
    for name in LAUNCHER:
        os.environ.pop(name, None)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, place)
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C at the terminal is for the parent, which tells its workers
    import torch

    torch.set_num_threads(len(place))
    threading.Thread(target=end_with_parent, daemon=True).start()


def use_own_gpu() -> None:
    """Under torchrun, one GPU for each process of the machine."""
    if "LOCAL_RANK" in os.environ:
        place = int(os.environ["LOCAL_RANK"])
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        every = seen.split(",") if seen else [str(place)]
        os.environ["CUDA_VISIBLE_DEVICES"] = every[place % len(every)]


def end_with_parent() -> None:
    """End this process once its parent is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def term_as_interrupt() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C while the block runs; outside the main thread signals are whose thread it is."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
