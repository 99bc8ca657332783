"""The paper's meta-learner: a one-step look-ahead on held-out data, in closed form.

With the update w' = w − α(θ)·d, whatever the optimizer's direction d,

    ∂L_meta(w')/∂θ = −⟨∇L_meta(w'), d⟩ · ∂α/∂θ,        α(θ) = γ·σ(θ)

so one meta-update costs one forward and backward pass on a meta batch, and no graph runs through the model. The
authors differentiate through the update instead; the tests hold both forms together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from mlrs_cli.errors import UsageError
from mlrs_cli.meta.network import Network, State
from mlrs_cli.schedules.contract import Observation, Schedule
from mlrs_cli.schedules.gamma import gamma
from mlrs_cli.schedules.mlr_snet import Cell

__all__ = ["Learns", "OneStep"]

Learns = Literal["network", "scalar"]


class OneStep(Schedule):
    """A schedule that learns while it is used.

    Every `every` updates, the first included: look ahead with the present network, take one Adam step on θ, and answer
    with the new network from the same recurrent state. The state moves once per update (the authors' code moves it
    twice on an update with a meta-step).

    Args:
        every: updates from one meta-update to the next, the paper's T_val.
        meta_lr: Adam's learning rate on θ.
        meta_weight_decay: Adam's weight decay on θ.
        snapshots: shares of the budget after which θ is kept, rising to at most 1.
        cell: which of the two published cells to learn.
        seed: of θ's initial values.
        learns: `network`, or for the ablation `scalar`: all weights are zero but the last bias s, so α = γ·σ(s) whatever
            the loss, and what comes out is an entry like any other.
        scale: a factor on γ.
    """

    def __init__(
        self,
        every: int,
        meta_lr: float = 1e-3,
        meta_weight_decay: float = 1e-4,
        snapshots: Sequence[float] = (0.005, 0.5, 1.0),
        cell: Cell = "transfer",
        seed: int = 0,
        learns: Learns = "network",
        scale: float = 1.0,
    ) -> None:
        if not snapshots or list(snapshots) != sorted(set(snapshots)) or not 0 < snapshots[0] <= snapshots[-1] <= 1:
            raise UsageError(f"snapshots must rise within (0, 1], got {', '.join(map(str, snapshots))}")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # the CPU's alone, which is what is put back
            self.network = Network(cell)
        if learns == "scalar":
            with torch.no_grad():
                for parameter in self.network.parameters():
                    parameter.zero_().requires_grad_(parameter is self.network.head.bias)
        learned = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(learned, lr=meta_lr, weight_decay=meta_weight_decay)
        self.every, self.snapshots, self.scale = every, tuple(snapshots), scale
        self.state: State = self.network.start()
        self.gamma, self.meta_updates = 0.0, 0
        self.kept: list[dict[str, Tensor]] = []

    def lr(self, observation: Observation) -> float:
        """Learning rate γ·σ of this update, after a meta-update where one is due."""
        if observation.step == 0:
            self.gamma = self.scale * gamma(observation.loss, observation.num_classes)
        if observation.step % self.every == 0:
            self.learn(observation)
        with torch.no_grad():
            sigma, self.state = self.network(observation.loss, self.state)
        done = (observation.step + 1) / observation.budget
        while len(self.kept) < len(self.snapshots) and done >= self.snapshots[len(self.kept)]:
            self.kept.append({k: v.detach().clone() for k, v in self.network.state_dict().items()})
        return self.gamma * float(sigma)

    def learn(self, observation: Observation) -> None:
        """One Adam step on θ along the one-step meta-gradient; none where the look-ahead itself diverges."""
        sigma, _ = self.network(observation.loss, self.state)
        slope = observation.ask().meta_slope(self.gamma * float(sigma.detach()))
        if not math.isfinite(slope):
            return
        self.optimizer.zero_grad()
        (-slope * self.gamma * sigma).backward()
        self.optimizer.step()
        self.meta_updates += 1

    def state_dict(self) -> dict[str, Any]:
        """θ, Adam's moments, the recurrent state, γ and the snapshots kept so far."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "h": self.state[0],
            "c": self.state[1],
            "gamma": self.gamma,
            "meta_updates": self.meta_updates,
            "kept": self.kept,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.state = (state["h"], state["c"])
        self.gamma, self.meta_updates = state["gamma"], state["meta_updates"]
        self.kept = list(state["kept"])
