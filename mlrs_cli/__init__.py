"""mlrs: train neural networks with learned learning-rate schedules."""

__version__ = "0.1.0"
