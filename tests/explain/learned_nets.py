"""Untrained networks and small problems for tests of the learned explainers. No test lives here."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from fusecut.bonds import components
from fusecut.explain.features import feature_names
from fusecut.explain.gnn import Trained, ValidityModel, ValidityNet
from fusecut.ir import Group
from fusecut.ops import RULES
from fusecut.problem import Problem
from fusecut.search import RandomSearch
from fusecut.testing import random_problem

VOCABULARY = tuple(sorted(set(RULES) - {"opaque", "softmax"}))


def untrained(scheme: str = "lbdf", seed: int = 0) -> ValidityModel:
    """A validity network with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ValidityNet(len(feature_names(VOCABULARY)))
    return ValidityModel(network.eval(), Trained(scheme, VOCABULARY, (65_536, 262_144), ("none",), seed))


@cache
def met(seed: int, ops: int = 9) -> tuple[Problem, tuple[Group, ...]]:
    """A small random problem, and groups of two ops or more that a random search meets; last the largest
    connected part of the network."""
    problem = random_problem(seed, ops)
    rng = np.random.default_rng(seed)
    plans = RandomSearch().propose(problem, rng)
    groups: set[Group] = set()
    for _ in range(12):
        plan = next(plans).partition
        groups.update(group for group in (plan.groups if plan else ()) if group & (group - 1))
    whole = max(components(problem.graph, problem.graph.everything), key=int.bit_count)
    return problem, (*sorted(groups - {whole}), whole)
