"""`mlrs env`."""

from __future__ import annotations

from mlrs_cli.commands.display import print_json, print_table
from mlrs_cli.commands.options import Json


def command(as_json: Json = False) -> None:
    """Show versions, machine and folders, for a report of a fault."""
    from huggingface_hub import constants

    from mlrs_cli.environment import environment
    from mlrs_cli.tasks.datasets import data_root
    from mlrs_cli.zoo.bundled import bundled_folder
    from mlrs_cli.zoo.hub import ZOO_REPO, ZOO_REVISION

    facts = {
        **environment(),
        "zoo": str(bundled_folder()),
        "zoo on the Hub": f"{ZOO_REPO}@{ZOO_REVISION}",
        "Hub cache": constants.HF_HUB_CACHE,
        "data": str(data_root(None)),
    }
    print_json(facts) if as_json else print_table("environment", facts)
