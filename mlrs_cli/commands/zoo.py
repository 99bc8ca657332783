"""`mlrs zoo`: list, show, pull, push, verify, import and index learned schedules."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from mlrs_cli.commands.display import note, print_columns, print_json, print_table
from mlrs_cli.commands.options import Json
from mlrs_cli.errors import NotFoundError, UsageError

__all__ = ["app"]

app = typer.Typer(help="Learned schedules: what there is, fetching, checking, publishing.", no_args_is_help=True)

REFERENCE = "NAME, NAME@VERSION, ./path, hub:ORG/REPO[@REVISION][#NAME]"
Out = Annotated[Path | None, typer.Option("--out", help="Folder to write. \\[default: ./NAME]")]


def epilog(*examples: str) -> str:
    """The end of a command's help."""
    return "Examples:\n\n" + "\n\n".join(examples)


@app.command("list", epilog=epilog("mlrs zoo list", "mlrs zoo list --hub"))
def list_entries(
    hub: Annotated[bool, typer.Option("--hub", help="What the zoo on the Hub has, instead of this package's.")] = False,
    repo: Annotated[str | None, typer.Option("--repo", metavar="ORG/REPO", help="Another zoo on the Hub.")] = None,
    as_json: Json = False,
) -> None:
    """List the learned schedules; without --hub, those of this package, with no network."""
    from mlrs_cli.zoo.bundled import bundled_index

    if hub or repo:
        from mlrs_cli.zoo.hub import ZOO_REPO, hub_index

        index, source = hub_index(repo or ZOO_REPO, "main"), f"hub:{repo or ZOO_REPO}"
    else:
        index, source = bundled_index(), "this package"
    rows = [
        {
            "name": row.name,
            "version": row.version,
            "method": row.method,
            "task": row.task,
            "description": row.description,
        }
        for row in index.entries
    ]
    if as_json:
        print_json(rows)
    else:
        print_columns(f"schedules of {source}", rows)


@app.command("show", epilog=epilog("mlrs zoo show cifar10-resnet18", "mlrs zoo show cifar10-resnet18 --json"))
def show(ref: Annotated[str, typer.Argument(help=REFERENCE)], as_json: Json = False) -> None:
    """Show one schedule: what it is, what it was learned on, where that run ended."""
    from mlrs_cli.zoo.reference import find_entry, parse

    entry = find_entry(parse(ref))
    facts = entry.config.model_dump(mode="json", exclude_none=True)
    if as_json:
        print_json({**facts, "folder": str(entry.folder)})
    else:
        print_table(f"{entry.config.name} {entry.config.version}", {**flatten(facts), "folder": entry.folder})


