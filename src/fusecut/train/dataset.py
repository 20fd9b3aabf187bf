"""Labelled groups: what a random search met, and in which buffers it can run.

A sample is (group, buffer) with the answer of the scheme's own cost model. The groups are those that
:class:`fusecut.search.RandomSearch` asked about, plan after plan, once in each buffer: random groups
of random plans, and the parts that infeasible ones were split into, which lie near the edge of what fits.

``infeasible`` means under ``lbdf`` that line buffers and weights do not fit. Under ``brr`` it means that
no number of bands fits: a group that runs at the price of weights or rows read again is feasible. A
single op is labelled by the scheme alone, without the layer-wise fallback.

The file is a NumPy archive (.npz) of plain arrays: nothing in it is ever executed.
"""

from __future__ import annotations

import zipfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fusecut.cost import BufferFloor, CostModel, Infeasible, Planned
from fusecut.errors import FusecutError, UnknownNameError
from fusecut.explain.features import Ints
from fusecut.ir import Graph, Group, bits, mask_of
from fusecut.machine import Machine
from fusecut.models import Brr, Layerwise, LineBuffer, WithFallback
from fusecut.problem import Problem
from fusecut.search import RandomSearch
from fusecut.zoo import load

SCHEMES: Final[dict[str, Callable[[], CostModel]]] = {"lbdf": LineBuffer, "brr": Brr}
"""The schemes with a validity network of their own, without the fallback for single ops."""

KIB: Final = 1024
BUFFERS: Final[dict[str, tuple[int, ...]]] = {
    "lbdf": tuple(k * KIB for k in (64, 128, 256, 512, 1024, 2048)),
    "brr": tuple(k * KIB for k in (16, 32, 64, 128, 256, 512, 1024, 2048)),
}
"""Bytes. BRR fits nearly everything from 512 KiB on: smaller buffers teach what does not fit."""

FORMAT: Final = "fusecut groups 1"
LARGEST_FILE_BYTES: Final = 256 * 2**20
LARGEST_GROUP: Final = 128
MOST_PLANS: Final = 400


@dataclass(frozen=True)
class Samples:
    """Groups of several networks and whether each is infeasible in each buffer.

    ``network_of`` (G) is an index into ``networks``; ``masks`` has G groups; ``infeasible`` is (G, B).
    """

    scheme: str
    seed: int
    networks: tuple[str, ...]
    buffers: tuple[int, ...]
    network_of: Ints
    masks: tuple[Group, ...]
    infeasible: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.masks)

    def of(self, networks: Iterable[str]) -> Samples:
        """The groups of some of the networks."""
        wanted = {self.networks.index(name) for name in networks}
        return self.take(np.array([k for k, n in enumerate(self.network_of) if n in wanted], np.int64))

    def take(self, rows: Ints) -> Samples:
        """Some of the groups."""
        masks = tuple(self.masks[k] for k in rows.tolist())
        return Samples(
            self.scheme, self.seed, self.networks, self.buffers, self.network_of[rows], masks, self.infeasible[rows]
        )


