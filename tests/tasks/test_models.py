"""Models by name, fitted to the data set."""

from __future__ import annotations

import pytest
import torch

from mlrs_cli.errors import NotFoundError, UsageError
from mlrs_cli.tasks.models import build_model


@pytest.mark.parametrize(
    ("name", "channels", "size", "takes", "side"),
    [
        ("resnet8", 3, 32, 3, 32),
        ("resnet18", 3, 32, 3, 32),
        ("resnet20", 1, 8, 1, 8),
        ("mlp", 1, 8, 1, 8),
        ("lenet5", 1, 28, 1, 28),
        ("lenet5", 1, 8, 1, 32),
        ("shufflenet_v2_x0_5", 1, 8, 3, 32),
        ("torchvision:resnet18", 3, 32, 3, 32),
        ("alexnet", 3, 32, 3, 64),
        ("squeezenet1_1", 3, 32, 3, 32),
        ("timm:mobilenetv3_small_050", 1, 28, 1, 28),
        ("timm:vit_tiny_patch16_224", 3, 32, 3, 32),
    ],
)
def test_channels_size_and_classes_are_fitted(name: str, channels: int, size: int, takes: int, side: int) -> None:
    fitted = build_model(name, 7, channels, size)
    assert (fitted.channels, fitted.size) == (takes, side)
    x = torch.randn(2, takes, side, side)
    assert fitted.model.eval()(x).shape == (2, 7)
    assert fitted.model.train().training


@pytest.mark.parametrize(
    ("name", "count"), [("resnet18", 11_173_962), ("resnet20", 272_474), ("wrn-28-10", 36_479_194), ("lenet5", 62_006)]
)
def test_the_papers_models_have_the_published_sizes(name: str, count: int) -> None:
    assert sum(p.numel() for p in build_model(name, 10, 3, 32).model.parameters()) == count


def test_the_seed_decides_the_weights_and_fitting_takes_no_draw() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(4)
        states.append(build_model("alexnet", 10, 3, 32).model.state_dict())
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("resnet81", NotFoundError, "did you mean .*'resnet18'"),
        ("timm:mobilenetv3_smal_050", NotFoundError, "did you mean 'mobilenetv3_small_050'"),
        ("jax:resnet18", NotFoundError, "no model source 'jax'"),
    ],
)
def test_unknown_names_bring_the_nearest(name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        build_model(name, 10, 3, 32)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(UsageError, match="has no published weights"):
        build_model("resnet8", 10, 3, 32, pretrained=True)
    with pytest.raises(UsageError, match="cannot take images of 8 pixels"):
        build_model("lenet5", 10, 1, 8, fixed_size=True)


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "squeezenet1_1", "googlenet"])
def test_published_weights_get_a_new_head(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from torchvision import models

    original = models.get_model

    def offline(name: str, weights: object = None, **kwargs: object) -> torch.nn.Module:
        if weights == "DEFAULT":  # what published weights bring: 1,000 classes, and auxiliary heads where there are any
            return original(name, weights=None, **({"init_weights": False} if name == "googlenet" else {}))
        return original(name, weights=weights, **kwargs)

    monkeypatch.setattr(models, "get_model", offline)
    fitted = build_model(name, 7, 3, 64, pretrained=True)
    assert fitted.model(torch.randn(2, 3, 64, 64)).shape == (2, 7)
