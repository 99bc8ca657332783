"""Any classifier by name, with input channels, input size and classes fitted to the data set."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mlrs_cli.errors import MLRSError, NetworkError, NotFoundError, UsageError, nearest
from mlrs_cli.tasks.small_models import SMALL_MODELS

__all__ = ["FittedModel", "build_model"]

SIDES = (32, 64, 96, 128, 224, 299)  # tried in turn where a model refuses the data set's own size
LEAST_SIDE = 32  # torchvision's and timm's models halve their input five times


@dataclass(frozen=True)
class FittedModel:
    """A model and the (channels, side) of the batches that it takes."""

    model: nn.Module
    channels: int
    size: int


def build_model(
    name: str, num_classes: int, channels: int, size: int, pretrained: bool = False, fixed_size: bool = False
) -> FittedModel:
    """Build a classifier for images of `channels` × `size` × `size`.

    Where the model cannot take that size (found by sending two blank images through) the next larger one that it takes
    is chosen, unless `fixed_size`.

    Args:
        name: one of ours (`resnet8`, …), a torchvision classifier (`shufflenet_v2_x0_5`, or `torchvision:resnet18` where
            ours has the same name), `timm:NAME` or `hf-hub:ORG/REPO`.
        num_classes: outputs.
        channels: of the images.
        size: side of the images in pixels.
        pretrained: start from published weights, with a new last layer.
        fixed_size: refuse rather than resize.

    Raises:
        NotFoundError: no such model.
        NetworkError: published weights cannot be fetched.
        UsageError: the model has no published weights, or takes none of the sizes.
    """
    source, _, plain = name.rpartition(":")
    if source in ("timm", "hf-hub"):
        make, takes = timm_maker(plain if source == "timm" else name, pretrained), channels
    elif not source and name in SMALL_MODELS:
        if pretrained:
            raise UsageError(f"model '{name}' has no published weights: drop --pretrained or choose a timm model")
        make, takes = SMALL_MODELS[name], channels
    elif source in ("", "torchvision"):
        make, takes = torchvision_maker(plain, pretrained), 3
    else:
        raise NotFoundError(f"no model source '{source}': write NAME, torchvision:NAME, timm:NAME or hf-hub:ORG/REPO")

    own = size if fixed_size or make in SMALL_MODELS.values() or size >= LEAST_SIDE - 4 else LEAST_SIDE
    sides = (own,) if fixed_size else (own, *(s for s in SIDES if s > own))
    reason: Exception | None = None
    for side in sides:
        try:
            with fetching(name):
                model = make(num_classes, takes, side)
            check(model, num_classes, takes, side)
            return FittedModel(model, takes, side)
        except MLRSError:
            raise
        except Exception as error:  # a model's refusal of a size has no type of its own
            reason = reason or error
    first = str(reason).strip().splitlines()[0] if str(reason).strip() else type(reason).__name__
    raise UsageError(f"model '{name}' cannot take images of {' or '.join(map(str, sides))} pixels: {first}")


def check(model: nn.Module, num_classes: int, channels: int, size: int) -> None:
    """Send two blank images through and look at the shape of the answer; the random state is left as it was."""
    training = model.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        shape = tuple(model.eval()(torch.zeros(2, channels, size, size)).shape)
    model.train(training)
    if shape != (2, num_classes):
        raise UsageError(f"the model answers with shape {shape}, a classifier of {num_classes} with (2, {num_classes})")


def torchvision_maker(name: str, pretrained: bool) -> Callable[[int, int, int], nn.Module]:
    """Maker of a torchvision classifier."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise NotFoundError(f"no model '{name}': {nearest(name, {*known, *SMALL_MODELS})} (timm models: timm:NAME)")

    def make(classes: int, channels: int, size: int) -> nn.Module:
        extra: dict[str, Any] = {}
        if name in ("googlenet", "inception_v3"):
            extra = {"init_weights": True} if not pretrained else {}
        if name.startswith("vit_") and not pretrained:
            extra = {"image_size": size}
        if name.startswith("maxvit") and not pretrained:
            extra = {"input_size": (size, size)}
        if not pretrained:
            if name in ("googlenet", "inception_v3"):
                extra["aux_logits"] = False
            with quiet():
                model: nn.Module = models.get_model(name, weights=None, num_classes=classes, **extra)
            return model
        with quiet():
            model = models.get_model(name, weights="DEFAULT")
        if name in ("googlenet", "inception_v3"):
            setattr(model, "aux_logits", False)  # noqa: B010 (a Module types its attributes as modules)
        replace_head(model, classes)
        return model

    return make


@contextlib.contextmanager
def quiet() -> Any:
    """Constructors of torchvision warn about their own defaults; that is no concern of the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def replace_head(model: nn.Module, classes: int) -> None:
    """Give a pretrained torchvision classifier a new last layer."""
    heads = [
        (n, m) for n, m in model.named_modules() if getattr(m, "out_features", getattr(m, "out_channels", 0)) == 1000
    ]
    name, old = [(n, m) for n, m in heads if not n.lower().startswith("aux")][-1]
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, classes)
    else:
        assert isinstance(old, nn.Conv2d)
        new = nn.Conv2d(old.in_channels, classes, kernel_size=1)
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new)


def timm_maker(name: str, pretrained: bool) -> Callable[[int, int, int], nn.Module]:
    """Maker of a timm classifier."""
    import timm

    if not name.startswith("hf-hub:") and not timm.is_model(name):
        raise NotFoundError(f"no timm model '{name}': {nearest(name, timm.list_models())}")
    if pretrained and not name.startswith("hf-hub:") and not timm.is_model_pretrained(name):
        raise UsageError(f"timm model '{name}' has no published weights: drop --pretrained")

    def make(classes: int, channels: int, size: int) -> nn.Module:
        kwargs: dict[str, Any] = {"num_classes": classes, "in_chans": channels, "pretrained": pretrained}
        try:
            model: nn.Module = timm.create_model(
                name, img_size=size, **kwargs
            )  # transformers fix their size when built
        except TypeError:
            model = timm.create_model(name, **kwargs)
        return model

    return make


@contextlib.contextmanager
def fetching(name: str) -> Any:
    """Turn a failed download of weights into one sentence."""
    import urllib.error

    from huggingface_hub import errors as hub

    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, urllib.error.URLError) as error:
        raise NetworkError(f"model '{name}' must be fetched and the network does not answer: {error}") from error
    except (hub.RepositoryNotFoundError, hub.EntryNotFoundError) as error:
        raise NotFoundError(f"no model '{name}' on the Hub: check the name, or log in for a private one") from error
    except OSError as error:  # every HTTP error of huggingface_hub, and broken connections
        raise NetworkError(f"model '{name}' could not be fetched: {error}") from error
