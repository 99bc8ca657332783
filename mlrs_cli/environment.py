"""Where a run took place: versions and machine, for reports and cards. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import mlrs_cli

__all__ = ["environment"]

PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "safetensors", "huggingface-hub")
OPTIONAL = ("schedulefree", "prodigyopt", "dadaptation")  # rivals of a comparison


@functools.cache
def environment() -> dict[str, str | int | None]:
    """Versions of `mlrs`, Python and the libraries a result depends on, processor, cores, commit of a source checkout."""
    versions = {name: metadata.version(name) for name in PACKAGES}
    for name in OPTIONAL:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "mlrs": mlrs_cli.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        **versions,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def processor() -> str:
    """Name of the processor, with the matrix units that decide bf16's speed."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    extra = " with AMX" if "amx_bf16" in facts.get("flags", "").split() else ""
    return facts.get("model name", platform.machine()) + extra


def commit() -> str | None:
    """Commit of the source checkout this package runs from, `-dirty` if it was changed since; None for an installed one."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
