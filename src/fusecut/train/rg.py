"""How RG-Explainer is taught: by example first, then by reward.

The reward of a subgraph S that grew from a seed is

    -(CE(f(S), "infeasible") + 0.01 edges(S) + 0.01 depth(S) + 0.01 |e(S) - e(G)| / |e(G)|)

f the validity network on the edges within S, CE its cross-entropy, depth the most steps between the
seed and a node of S, e the embedding of a graph (Shan et al., NeurIPS 2021; weights from the paper).

1. *Examples*: for a seed, several sets grown layer by layer around it in random order; the one of the
   best reward is imitated, first its order (10 epochs), then any order of the same set (25).
2. *Reward*: REINFORCE on sampled growths. A set is worth the mean reward of 5 random completions, the
   last one the reward reached; a step is paid by how much more the set is worth after it. The policy of
   the epoch with the best greedy reward is kept, which may be that of the examples. Adam at the paper's
   rate of 1e-2, and the mean of a growth as baseline, forgot the examples in the first epoch.
3. *Seeds*, all along: towards softmax(reward that the greedy growth from each seed reaches / 0.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from fusecut.explain.features import FEATURES_VERSION
from fusecut.explain.gnn import ValidityModel
from fusecut.explain.rg_network import SIZE_LIMIT, Grown, Place, Policy, from_seeds, grow, place_of
from fusecut.explain.rgexplainer import KIND
from fusecut.explain.weights_file import weights_bytes
from fusecut.threads import one_thread
from fusecut.train.explainers import Case, Report

PENALTY: Final = 0.01
SHARPNESS: Final = 0.1
EXAMPLES: Final = 16


@dataclass(frozen=True)
class RGSettings:
    """How RG-Explainer is taught."""

    ordered_epochs: int = 10
    any_order_epochs: int = 25
    reward_epochs: int = 10
    completions: int = 5
    imitation_rate: float = 3e-3
    reward_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class Lesson:
    """A case with its place, and what rewards need: ``edges`` (2, E), ``hops`` (n, n), embedding of the group."""

    case: Case
    place: Place
    edges: Tensor
    hops: Tensor
    whole: Tensor


def train_rg(model: ValidityModel, taught: list[Case], settings: RGSettings, on_progress: Report | None) -> bytes:
    """The weights of an RG-Explainer, as a file. Interrupted, it keeps what was learned so far."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        policy = Policy(model.network.out.in_features)
    teacher = _Teacher(model, policy, settings)
    try:
        with one_thread():
            lessons = [lesson_of(model, case) for case in taught]
            teacher.by_example(lessons, on_progress)
            teacher.by_reward(lessons, on_progress)
    except KeyboardInterrupt:
        if on_progress is not None:
            on_progress("interrupted: keeping what was learned so far")
    if teacher.best is not None:
        policy.load_state_dict(teacher.best[1])
    header = {"scheme": model.trained.scheme, "validity_sha256": model.fingerprint, "seed": settings.seed}
    return weights_bytes(policy.state_dict(), KIND, FEATURES_VERSION, header)


def lesson_of(model: ValidityModel, case: Case) -> Lesson:
    """All that is known of a case before training. O(n^3)."""
    place = place_of(model, case.x, case.batch)
    edges = torch.from_numpy(case.batch.edges)
    with torch.no_grad():
        whole = model.network.embed(case.x, edges).sum(0)
    reached, hops = torch.eye(len(place)), torch.full((len(place), len(place)), len(place))
    for step in range(len(place)):
        hops = torch.where((reached > 0) & (hops > step), step, hops)
        reached = ((reached + reached @ place.near) > 0).float()
    return Lesson(case, place, edges, hops, whole)


def rewards(model: ValidityModel, lesson: Lesson, chosen: Tensor, seeds: Tensor) -> Tensor:
    """What sets (B, n) that grew from ``seeds`` (B) are worth, (B). One batch through the network."""
    count, n = chosen.shape
    owner, node = chosen.nonzero(as_tuple=True)
    place = chosen.view(-1).cumsum(0).view(count, n) - 1
    inside = chosen[:, lesson.edges[0]] & chosen[:, lesson.edges[1]]
    of, edge = inside.nonzero(as_tuple=True)
    edges = torch.stack([place[of, lesson.edges[0][edge]], place[of, lesson.edges[1][edge]]])
    with torch.no_grad():
        embedded = model.network.embed(lesson.case.x[node], edges)
        logits = model.network.judge(embedded, owner, count)
        pooled = embedded.new_zeros(count, embedded.shape[1]).index_add_(0, owner, embedded)
    surprise = torch.nn.functional.cross_entropy(logits, torch.ones(count, dtype=torch.long), reduction="none")
    depth = torch.where(chosen, lesson.hops[seeds], 0).amax(1)
    distance = (pooled - lesson.whole).norm(dim=1) / lesson.whole.norm().clamp(min=1e-6)
    return -(surprise + PENALTY * (inside.sum(1) + depth + distance))