@dataclass
class _Listener:
    """A cost model that remembers which groups it was asked about, in order."""

    model: CostModel
    heard: dict[Group, None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def touches_once(self) -> bool:
        return self.model.touches_once

    def plan(self, graph: Graph, group: Group, machine: Machine) -> Planned | Infeasible:
        self.heard[group] = None
        return self.model.plan(graph, group, machine)

    def finish(self, graph: Graph, planned: Planned, machine: Machine) -> Planned:
        return self.model.finish(graph, planned, machine)

    def buffer_floor(self, graph: Graph, machine: Machine) -> BufferFloor:
        return self.model.buffer_floor(graph, machine)


def scheme_alone(scheme: str) -> CostModel:
    """The cost model of a scheme that has a validity network.

    Raises:
        UnknownNameError: lists the schemes that have one.
    """
    if scheme not in SCHEMES:
        raise UnknownNameError("scheme of a validity network", scheme, SCHEMES)
    return SCHEMES[scheme]()


def collected(
    scheme: str,
    networks: Iterable[str],
    per_network: int,
    seed: int,
    on_progress: Callable[[str], None] | None = None,
) -> Samples:
    """Run the random searches, and label what they met. Interrupted, it keeps the networks done so far.

    Args:
        per_network: most groups of one network; an equal part of them from the search in each buffer.

    Raises:
        UnknownNameError: no such scheme or network.
        FusecutError: nothing was collected.
    """
    model, found = scheme_alone(scheme), list[tuple[str, tuple[Group, ...], NDArray[np.bool_]]]()
    try:
        for index, name in enumerate(networks):
            graph = load(name).with_bits(8, 8, 32)
            groups = _met(graph, model, BUFFERS[scheme], per_network, np.random.default_rng([seed, index]))
            found.append((name, groups, _labelled(graph, model, groups, BUFFERS[scheme])))
            if on_progress is not None:
                on_progress(f"{name}: {len(groups):,} groups, {found[-1][2].mean():.0%} of samples infeasible")
    except KeyboardInterrupt:
        if on_progress is not None:
            on_progress("interrupted: keeping the networks done so far")
    if not found:
        raise FusecutError("no groups were collected: name a network, and let the first one finish")
    return Samples(
        scheme,
        seed,
        tuple(name for name, _, _ in found),
        BUFFERS[scheme],
        np.concatenate([np.full(len(groups), k, np.int64) for k, (_, groups, _) in enumerate(found)]),
        tuple(group for _, groups, _ in found for group in groups),
        np.concatenate([labels for _, _, labels in found]),
    )


def _met(
    graph: Graph, model: CostModel, buffers: tuple[int, ...], most: int, rng: np.random.Generator
) -> tuple[Group, ...]:
    """Distinct groups that random searches asked about, sorted; the same share for each buffer."""
    met: set[Group] = set()
    for k, buffer_bytes in enumerate(buffers):
        heard = _heard(graph, model, buffer_bytes, met, -(-most * (k + 1) // len(buffers)), rng)
        met.update(heard)
    return tuple(sorted(met))


def _heard(
    graph: Graph, model: CostModel, buffer_bytes: int, met: set[Group], target: int, rng: np.random.Generator
) -> Iterator[Group]:
    """New groups until there are ``target`` in all, or plans bring nothing more."""
    listener = _Listener(model)
    problem = Problem(graph, Machine(buffer_bytes), WithFallback(listener, Layerwise()))
    for _ in islice(RandomSearch().propose(problem, rng), MOST_PLANS):
        fresh = [g for g in listener.heard if g not in met and g.bit_count() <= LARGEST_GROUP]
        if len(fresh) >= target - len(met):
            break
    yield from fresh[: max(0, target - len(met))]


def _labelled(graph: Graph, model: CostModel, groups: tuple[Group, ...], buffers: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether each group is infeasible in each buffer, (groups, buffers), buffers ascending.

    A group that fits runs in every larger buffer, too, so the least one is found by bisection.
    """
    machines = [Machine(buffer_bytes) for buffer_bytes in buffers]

    def least(group: Group) -> int:
        return bisect_left(machines, True, key=lambda m: isinstance(model.plan(graph, group, m), Planned))

    return np.arange(len(buffers)) < np.array([least(group) for group in groups], np.int64).reshape(-1, 1)


def to_npz(samples: Samples) -> bytes:
    """The file: names and sizes, and the groups as lists of ops behind one another."""
    ops = [list(bits(group)) for group in samples.masks]
    content = BytesIO()
    np.savez_compressed(
        content,
        format=np.array(FORMAT),
        scheme=np.array(samples.scheme),
        seed=np.array(samples.seed),
        networks=np.array(samples.networks),
        buffer_bytes=np.array(samples.buffers, np.int64),
        network_of=samples.network_of.astype(np.int16),
        ops=np.array([i for group in ops for i in group], np.int16),
        first_op=np.cumsum([0, *map(len, ops)], dtype=np.int64),
        infeasible=samples.infeasible,
    )
    return content.getvalue()


def read(path: str | Path) -> Samples:
    """Read a file of :func:`to_npz` back.

    Raises:
        FusecutError: missing, larger than 256 MiB unpacked, or not such a file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST_FILE_BYTES:
                raise FusecutError(f"{path} is larger than {LARGEST_FILE_BYTES:,} B: not a data set of groups")
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["format"]) != FORMAT:
                raise FusecutError(f"{path} has format {str(arrays['format'])[:40]!r}; this fusecut reads {FORMAT!r}")
            return _rebuilt(arrays)
    except OSError as error:
        raise FusecutError(f"cannot read data set {path}: {error.strerror}; make one: fusecut train dataset") from None
    except (ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FusecutError(f"{path} is not a data set of groups ({reason}); make one: fusecut train dataset") from None


def _rebuilt(arrays: Any) -> Samples:
    ops, first = arrays["ops"].tolist(), arrays["first_op"].tolist()
    masks = tuple(mask_of(ops[a:b]) for a, b in pairwise(first))
    samples = Samples(
        str(arrays["scheme"]),
        int(arrays["seed"]),
        tuple(map(str, arrays["networks"])),
        tuple(arrays["buffer_bytes"].tolist()),
        arrays["network_of"].astype(np.int64),
        masks,
        arrays["infeasible"].astype(np.bool_),
    )
    if samples.infeasible.shape != (len(masks), len(samples.buffers)) or samples.network_of.shape != (len(masks),):
        raise ValueError("its parts are not of one length")
    if not all(masks) or not 0 <= samples.network_of.min() <= samples.network_of.max() < len(samples.networks):
        raise ValueError("it names groups without ops, or networks it does not have")
    return samples
