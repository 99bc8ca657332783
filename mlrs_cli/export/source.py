"""One Python file with the schedule and its weights inside: for the standard library alone, or for optax."""

from __future__ import annotations

import base64
from pathlib import Path
from string import Template

import numpy as np

from mlrs_cli.schedules.mlr_snet import SHAPES, MLRSNet

__all__ = ["as_optax", "as_python"]

TEMPLATES = Path(__file__).parent / "templates"
LINE = 110


def as_python(label: str, schedule: MLRSNet) -> str:
    """A file that needs the standard library alone."""
    return filled("python.py.txt", label, schedule)


def as_optax(label: str, schedule: MLRSNet) -> str:
    """A file that gives an optax transformation which takes `value=loss`."""
    return filled("optax.py.txt", label, schedule)


def filled(template: str, label: str, schedule: MLRSNet) -> str:
    """A template with the schedule's facts and weights."""
    flat = [np.concatenate([stage.weights[name].ravel() for name in SHAPES]) for stage in schedule.stages]
    data = base64.b64encode(np.stack(flat).astype("<f4").tobytes()).decode()
    lines = "\n".join(f'    "{data[i : i + LINE]}"' for i in range(0, len(data), LINE))
    return Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(
        label=label,
        starts=repr([stage.start for stage in schedule.stages]),
        cell=schedule.cell,
        every_stage=schedule.gamma_measured == "every-stage",
        shapes=repr(SHAPES),
        weights=lines,
    )
