"""What `config.json` of an entry may say. It may come from anyone, so every field is checked and none is unknown."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mlrs_cli.errors import MLRSError, UsageError

__all__ = [
    "FORMAT_VERSION",
    "EntryConfig",
    "FileFacts",
    "Gamma",
    "LearnedOn",
    "MetaLearner",
    "Method",
    "Results",
    "StageConfig",
    "Transfer",
    "check_config",
    "check_name",
    "parse_config",
]

FORMAT_VERSION = 1
NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
VERSION = r"^\d{1,4}\.\d{1,4}\.\d{1,4}$"


def without_controls(text: str) -> str:
    """Refuse control characters: these texts are shown in terminals."""
    if any(unicodedata.category(c) == "Cc" for c in text):
        raise ValueError("control characters are not allowed")
    return text


Text = Annotated[str, Field(max_length=4000), AfterValidator(without_controls)]
Fact = Annotated[str, Field(max_length=500), AfterValidator(without_controls)]


class Strict(BaseModel):
    """A part of a config: immutable, no unknown fields, finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StageConfig(Strict):
    """From which share of the budget a snapshot is used, and after which share of meta-training it was kept."""

    start: float = Field(ge=0, lt=1)
    kept_after: float | None = Field(None, ge=0, le=1)


class Gamma(Strict):
    """The scale of the rates: which formula, and at which updates its loss is measured."""

    rule: Literal["mlr-snet"]
    measured: Literal["once", "every-stage"]


class Method(Strict):
    """What turns losses into rates."""

    name: Literal["mlr-snet"]
    cell: Literal["transfer", "meta-train"]
    gamma: Gamma
    stages: tuple[StageConfig, ...] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def rising(self) -> Method:
        """Stages start at 0 and rise."""
        starts = [stage.start for stage in self.stages]
        if starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError(f"stages must start at 0 and rise, got {starts}")
        return self


class LearnedOn(Strict):
    """The run in which the schedule was learned. Sizes in examples, `updates` and `epochs` the budget."""

    dataset: Fact
    model: Fact
    updates: int = Field(ge=1, le=10**9)
    epochs: float = Field(gt=0)
    batch_size: int = Field(ge=1)
    optimizer: Literal["sgd", "adam", "adamw"]
    momentum: float = Field(ge=0)
    weight_decay: float = Field(ge=0)
    precision: Literal["fp32", "bf16", "fp16"]
    train_examples: int = Field(ge=1)
    meta_examples: int = Field(ge=0)
    seeds: tuple[int, ...] = Field(max_length=100)


class MetaLearner(Strict):
    """How it was learned: a meta-update every `every` updates on batches of `batch_size` held-out examples.

    `one-step-scalar` learned a single number: the ablation of the network.
    """

    name: Literal["one-step", "one-step-scalar"]
    every: int = Field(ge=1)
    updates: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)


class Results(Strict):
    """Where the run ended: accuracies as fractions, losses in nats."""

    test_accuracy: float | None = Field(None, ge=0, le=1)
    test_loss: float | None = None
    meta_accuracy: float | None = Field(None, ge=0, le=1)
    train_loss: float | None = None
    seconds: float | None = Field(None, ge=0)


class Transfer(Strict):
    """One use of the entry on another task, beside a rival on the same seeds. Accuracies as fractions, means over seeds."""

    command: Text
    seeds: tuple[int, ...] = Field(min_length=1, max_length=100)
    test_accuracy: float = Field(ge=0, le=1)
    rival: Fact
    rival_accuracy: float = Field(ge=0, le=1)


class FileFacts(Strict):
    """Size in bytes and SHA-256 of a file of the entry."""

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class EntryConfig(Strict):
    """One versioned schedule."""

    format_version: Literal[1]
    name: str = Field(pattern=NAME)
    version: str = Field(pattern=VERSION)
    description: Text
    license: Fact
    method: Method
    learned_on: LearnedOn | None = None
    meta_learner: MetaLearner | None = None
    results: Results | None = None
    transfers: tuple[Transfer, ...] = Field((), max_length=100)
    command: Text | None = None
    environment: dict[Fact, Fact | int | None] = Field(default_factory=dict, max_length=50)
    files: dict[Literal["schedule.safetensors", "curves.csv"], FileFacts]


def check_name(name: str, version: str) -> None:
    """Refuse a name or a version that no entry may have.

    Raises:
        UsageError: with the rule.
    """
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f"'{name}' is no name of an entry: use lower-case letters, digits, . _ - and at most 64 of them"
        )
    if not re.fullmatch(VERSION, version):
        raise UsageError(f"'{version}' is no version: write three numbers, as in 1.0.0")


def parse_config(text: str | bytes, source: str) -> EntryConfig:
    """The config of an entry.

    Args:
        text: JSON.
        source: names the file in errors.

    Raises:
        MLRSError: not JSON, of another format version, or a field that is unknown, missing or off.
    """
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MLRSError(f"{source} is not JSON ({error}): fetch the entry again") from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise MLRSError(
            f"{source} has format version {version} and this mlrs reads up to {FORMAT_VERSION}: pip install -U mlrs-cli"
        )
    return check_config(content, source)


def check_config(content: Any, source: str) -> EntryConfig:
    """The config in plain data.

    Raises:
        MLRSError: a field is unknown, missing or off.
    """
    try:
        return EntryConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise MLRSError(f"{source} is not a valid entry config: {place}: {first['msg']}") from None
