"""A schedule run over a loss curve, with no learner behind it: the open-loop table of its rates."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from mlrs_cli.errors import MLRSError, NotFoundError, UsageError
from mlrs_cli.run import read_run
from mlrs_cli.schedules.contract import Observation, Schedule
from mlrs_cli.zoo.entry import Entry

__all__ = ["LONGEST", "Curve", "entry_curve", "read_loss_curve", "replay", "stretched"]

Curve = Sequence[
    tuple[float, float]
]  # (share of the way from the first update to the last, loss), shares rising from 0


LONGEST = 100_000  # updates of a table or preview whose length nobody asked for


def replay(schedule: Schedule, losses: Sequence[float], num_classes: int) -> list[float]:
    """Learning rate of each update of a run with these training losses.

    Args:
        schedule: at its first update.
        losses: one an update, in nats.
        num_classes: of the task.
    """
    budget = len(losses)
    return [schedule.lr(Observation(step, budget, loss, num_classes)) for step, loss in enumerate(losses)]


def stretched(curve: Curve, budget: int) -> list[float]:
    """Losses of `budget` updates along a curve, straight lines between its points, ends on ends.

    The first update keeps the curve's first loss, from which a learned schedule takes its scale.

    >>> stretched([(0.0, 3.0), (0.5, 2.0), (1.0, 0.0)], 5)
    [3.0, 2.5, 2.0, 1.0, 0.0]
    """
    shares, values = zip(*curve, strict=True)
    out, right = [], 0
    for step in range(budget):
        share = step / max(budget - 1, 1)
        while right < len(shares) - 1 and shares[right] < share:
            right += 1
        if right == 0 or shares[right] <= share:
            out.append(values[right])
            continue
        left = right - 1
        part = (share - shares[left]) / (shares[right] - shares[left])
        out.append(values[left] + part * (values[right] - values[left]))
    return out


def entry_curve(entry: Entry) -> Curve:
    """The loss curve of the run in which an entry was learned, that of its first seed."""
    curves = entry.curves()
    if not curves:
        raise MLRSError(f"{entry.folder} has no loss curve of its own: name one with --loss-curve")
    first = curves[min(curves)]
    return as_shares(first["step"], first["loss"], str(entry.folder / "curves.csv"))


def read_loss_curve(path: Path) -> Curve:
    """A loss curve from a finished run's folder, or from a CSV file with a column `loss` (and `step`, if it has one).

    Raises:
        NotFoundError: nothing there.
        UsageError: no such column, or values that are no finite numbers.
    """
    if path.is_dir():
        updates = read_run(path)["updates"]
        return as_shares(updates["step"], updates["loss"], str(path))
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        losses = [float(row["loss"]) for row in rows]
        steps = (
            [float(row["step"]) for row in rows] if rows and "step" in rows[0] else [i + 1.0 for i in range(len(rows))]
        )
    except FileNotFoundError:
        raise NotFoundError(f"no loss curve {path}: name a CSV file with a column 'loss', or a run folder") from None
    except (KeyError, ValueError, TypeError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is no loss curve ({error}): it needs a column 'loss' of numbers") from None
    return as_shares(steps, losses, str(path))


def as_shares(steps: Sequence[float], losses: Sequence[float], source: str) -> Curve:
    """A curve over the share of the way from its first step to its last, after a check."""
    if not losses:
        raise UsageError(f"{source} holds no loss: name a curve with one row at least")
    if not all(math.isfinite(v) for v in (*losses, *steps)) or list(steps) != sorted(set(steps)) or steps[0] <= 0:
        raise UsageError(f"{source} is no loss curve: steps must rise from above 0 and every number be finite")
    length = max(steps[-1] - steps[0], 1.0)
    return [((step - steps[0]) / length, loss) for step, loss in zip(steps, losses, strict=True)]
