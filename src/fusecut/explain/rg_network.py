"""The policy of RG-Explainer (Shan et al., NeurIPS 2021): where to start, what to add, when to stop.

For one group, n nodes with embeddings z from the validity network. The edges are taken both ways for
neighbourhoods and PageRank; the validity network keeps their direction. Selected sets are rows of a
boolean table, so that many go forward side by side.

    seed:   softmax over v of MLP[graph embedding, z(v)], widths 64, 8, 1
    state:  h(v) = two residual swish blocks on W z(v) + w1 ppr_seed(v) + w2 ppr_S(v), width 64
    add v:  log softmax over the boundary of a . h(v), plus log softmax(b)[go]
    stop:   log softmax(b)[stop], b from an attention-pooled sum of h over S and its boundary

Personalised PageRank is that of APPNP: p = 0.85 e + 0.15 A p, three steps, A symmetrically normalised
with self-loops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from fusecut.explain.features import Batch
from fusecut.explain.gnn import HIDDEN, ValidityModel

TELEPORT: Final = 0.85
STEPS: Final = 3
WIDTH: Final = 64
SIZE_LIMIT: Final = 20
FEWEST_NODES: Final = 4
"""Smaller groups have too few subgraphs to choose from: every edge gets the same score."""

NEVER: Final = -1e9


@dataclass(frozen=True)
class Place:
    """A group as the policy sees it: ``nodes`` (n, 128), ``whole`` (128), ``near`` (n, n) neighbours
    both ways, ``rank`` (n, n) the PageRank of every node from every node."""

    nodes: Tensor
    whole: Tensor
    near: Tensor
    rank: Tensor

    def __len__(self) -> int:
        return len(self.nodes)

    def boundary(self, chosen: Tensor) -> Tensor:
        """Neighbours of selected sets (B, n) that are not in them."""
        return (chosen.float() @ self.near > 0) & ~chosen


def place_of(model: ValidityModel, x: Tensor, batch: Batch) -> Place:
    """The place of one group. Embeddings are scaled to about 1; O(n^3) for PageRank."""
    edges = torch.from_numpy(batch.edges)
    with torch.no_grad():
        nodes = model.network.embed(x, edges)
    near = torch.zeros(len(x), len(x))
    near[edges[0], edges[1]] = near[edges[1], edges[0]] = 1.0
    loops = near + torch.eye(len(x))
    scale = loops.sum(1).rsqrt()
    step = scale[:, None] * loops * scale
    rank = torch.eye(len(x))
    for _ in range(STEPS):
        rank = TELEPORT * torch.eye(len(x)) + (1 - TELEPORT) * step @ rank
    whole = nodes.sum(0)
    return Place(nodes / nodes.norm(dim=1).mean().clamp(min=1e-6), whole / whole.norm().clamp(min=1e-6), near, rank)


class Policy(nn.Module):
    """Seed locator and generator."""

    def __init__(self, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.locator = nn.Sequential(
            nn.Linear(2 * hidden, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, 1)
        )
        self.project = nn.Linear(hidden, WIDTH)
        self.from_ranks = nn.Linear(2, WIDTH, bias=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH)) for _ in range(2)
        )
        self.attend = nn.Linear(WIDTH, 1)
        self.add = nn.Linear(WIDTH, 1)
        self.go = nn.Linear(WIDTH, 2)
        for head in (self.add, self.go):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def seeds(self, place: Place) -> Tensor:
        """Log-probabilities of the starting points, (n)."""
        whole = place.whole.expand(len(place), -1)
        logits: Tensor = self.locator(torch.cat([whole, place.nodes], dim=1)).view(-1)
        return logits.log_softmax(0)

    def actions(self, place: Place, chosen: Tensor, seeds: Tensor) -> Tensor:
        """Log-probabilities for selected sets (B, n) that grew from ``seeds`` (B): add each node, or,
        in the last column, stop; (B, n + 1). Only nodes of the boundary can be added; without any, stop."""
        ranks = torch.stack([place.rank[:, seeds].t(), chosen.float() @ place.rank.t()], dim=-1)
        h = self.project(place.nodes) + self.from_ranks(ranks)
        for block in self.blocks:
            h = h + block(nn.functional.silu(h))
        boundary = place.boundary(chosen)
        seen = (chosen | boundary)[..., None]
        weight = self.attend(h).masked_fill(~seen, NEVER).softmax(1)
        go = self.go((weight * h).sum(1)).log_softmax(-1)
        which = self.add(h).squeeze(-1).masked_fill(~boundary, NEVER).log_softmax(-1)
        adds = (which + go[:, :1]).masked_fill(~boundary, NEVER)
        stop = go[:, 1:].masked_fill(~boundary.any(1, keepdim=True), 0.0)
        return torch.cat([adds, stop], dim=1)


class Grown(NamedTuple):
    """Sets grown side by side: ``order`` (B, n) at which step each node came, 0 for the seed, -1 for
    never; ``states`` and ``acts`` of every step, with ``live`` rows that still grew then."""

    order: Tensor
    states: list[Tensor]
    acts: list[Tensor]
    live: list[Tensor]

    @property
    def chosen(self) -> Tensor:
        return self.order >= 0


def grow(
    policy: Policy, place: Place, order: Tensor, seeds: Tensor, draws: torch.Generator | None, limit: int = SIZE_LIMIT
) -> Grown:
    """Go on from sets (B, n) until all have stopped: by the stop action, at the size limit, or with no
    boundary left. Greedy without ``draws``. At most ``limit`` steps, each O(B n)."""
    order = order.clone()
    live = torch.ones(len(order), dtype=torch.bool)
    states, acts, lives = list[Tensor](), list[Tensor](), list[Tensor]()
    rows = torch.arange(len(order))
    while True:
        chosen = order >= 0
        live = live & (chosen.sum(1) < limit) & place.boundary(chosen).any(1)
        if not live.any():
            return Grown(order, states, acts, lives)
        logs = policy.actions(place, chosen, seeds)
        act = logs.argmax(1) if draws is None else torch.multinomial(logs.exp(), 1, generator=draws).view(-1)
        states.append(chosen)
        acts.append(act)
        lives.append(live)
        live = live & (act < len(place))
        order[rows[live], act[live]] = order[live].amax(1) + 1


def from_seeds(place: Place, seeds: Tensor) -> Tensor:
    """The orders of sets of one node each, (B, n)."""
    order = torch.full((len(seeds), len(place)), -1)
    order[torch.arange(len(seeds)), seeds] = 0
    return order