class _Teacher:
    def __init__(self, model: ValidityModel, policy: Policy, settings: RGSettings) -> None:
        self.model, self.policy, self.settings = model, policy, settings
        self.best: tuple[float, dict[str, Tensor]] | None = None
        self.rng = np.random.default_rng(settings.seed)
        self.draws = torch.Generator().manual_seed(settings.seed)

    def by_example(self, lessons: list[Lesson], on_progress: Report | None) -> None:
        """Imitate the best of several neighbourhoods."""
        optimiser = torch.optim.Adam(self.policy.parameters(), lr=self.settings.imitation_rate)
        examples = [self._example(lesson) for lesson in lessons]
        epochs = self.settings.ordered_epochs + self.settings.any_order_epochs
        for epoch in range(epochs):
            in_order = epoch < self.settings.ordered_epochs
            losses = []
            for k in self.rng.permutation(len(lessons)).tolist():
                seeds = self._seed_loss(lessons[k]) if epoch % 5 == 4 else torch.zeros(())
                losses.append(self._step(optimiser, self._imitation(lessons[k], examples[k], in_order) + seeds))
            if on_progress is not None and epoch % 5 == 4:
                on_progress(f"examples, epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.4f}")

    def by_reward(self, lessons: list[Lesson], on_progress: Report | None) -> None:
        """REINFORCE, one group after another; the best policy is kept beside."""
        optimiser = torch.optim.Adam(self.policy.parameters(), lr=self.settings.reward_rate)
        self._keep_the_best(lessons)
        for epoch in range(self.settings.reward_epochs):
            for k in self.rng.permutation(len(lessons)).tolist():
                self._step(optimiser, self._reinforced(lessons[k]) + self._seed_loss(lessons[k]))
            reward = self._keep_the_best(lessons)
            if on_progress is not None:
                on_progress(f"reward, epoch {epoch + 1} of {self.settings.reward_epochs}: greedy {reward:.4f}")

    def _keep_the_best(self, lessons: list[Lesson]) -> float:
        """Mean reward of greedy growths from the likeliest seeds."""
        reached = []
        with torch.no_grad():
            for lesson in lessons:
                seed = self.policy.seeds(lesson.place).argmax().view(1)
                path = grow(self.policy, lesson.place, from_seeds(lesson.place, seed), seed, None)
                reached.append(float(rewards(self.model, lesson, path.chosen, seed)))
        mean = float(np.mean(reached))
        if self.best is None or mean > self.best[0]:
            self.best = mean, {name: tensor.clone() for name, tensor in self.policy.state_dict().items()}
        return mean

    def _step(self, optimiser: torch.optim.Optimizer, loss: Tensor) -> float:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        optimiser.step()
        return float(loss.detach())

    def _example(self, lesson: Lesson) -> list[int]:
        """The best of several random neighbourhoods of a random seed, as an order of nodes."""
        seed = int(self.rng.integers(len(lesson.place)))
        orders = [_layers(lesson.place.near, seed, self.rng) for _ in range(EXAMPLES)]
        chosen = torch.zeros(EXAMPLES, len(lesson.place), dtype=torch.bool)
        for row, order in zip(chosen, orders, strict=True):
            row[order] = True
        worth = rewards(self.model, lesson, chosen, torch.full((EXAMPLES,), seed))
        return orders[int(worth.argmax())]

    def _imitation(self, lesson: Lesson, order: list[int], in_order: bool) -> Tensor:
        """Minus the log-likelihood of growing so, a step at a time, then stopping."""
        n, steps = len(lesson.place), len(order)
        states = torch.zeros(steps, n, dtype=torch.bool)
        for k in range(steps):
            states[k, order[: k + 1]] = True
        logs = self.policy.actions(lesson.place, states, torch.full((steps,), order[0]))
        if in_order:
            return -logs[torch.arange(steps), torch.tensor([*order[1:], n])].mean()
        wanted = lesson.place.boundary(states) & states[-1]
        right = torch.cat([wanted, ~wanted.any(1, keepdim=True)], dim=1)
        return -logs.masked_fill(~right, -torch.inf).logsumexp(1).mean()

    def _reinforced(self, lesson: Lesson) -> Tensor:
        """Minus what the steps of one growth are paid, times their log-likelihood."""
        with torch.no_grad():
            logs = self.policy.seeds(lesson.place)
            seed = torch.multinomial(logs.exp(), 1, generator=self.draws)
            path = grow(self.policy, lesson.place, from_seeds(lesson.place, seed), seed, self.draws)
            paid = self._worth(lesson, path, seed).diff()
        states = torch.cat(path.states)
        logs = self.policy.actions(lesson.place, states, seed.expand(len(states)))
        taken = logs[torch.arange(len(states)), torch.cat(path.acts)]
        return -(taken * paid).mean()

    def _worth(self, lesson: Lesson, path: Grown, seed: Tensor) -> Tensor:
        """What the set is worth before each step of one growth, and at its end."""
        steps, m = len(path.states), self.settings.completions
        before = torch.stack([torch.where(path.order[0] <= k, path.order[0], -1) for k in range(steps)])
        starts = seed.expand(m * steps)
        ends = grow(self.policy, lesson.place, before.repeat_interleave(m, 0), starts, self.draws)
        mean = rewards(self.model, lesson, ends.chosen, starts).view(steps, m).mean(1)
        return torch.cat([mean, rewards(self.model, lesson, path.chosen, seed)])

    def _seed_loss(self, lesson: Lesson) -> Tensor:
        seeds = torch.arange(len(lesson.place))
        with torch.no_grad():
            ends = grow(self.policy, lesson.place, from_seeds(lesson.place, seeds), seeds, None)
            wanted = (rewards(self.model, lesson, ends.chosen, seeds) / SHARPNESS).softmax(0)
        return torch.nn.functional.kl_div(self.policy.seeds(lesson.place), wanted, reduction="sum")


def _layers(near: Tensor, seed: int, rng: Generator) -> list[int]:
    """A neighbourhood of random size, layer by layer, each layer in random order."""
    limit = int(rng.integers(1, min(SIZE_LIMIT, len(near)) + 1))
    order, layer, seen = [seed], [seed], {seed}
    while layer and len(order) < limit:
        beyond = sorted({v for u in layer for v in near[u].nonzero().view(-1).tolist()} - seen)
        layer = [beyond[i] for i in rng.permutation(len(beyond)).tolist()]
        seen.update(layer)
        order += layer
    return order[:limit]
