"""How the result of a run is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlrs_cli.commands.display import print_json, print_table

__all__ = ["finish"]


def finish(result: dict[str, Any], title: str, as_json: bool) -> None:
    """Draw the run's picture, then print its result as a table or as JSON."""
    from mlrs_cli.commands.options import main_process
    from mlrs_cli.labels import shown
    from mlrs_cli.report.figures import draw_run

    if not main_process():
        return
    picture = draw_run(Path(result["run"]), Path(result["run"]) / "curves.png")
    if as_json:
        print_json({**result, "picture": str(picture)})
        return
    rows = {
        "schedule": shown(result["schedule"]),
        "task": f"{result['model']} on {result['dataset']}",
        "updates": f"{result['updates']:,} in {result['seconds']:.1f} s, {result['images_per_second']:,.0f} images/s",
        **extra_passes(result),
        "train loss": number(result["train_loss"]),
        "validation accuracy": percent(result["validation_accuracy"]),
        "test loss": number(result["test_loss"]),
        "test accuracy": percent(result["test_accuracy"]),
        "run": result["run"],
        "picture": picture,
    }
    if "entry" in result:
        rows["entry"] = result["entry"]
        path = Path(result["entry"])
        rows["use it"] = f"mlrs transfer --schedule {path if path.is_absolute() else f'./{path}'}"
    print_table(title, rows)


def extra_passes(result: dict[str, Any]) -> dict[str, str]:
    """What the schedule cost beside the updates, if anything."""
    forward, backward, updates = result["extra_forward"], result["extra_backward"], max(result["updates"], 1)
    if not forward and not backward:
        return {}
    return {"extra passes": f"{forward / updates:.2f} forward and {backward / updates:.2f} backward an update"}


def number(value: float | None) -> str:
    """A loss."""
    return "not measured" if value is None else f"{value:.4f}"


def percent(value: float | None) -> str:
    """An accuracy."""
    return "not measured" if value is None else f"{value:.2%}"
