"""The Optimus papers' claims beside what their own model gives: ``fusecut reproduce optimus``.

The published figures come from two cost models. SqueezeNet ran on the closed forms, the other
networks on a numerical optimiser that no text documents. Ours are the closed forms throughout, so
only the direction and the size of the claims can be compared, not their digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from textwrap import fill
from typing import Final, NamedTuple

from fusecut import machines
from fusecut.errors import FusecutError, UnknownNameError
from fusecut.ir import Graph
from fusecut.models import SCHEMES
from fusecut.models.optimus import PublishedModel, PublishedPlan, variant
from fusecut.reproduce.optimus_nets import NETWORKS, network
from fusecut.search.optimus import Found, linear, offline
from fusecut.solve import solve, unless_interrupted
from fusecut.text import Column, render_table
from fusecut.units import format_bytes

BUFFER_BYTES: Final = 131072
BATCH: Final = 4
BASELINES: Final = ("efficient_s", "dnnvm", "unfused", "best_unfused")
"""The papers' baselines as published, and the honest one last."""

_HEADINGS: Final = dict(zip(BASELINES, ("Efficient-S", "DNNVM", "one fixed", "best of 5"), strict=True))
_NOTES: Final = (
    'Efficient-S and DNNVM keep all weights of a group resident; like "one fixed" (no fusion at all) they '
    'run a layer that is alone by one fixed schedule. "best of 5" is no fusion by the best of five. '
    "Published figures of all networks but SqueezeNet come from a numerical optimiser that is not "
    "documented. None of these plans need be executable, ours excepted: see docs/optimus.md."
)


_OWN: Final = (
    "Plans that can be executed, all ops and halos counted, and the share saved beside the reports (less than 0: more):"
)

_ALIKE: Final = (
    "The same plans beside no fusion, each op by the best of all loop orders, both counted alike; energy of DRAM, "
    "buffer and MACs at the papers' prices:"
)


def published(
    graph: Graph, buffer_bytes: int = BUFFER_BYTES, batch: int | None = None, name: str = "optimus"
) -> PublishedPlan:
    """The plan that the published search finds under the published model.

    Args:
        graph: any network in the model's vocabulary; ops are searched in the order of their names.
        batch: images; None for as many as the graph has.
        name: one of :data:`fusecut.models.optimus.VARIANTS`.

    Raises:
        GraphError: an op that the model does not know.
        MachineError: a buffer that holds no element.
        UnknownNameError: no such variant.
        FusecutError: the model has no schedule for some layer in this buffer.

    >>> plan = published(network("squeezenet"))
    >>> plan.objective_elements, len(plan.groups), plan.states
    (2924931, 9, 519)
    """
    model = PublishedModel.of(graph, buffer_bytes, batch, variant(name))
    found = _search(graph, model)
    groups = [model.group(ops) for ops in found.groups] if found is not None else []
    kept = tuple(g for g in groups if g is not None)
    if found is None or len(kept) < len(groups):
        stuck = next((graph.ops[v].name for v in range(len(graph)) if model.price((v,)) is None), graph.ops[0].name)
        raise FusecutError(
            f"{graph.name!r}: the published Optimus model has no schedule for layer {stuck!r} in "
            f"{format_bytes(buffer_bytes)}: use a larger buffer"
        )
    return PublishedPlan(graph.name, name, model.network.batch, buffer_bytes, kept, found.states)


def _search(graph: Graph, model: PublishedModel) -> Found | None:
    if not model.rules.fuse:
        alone = tuple((v,) for v in range(len(graph)))
        prices = [model.price(ops) for ops in alone]
        known = [p for p in prices if p is not None]
        return Found(alone, sum(known), 0) if len(known) == len(prices) else None
    return linear(graph, model.price) if model.rules.linear else offline(graph, model.price)


@dataclass(frozen=True)
class Against:
    """Optimus beside one baseline: the share of reported bytes it saves, and how often the energy."""

    baseline: str
    dram_bytes: int
    energy_pj: float
    saved: float
    energy_gain: float


@dataclass(frozen=True)
class Own:
    """A plan of our own of the fewest DRAM bytes, and no fusion counted the same way.

    Both energies are those of :mod:`fusecut.objective` on machine ``array32_128k``: the papers' prices of a byte
    and a MAC. They have no loop order between array and buffer, and do not compare with the published ones.
    """

    scheme: str
    dram_bytes: int
    energy_pj: float
    alone_dram_bytes: int
    alone_energy_pj: float


