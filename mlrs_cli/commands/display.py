"""What the user sees: progress on stderr while a run goes on, results on stdout at its end."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from mlrs_cli.commands.options import main_process
from mlrs_cli.files import json_text

if TYPE_CHECKING:  # in typing from Python 3.11
    from typing_extensions import Self

__all__ = ["Bar", "Display", "note", "print_columns", "print_json", "print_table"]


class Bar:
    """A bar on stderr while its context lasts, where that is a terminal and not quiet; what moves it, a subclass says.

    Args:
        quiet: show nothing.
    """

    columns: tuple[ProgressColumn, ...] = ()

    def __init__(self, quiet: bool) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.quiet = quiet
        self.bar: Progress | None = None
        self.task = TaskID(0)

    def __enter__(self) -> Self:
        if not self.quiet and self.console.is_terminal:
            before, after = (TextColumn("{task.description}", markup=False), BarColumn()), TimeRemainingColumn()
            columns = (*before, MofNCompleteColumn(), *self.columns, after)
            self.bar = Progress(*columns, console=self.console, refresh_per_second=4, transient=True)
            self.task = self.bar.add_task("starting", total=None, loss=float("nan"), lr=float("nan"), rate=0.0)
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()


class Display(Bar):
    """Shows a run: a bar where stderr is a terminal, one line an epoch everywhere, nothing when quiet.

    Args:
        quiet: show nothing.
    """

    columns = (TextColumn("loss {task.fields[loss]:.4f}  lr {task.fields[lr]:.4g}  {task.fields[rate]:,.0f} images/s"),)

    def __init__(self, quiet: bool) -> None:
        super().__init__(quiet or not main_process())
        self.images, self.budget = 0, 0

    def watch(self, facts: dict[str, Any]) -> None:
        """Take the facts of the start, an update or an epoch."""
        if self.quiet:
            return
        if "budget" in facts:
            self.images, self.budget = facts["images_per_update"], facts["budget"]
            if self.bar:
                self.bar.update(self.task, total=self.budget, completed=facts["step"], description="training")
        elif "epoch" in facts:
            self.console.print(epoch_line(facts, self.budget), soft_wrap=True)
        elif self.bar:
            speed = self.bar.tasks[0].speed or 0.0
            self.bar.update(
                self.task, completed=facts["step"], loss=facts["loss"], lr=facts["lr"], rate=speed * self.images
            )


def epoch_line(facts: Mapping[str, Any], budget: int) -> str:
    """One epoch in one line."""
    parts = [f"epoch {facts['epoch']:g}", f"update {facts['step']}/{budget}", f"train loss {facts['train_loss']:.4f}"]
    for split in ("validation", "test"):
        if f"{split}_accuracy" in facts:
            parts.append(f"{split} {facts[f'{split}_accuracy']:.2%}")
    return "  ".join([*parts, f"lr {facts['lr']:.4g}", f"{facts['seconds']:.0f} s"])


def note(text: str, quiet: bool = False) -> None:
    """A remark on stderr."""
    if not quiet and main_process():
        Console(stderr=True, highlight=False, soft_wrap=True).print(plain(text))


def plain(value: Any) -> Text:
    """Text as it is: no markup, and no control characters, which a fetched entry or a file's name may carry."""
    return Text("".join(c for c in str(value) if c == "\n" or unicodedata.category(c) != "Cc"))


def print_table(title: str, rows: Mapping[str, Any]) -> None:
    """Names and values on stdout."""
    if not main_process():
        return
    table = Table(title=plain(title), show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(plain(name), plain(value))
    Console(highlight=False).print(table)


def print_columns(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of the same keys on stdout."""
    table = Table(title=plain(title), title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(plain(name), overflow="fold")
    for row in rows:
        table.add_row(*(plain(value) for value in row.values()))
    Console(highlight=False).print(table if rows else f"{title}: none")


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    if main_process():
        sys.stdout.write(json_text(document) + "\n")
