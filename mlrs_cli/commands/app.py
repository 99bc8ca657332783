"""The `mlrs` program: its commands, and how an error reaches the user."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import mlrs_cli
from mlrs_cli.commands import compare, env, export, meta_train, plot, transfer, zoo
from mlrs_cli.commands.display import note
from mlrs_cli.errors import InterruptedRunError, MLRSError

__all__ = ["app", "main"]

app = typer.Typer(
    name="mlrs",
    help="Train neural networks with learned learning-rate schedules.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 network, 5 diverged, 130 stopped.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def show_version(asked: bool) -> None:
    """Print the version and stop."""
    if asked:
        typer.echo(f"mlrs {mlrs_cli.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and stop.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Train neural networks with learned learning-rate schedules."""


def examples(lines: list[str]) -> str:
    """The end of a command's help."""
    return "Examples:\n\n" + "\n\n".join(lines)


app.add_typer(zoo.app, name="zoo")
VARIABLES = "\n\nSettings can also come from variables, as in MLRS_BATCH_SIZE=64."
app.command("env")(env.command)
app.command("transfer", epilog=examples(transfer.EXAMPLES) + VARIABLES)(transfer.command)
app.command("compare", epilog=examples(compare.EXAMPLES))(compare.command)
app.command("export", epilog=examples(export.EXAMPLES))(export.command)
app.command("plot", epilog=examples(plot.EXAMPLES))(plot.command)
app.command("meta-train", epilog=examples(meta_train.EXAMPLES) + VARIABLES)(meta_train.command)


def main() -> None:
    """Run the program; every error of ours is one sentence on stderr and an exit code."""
    debug = os.environ.get("MLRS_DEBUG", "") not in ("", "0")
    try:
        app()
    except InterruptedRunError as error:
        note(f"{error}\ncontinue it: mlrs {sys.argv[1]} --resume {error.run}")
        sys.exit(error.exit_code)
    except MLRSError as error:
        if debug:
            raise
        note(f"error: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read our output is gone
        sys.exit(0)
    except KeyboardInterrupt:
        note("stopped")
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        note(f"error: {type(error).__name__}: {error} (MLRS_DEBUG=1 shows where)")
        sys.exit(1)
