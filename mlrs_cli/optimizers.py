"""Optimizers of a run: torch's own, and the parameter-free ones of other packages."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from importlib.util import find_spec

from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from mlrs_cli.errors import NotFoundError, UsageError
from mlrs_cli.settings import RunSettings

__all__ = ["PACKAGES", "make_optimizer", "require_package"]

PACKAGES = {"schedule-free": "schedulefree", "prodigy": "prodigyopt", "d-adaptation": "dadaptation"}


def make_optimizer(params: Iterable[Tensor], settings: RunSettings, brought: str | None = None) -> Optimizer:
    """The optimizer of the settings, or one that a parameter-free method brings; its rate is set at every update.

    Args:
        params: what it moves.
        settings: kind, momentum, weight decay.
        brought: a key of `PACKAGES`, for the `brings` of a schedule.
    """
    if brought is not None:
        require_package(brought)
        with contextlib.redirect_stdout(io.StringIO()):  # their constructors print
            return parameter_free(brought, params, settings)
    if settings.optimizer == "sgd":
        return SGD(params, lr=1.0, momentum=settings.momentum, weight_decay=settings.weight_decay)
    kind = Adam if settings.optimizer == "adam" else AdamW
    return kind(params, lr=1.0, betas=betas_of(settings), weight_decay=settings.weight_decay)


def betas_of(settings: RunSettings) -> tuple[float, float]:
    """Adam's decay rates of the mean and of the square."""
    return settings.momentum or 0.9, 0.999


def parameter_free(name: str, params: Iterable[Tensor], settings: RunSettings) -> Optimizer:
    """One of the parameter-free optimizers, with its package's defaults."""
    adam, decoupled = settings.optimizer != "sgd", settings.optimizer == "adamw"
    betas, momentum, decay = betas_of(settings), settings.momentum, settings.weight_decay
    out: Optimizer
    if name == "schedule-free":
        import schedulefree

        if adam:
            out = schedulefree.AdamWScheduleFree(params, lr=1.0, betas=betas, weight_decay=decay)
        else:  # its momentum is a place between two averages, and must not be 0
            out = schedulefree.SGDScheduleFree(params, lr=1.0, momentum=momentum or 0.9, weight_decay=decay)
    elif name == "prodigy":
        import prodigyopt

        out = prodigyopt.Prodigy(params, lr=1.0, betas=betas, weight_decay=decay, decouple=decoupled)
    else:
        import dadaptation

        if adam:
            out = dadaptation.DAdaptAdam(params, lr=1.0, betas=betas, weight_decay=decay, decouple=decoupled)
        else:
            out = dadaptation.DAdaptSGD(params, lr=1.0, momentum=momentum, weight_decay=decay)
    return out


def require_package(brought: str) -> None:
    """Refuse early where the package of a parameter-free method is not installed; the sentence has the pip line."""
    package = PACKAGES.get(brought)
    if package is None:
        raise NotFoundError(f"no optimizer '{brought}': known: {', '.join(PACKAGES)}")
    if find_spec(package) is None:
        raise UsageError(f"'{brought}' needs a package that is not installed: pip install {package}")
