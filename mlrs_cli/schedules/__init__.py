"""What decides the learning rate. Pure: numbers in, numbers out; no data, no files, no torch."""

from mlrs_cli.schedules.contract import Observation, Probe, Schedule
from mlrs_cli.schedules.handmade import HANDMADE
from mlrs_cli.schedules.named import NAMED, parse_named

__all__ = ["HANDMADE", "NAMED", "Observation", "Probe", "Schedule", "parse_named"]
