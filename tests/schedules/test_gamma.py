"""The scale of a task, where the published formula holds and where it breaks down."""

from __future__ import annotations

import math

import pytest

from mlrs_cli.errors import DivergedError, UsageError
from mlrs_cli.schedules.gamma import LEAST_PRODUCT, gamma


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000])
def test_an_untrained_classifier_gets_the_published_value(classes: int) -> None:
    loss = math.log(classes)
    assert gamma(loss, classes) == pytest.approx(math.sqrt(loss) * math.log(loss * classes) / classes**0.25 / 4)


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("loss", [0.0, 1e-9, 0.0009, 0.1])
def test_small_losses_never_give_zero_negative_or_rising_scales(loss: float, classes: int) -> None:
    assert 0 < gamma(loss, classes) <= gamma(loss * 2 + 1e-6, classes)
    assert gamma(0.0, classes) == gamma(1 / classes, classes) == gamma(LEAST_PRODUCT / classes, classes)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_has_no_scale(loss: float) -> None:
    with pytest.raises(DivergedError, match="before the first update"):
        gamma(loss, 10)


def test_one_class_has_no_scale() -> None:
    with pytest.raises(UsageError, match="got 1"):
        gamma(1.0, 1)
