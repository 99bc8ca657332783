"""The card of an entry: the README.md that the Hub shows, made from the config alone."""

from __future__ import annotations

from mlrs_cli.zoo.config import EntryConfig

__all__ = ["card"]

HUB_DATASETS = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100", "mnist": "ylecun/mnist"}
CITATION = """@article{shu2022mlrsnet,
  title   = {MLR-SNet: Transferable LR Schedules for Heterogeneous Tasks},
  author  = {Shu, Jun and Zhu, Yanwen and Zhao, Qian and Meng, Deyu and Xu, Zongben},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  year    = {2022}
}"""


def card(config: EntryConfig) -> str:
    """Markdown with YAML front matter."""
    return "\n\n".join([front_matter(config), *body(config)]) + "\n"


def front_matter(config: EntryConfig) -> str:
    """What the Hub indexes."""
    lines = ["---", "library_name: mlrs", f"license: {config.license.lower()}", "tags:"]
    lines += [f"- {tag}" for tag in ("learning-rate-schedule", "meta-learning", config.method.name)]
    if config.learned_on:
        dataset = config.learned_on.dataset
        lines += ["datasets:", f"- {HUB_DATASETS.get(dataset, dataset)}"]
    if config.results and config.results.test_accuracy is not None:
        lines += ["metrics:", "- accuracy"]
    return "\n".join([*lines, "---"])


def body(config: EntryConfig) -> list[str]:
    """The sections."""
    name, method = config.name, config.method
    parts = [f"# {name} {config.version}", config.description, "## Use", f"```\nmlrs transfer --schedule {name}\n```"]
    parts += ["## What it was learned on", learned_on(config)]
    stages = ", ".join(f"{stage.start:.3g}" for stage in method.stages)
    measured = "at the first update" if method.gamma.measured == "once" else "at the first update of every stage"
    parts += [
        "## What it is",
        f"MLR-SNet: a recurrent network of 11,776 parameters reads the training loss at each update and answers with σ; the "
        f"rate is γσ. The `{method.cell}` cell, {len(method.stages)} snapshots used from the shares {stages} of the budget, "
        f"γ measured from the loss {measured}.",
        "## How it transfers",
        transfers(config),
        "## What it is not good for",
        "Its rates fit the optimizer it was learned with; with another one `mlrs transfer` scales them by a rule of thumb. "
        "It has no warm-up. Budgets and models far from those above are untested unless a result says so.",
    ]
    if config.command:
        versions = ", ".join(f"{k} {v}" for k, v in config.environment.items() if v is not None)
        parts += ["## How to reproduce it", f"```\n{config.command}\n```", f"Made with {versions}."]
    return [*parts, "## How to cite", f"```bibtex\n{CITATION}\n```"]


def transfers(config: EntryConfig) -> str:
    """The measured uses on other tasks."""
    if not config.transfers:
        return "Not measured yet."
    lines = ["| command | seeds | test accuracy | rival | rival's |", "|---|---|---|---|---|"]
    for row in config.transfers:
        seeds = ", ".join(map(str, row.seeds))
        lines.append(
            f"| `{row.command}` | {seeds} | {row.test_accuracy:.4f} | `{row.rival}` | {row.rival_accuracy:.4f} |"
        )
    return "\n".join(lines)


def learned_on(config: EntryConfig) -> str:
    """The run in words."""
    on, how, end = config.learned_on, config.meta_learner, config.results
    if on is None:
        return "Not known: it was imported."
    seeds = ", ".join(map(str, on.seeds))
    momentum = f"momentum {on.momentum:g}" if on.momentum else "no momentum"
    lines = [
        f"- task: {on.model} on {on.dataset}, {on.train_examples:,} training and {on.meta_examples:,} meta images, disjoint",
        f"- budget: {on.updates:,} updates ({on.epochs:g} epochs) of batch {on.batch_size}, {on.precision}, seed {seeds}",
        f"- optimizer: {on.optimizer}, {momentum}, weight decay {on.weight_decay:g}",
    ]
    if how:
        lines.append(
            f"- meta-learner: {how.name} look-ahead every {how.every} updates, {how.updates} meta-updates in all, batch "
            f"{how.batch_size}, Adam {how.lr:g}, weight decay {how.weight_decay:g}"
        )
    if end and end.test_accuracy is not None:
        lines.append(f"- where that run ended: test accuracy {end.test_accuracy:.4f}, test loss {end.test_loss:.4f}")
    return "\n".join(lines)