@dataclass(frozen=True)
class Row:
    """One network under the published model. ``ours`` are fusecut's own plans, which keep the buffer's limit
    and count what the published model leaves out."""

    network: str
    batch: int
    buffer_bytes: int
    dram_bytes: int
    objective_bytes: int
    energy_pj: float
    groups: int
    states: int
    against: tuple[Against, ...]
    ours: tuple[Own, ...] = ()


def rows(
    networks: Sequence[str] = tuple(NETWORKS),
    buffer_bytes: int = BUFFER_BYTES,
    batch: int = BATCH,
    schemes: Sequence[str] = (),
) -> Iterator[Row]:
    """The comparison, network by network; a column of our own plans for each of ``schemes``.

    Raises:
        UnknownNameError: a network or scheme that does not exist, before anything is computed.
        FusecutError: no image at all.
    """
    if batch < 1:
        raise FusecutError(f"a batch of {batch} images is none: give at least 1")
    for known, what, names in ((NETWORKS, "Optimus network", networks), (SCHEMES, "scheme", schemes)):
        for name in names:
            if name not in known:
                raise UnknownNameError(what, name, known)
    return (_row(network(name, batch), buffer_bytes, schemes) for name in networks)


def _row(graph: Graph, buffer_bytes: int, schemes: Sequence[str]) -> Row:
    plan = published(graph, buffer_bytes)
    return Row(
        graph.name,
        plan.batch,
        buffer_bytes,
        plan.dram_bytes,
        plan.objective_bytes,
        plan.energy_pj,
        len(plan.groups),
        plan.states,
        tuple(_against(plan, published(graph, buffer_bytes, name=name)) for name in BASELINES),
        tuple(_own(graph, buffer_bytes, scheme) for scheme in schemes),
    )


def _against(plan: PublishedPlan, other: PublishedPlan) -> Against:
    saved = 1 - plan.dram_bytes / other.dram_bytes
    return Against(other.variant, other.dram_bytes, other.energy_pj, saved, other.energy_pj / plan.energy_pj)


def _own(graph: Graph, buffer_bytes: int, scheme: str) -> Own:
    plan, alone = (_solved(graph, buffer_bytes, name) for name in (scheme, "layerwise"))
    return Own(scheme, plan.dram_bytes, plan.energy_pj, alone.dram_bytes, alone.energy_pj)


class _Solved(NamedTuple):
    dram_bytes: int
    energy_pj: float


def _solved(graph: Graph, buffer_bytes: int, scheme: str) -> _Solved:
    machine = replace(machines.load("array32_128k"), buffer_bytes=buffer_bytes)
    solution = unless_interrupted(solve(graph, machine=machine, scheme=scheme))
    energy = solution.figures.energy
    if solution.partition is None or energy is None:
        raise FusecutError(f"{graph.name!r}: scheme {scheme} has no plan in {format_bytes(buffer_bytes)}")
    return _Solved(solution.cost.dram_bytes, energy.fj / 1000)


# --- the claims


class Claim(NamedTuple):
    """A published range; ``code`` is what the public implementation prints at 128 KB and batch 4."""

    what: str
    baselines: tuple[str, ...]
    of: Callable[[Against], float]
    paper: str
    code: str
    networks: tuple[str, ...] = ()


def _percent_saved(a: Against) -> float:
    return 100 * a.saved


def _gain(a: Against) -> float:
    return a.energy_gain


CLAIMS: Final = (
    Claim("fewer DRAM bytes than Efficient-S, %", ("efficient_s",), _percent_saved, "15.0 to 52.4", "14.4 to 47.9"),
    Claim("fewer DRAM bytes than DNNVM, %", ("dnnvm",), _percent_saved, "16.8 to 72.2", "14.4 to 69.4"),
    Claim("fewer DRAM bytes than the baselines, %", BASELINES[:3], _percent_saved, "17 to 75", ""),
    Claim("energy of Efficient-S and DNNVM, times", BASELINES[:2], _gain, "1.86 to 3.66", "1.43 to 2.76"),
    Claim("energy without fusion, one fixed schedule, times", ("unfused",), _gain, "", "1.49 to 3.77"),
    Claim(
        "energy without fusion, best of five, times",
        ("best_unfused",),
        _gain,
        "",
        "1.04 to 1.21",
        ("alexnet", "vggnet", "resnet18"),
    ),
)
"""LCTES 2021 and TECS 2022 (abstract), and Wang, Cai, Zhao, ch. 7 of Low-Power Computer Vision, CRC
2022, at 128 KB and batch 4. The last line covers the three networks it names."""


