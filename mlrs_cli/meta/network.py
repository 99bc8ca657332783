"""MLR-SNet's network in torch, as it is learned: slow, readable, differentiable."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlrs_cli.schedules.mlr_snet import HIDDEN, NARROW, Cell

__all__ = ["Network", "State"]

State = tuple[Tensor, Tensor]


class Network(nn.Module):
    """Training loss → σ in (0, 1): one LSTM-like layer whose two gate maps are two-layer networks. 11,776 parameters.

    Parameter names and shapes are those of `mlrs_cli.schedules.mlr_snet.SHAPES`.
    """

    def __init__(self, cell: Cell = "transfer") -> None:
        super().__init__()
        self.cell = cell
        self.input_0, self.input_1 = nn.Linear(1, NARROW), nn.Linear(NARROW, 4 * HIDDEN)
        self.hidden_0, self.hidden_1 = nn.Linear(HIDDEN, NARROW), nn.Linear(NARROW, 4 * HIDDEN)
        self.head = nn.Linear(HIDDEN, 1)

    def start(self) -> State:
        """The state before the first update: (h, c), each of shape (50,)."""
        return torch.zeros(HIDDEN), torch.zeros(HIDDEN)

    def forward(self, loss: float, state: State) -> tuple[Tensor, State]:
        """σ (a scalar) for this update's training loss, and the new state."""
        h, c = state
        x = torch.full((1,), loss, dtype=h.dtype)
        gates = self.input_1(self.input_0(x).relu()) + self.hidden_1(self.hidden_0(h).relu())
        if self.cell == "transfer":
            i, f, candidate, o = gates.chunk(4)
        else:
            i, f, o, candidate = gates.chunk(4)
            f = f - 1
        c = f.sigmoid() * c + i.sigmoid() * candidate.tanh()
        h = o.sigmoid() * c.tanh()
        return self.head(h).sigmoid().squeeze(), (h, c)
