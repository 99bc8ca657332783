"""Runs shown in TensorBoard, Weights & Biases or Trackio, through Accelerate's trackers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from mlrs_cli.errors import UsageError
from mlrs_cli.settings import RunSettings
from mlrs_cli.train import Watch

__all__ = ["require_tracker", "tracked"]


def require_tracker(settings: RunSettings) -> None:
    """Refuse early where the tracker of the settings is not installed; the sentence has the pip line."""
    if settings.log and find_spec(settings.log) is None:
        raise UsageError(f"--log {settings.log} needs a package that is not installed: pip install {settings.log}")


@contextmanager
def tracked(settings: RunSettings, path: Path, watch: Watch) -> Iterator[Watch]:
    """`watch`, and beside it the tracker that the settings ask for."""
    name = settings.log
    if name is None:
        yield watch
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[name]
    tracker = kind("tensorboard", logging_dir=str(path)) if kind.requires_logging_directory else kind("mlrs")
    if hasattr(tracker, "start"):
        tracker.start()
    config = settings.model_dump(mode="json")
    tracker.store_init_configuration({k: v if isinstance(v, int | float | bool) else str(v) for k, v in config.items()})

    def told(facts: dict[str, float | None]) -> None:
        watch(facts)
        numbers = {k: v for k, v in facts.items() if v is not None and k not in ("step", "budget")}
        if numbers:
            tracker.log(numbers, step=facts["step"])

    try:
        yield told
    finally:
        tracker.finish()