def flatten(facts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts as `outer inner` rows; hashes and sizes left out."""
    out: dict[str, Any] = {}
    for key, value in facts.items():
        name = f"{prefix} {key}".strip().replace("_", " ")
        if key in ("files", "format_version", "name", "version"):
            continue
        if isinstance(value, dict):
            out |= flatten(value, name)
        elif key == "stages":
            out["stages"] = ", ".join(f"from {stage['start']:.3g}" for stage in value)
        else:
            out[name] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return out


@app.command("pull", epilog=epilog("mlrs zoo pull hub:mlrs/zoo#cifar10-resnet18"))
def pull(refs: Annotated[list[str], typer.Argument(metavar="REF...", help=REFERENCE)], as_json: Json = False) -> None:
    """Fetch schedules into the Hub's cache and check them; afterwards they work offline."""
    from mlrs_cli.zoo.reference import find_entry, parse

    done = []
    for ref in refs:
        entry = find_entry(parse(ref))
        done.append(
            {"ref": ref, "name": entry.config.name, "version": entry.config.version, "folder": str(entry.folder)}
        )
    if as_json:
        print_json(done)
    else:
        print_columns("ready", done)


@app.command("push", epilog=epilog("mlrs zoo push learned/my-schedule --repo me/my-schedule --tag v1.0.0"))
def push(
    path: Annotated[Path, typer.Argument(help="An entry's folder, or a folder of entries with its index.json.")],
    repo: Annotated[str, typer.Option("--repo", metavar="ORG/REPO", help="Where to; made if it is absent.")],
    tag: Annotated[
        str | None, typer.Option("--tag", help="Tag to set, as in v1.0.0; one that exists is not moved.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repo private.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything here, say what would be sent, and stop.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Publish a schedule, or a whole zoo, on the Hub: one commit, then the tag."""
    from mlrs_cli.zoo.hub import push as publish

    done = publish(path, repo, tag, private, dry_run)
    facts: dict[str, Any] = {"repo": done.repo}
    if not dry_run:
        facts |= {"commit": done.commit, "new_commit": done.committed, "tag": done.tag, "new_tag": done.tagged}
    facts |= {
        "files": list(done.files),
        "use": f"hub:{repo}{f'@{tag}' if tag else ''}",
    }
    if as_json:
        print_json(facts)
        return
    said = "would send" if dry_run else "sent" if done.committed else "nothing new to send"
    print_table(said, {k.replace("_", " "): ", ".join(v) if isinstance(v, list) else v for k, v in facts.items()})


@app.command("verify", epilog=epilog("mlrs zoo verify", "mlrs zoo verify ./learned/my-schedule"))
def verify(
    refs: Annotated[list[str] | None, typer.Argument(metavar="[REF...]", help=REFERENCE)] = None, as_json: Json = False
) -> None:
    """Check schedules: files, sizes, hashes, config, weights. Without a name, all of this package against its index."""
    from mlrs_cli.zoo.check import verify_bundled
    from mlrs_cli.zoo.reference import find_entry, parse

    entries = [find_entry(parse(ref)) for ref in refs] if refs else verify_bundled()
    rows = [
        {"name": e.config.name, "version": e.config.version, "folder": str(e.folder), "sound": True} for e in entries
    ]
    if as_json:
        print_json(rows)
    else:
        print_columns("sound", [{k: v for k, v in row.items() if k != "sound"} for row in rows])


@app.command(
    "import", epilog=epilog("mlrs zoo import 1.pth 100.pth 200.pth --stages 0,1/3,2/3 --name mlr-snet-published")
)
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE.pth...", help="The authors' checkpoints, one a stage.")],
    name: Annotated[str, typer.Option("--name", help="Name of the entry.")],
    stages: Annotated[str | None, typer.Option("--stages", help="Share of the budget from which each is used.")] = None,
    cell: Annotated[str, typer.Option("--cell", help="transfer or meta-train.")] = "transfer",
    gamma: Annotated[str, typer.Option("--gamma", help="Measure the scale once or at every-stage.")] = "every-stage",
    entry_version: Annotated[str, typer.Option("--entry-version", help="Version of the entry.")] = "0.1.0",
    description: Annotated[str | None, typer.Option("--description", help="One line for the card.")] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Turn published PyTorch checkpoints of MLR-SNet into an entry."""
    from mlrs_cli.zoo.config import check_name
    from mlrs_cli.zoo.published import import_checkpoints

    if cell not in ("transfer", "meta-train"):
        raise UsageError(f"--cell is transfer or meta-train, got '{cell}'")
    if gamma not in ("once", "every-stage"):
        raise UsageError(f"--gamma is once or every-stage, got '{gamma}'")
    check_name(name, entry_version)
    starts = shares(stages) if stages else [i / len(files) for i in range(len(files))]
    entry = import_checkpoints(files, starts, name, out or Path(name), cell, entry_version, description, gamma)  # type: ignore[arg-type]
    facts = {"name": name, "version": entry_version, "stages": len(files), "folder": str(entry.folder)}
    print_json(facts) if as_json else print_table("imported", facts)


def shares(text: str) -> list[float]:
    """Numbers of a list such as `0,1/3,2/3`."""
    try:
        return [float(Fraction(part)) for part in text.split(",")]
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--stages takes shares such as 0,1/3,2/3, got '{text}'") from None


@app.command("index", epilog=epilog("mlrs zoo index zoo"))
def index(
    folder: Annotated[Path, typer.Argument(help="A folder of entries.")],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if the index there is not up to date.")
    ] = False,
) -> None:
    """Write the index of a folder of entries."""
    from mlrs_cli.zoo.index import INDEX, build_index, read_index, write_index

    if not folder.is_dir():
        raise NotFoundError(f"no folder {folder}: name a folder of entries")
    if check:
        if read_index(folder) != build_index(folder):
            raise UsageError(f"{folder / INDEX} is stale: run mlrs zoo index {folder}")
        return
    found = write_index(folder)
    note(f"{folder / INDEX}: {len(found.entries)} entries")
