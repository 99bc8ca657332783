"""What decides the learning rate. Pure: numbers in, numbers out; no data, no files, no torch."""

from mlrs_cli.schedules.contract import Observation, Probe, Schedule
from mlrs_cli.schedules.handmade import HANDMADE, parse_handmade

__all__ = ["HANDMADE", "Observation", "Probe", "Schedule", "parse_handmade"]