def claims_table(found: Sequence[Row], width: int = 100, colour: bool = False) -> str:
    """The published ranges beside ours over the given rows."""
    columns = (
        Column("claim", "left", True),
        Column("papers", "left"),
        Column("their code", "left"),
        Column("closed form", "left"),
    )
    return render_table(columns, [[c.what, c.paper, c.code, _range(c, found)] for c in CLAIMS], width, colour)


def _range(claim: Claim, found: Sequence[Row]) -> str:
    wanted = [row for row in found if not claim.networks or row.network in claim.networks]
    values = [claim.of(a) for row in wanted for a in row.against if a.baseline in claim.baselines]
    digits = 1 if claim.of is _percent_saved else 2
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}" if values else ""


def networks_table(found: Sequence[Row], width: int = 100, colour: bool = False) -> str:
    """Bytes network by network, the share saved beside each baseline, and the bytes of our own plans."""
    schemes = [own.scheme for own in found[0].ours] if found else []
    columns = (
        Column("network", "left"),
        Column("groups"),
        Column("DRAM B"),
        *(Column(_HEADINGS[name]) for name in BASELINES),
        *(Column(f"our {scheme} B") for scheme in schemes),
    )
    cells = [
        [
            row.network,
            str(row.groups),
            f"{row.dram_bytes:,}",
            *(f"{100 * a.saved:.1f} %" for a in row.against),
            *(f"{own.dram_bytes:,}" for own in row.ours),
        ]
        for row in found
    ]
    return render_table(columns, cells, width, colour)


def energies_table(found: Sequence[Row], width: int = 100, colour: bool = False) -> str:
    """Energy network by network, and how many times as much each baseline takes."""
    columns = (Column("network", "left"), Column("energy mJ"), *(Column(_HEADINGS[name]) for name in BASELINES))
    cells = [
        [row.network, f"{row.energy_pj / 1e9:.4f}", *(f"{a.energy_gain:.2f}x" for a in row.against)] for row in found
    ]
    return render_table(columns, cells, width, colour)


def executable_table(found: Sequence[Row], width: int = 100, colour: bool = False) -> str:
    """Our own plans, which can be executed: bytes, and the share saved beside what the others report."""
    columns = (
        Column("network", "left"),
        Column("our plan", "left"),
        Column("DRAM B"),
        Column("Optimus"),
        *(Column(_HEADINGS[name]) for name in BASELINES),
    )
    cells = [
        [
            row.network,
            own.scheme,
            f"{own.dram_bytes:,}",
            *(
                f"{100 * (1 - own.dram_bytes / other):.1f} %"
                for other in (row.dram_bytes, *(a.dram_bytes for a in row.against))
            ),
        ]
        for row in found
        for own in row.ours
    ]
    return render_table(columns, cells, width, colour)


def alike_table(found: Sequence[Row], width: int = 100, colour: bool = False) -> str:
    """Our own plans beside no fusion, everything counted on both sides: bytes saved, and energy."""
    columns = (
        Column("network", "left"),
        Column("our plan", "left"),
        Column("no fusion B"),
        Column("saved"),
        Column("energy mJ"),
        Column("no fusion"),
    )
    cells = [
        [
            row.network,
            own.scheme,
            f"{own.alone_dram_bytes:,}",
            f"{100 * (1 - own.dram_bytes / own.alone_dram_bytes):.1f} %",
            f"{own.energy_pj / 1e9:.4f}",
            f"{own.alone_energy_pj / own.energy_pj:.2f}x",
        ]
        for row in found
        for own in row.ours
    ]
    return render_table(columns, cells, width, colour)


def text(found: Sequence[Row], width: int = 100, colour: bool = False) -> str:
    """All tables, with what they mean."""
    first = found[0]
    size = f"{format_bytes(first.buffer_bytes)}, batch {first.batch}, 16 bits"
    own = [fill(_OWN, width), executable_table(found, width, colour)] if first.ours else []
    own += [fill(_ALIKE, width), alike_table(found, width, colour)] if first.ours else []
    return "\n\n".join(
        [
            f"Optimus as published, closed form, {size}.\nReported DRAM bytes, and the share saved beside:",
            networks_table(found, width, colour),
            "Reported energy, and how many times as much is spent by:",
            energies_table(found, width, colour),
            "What was published, and what the closed form gives:",
            claims_table(found, width, colour),
            *own,
            fill(_NOTES, width),
        ]
    )
