"""The judge of tiles: walks the loops, remembers what is on chip, counts what is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from one_op import Spec

from fusecut.schedule import Tile


def pieces(extent: int, size: int) -> list[range]:
    return [range(a, min(a + size, extent)) for a in range(0, extent, size)]


@dataclass
class Walk:
    """Elements moved and the peak of bytes on chip, counted by running the loops of one tile."""

    spec: Spec
    tile: Tile

    def __post_init__(self) -> None:
        self.inputs = self.weights = self.biases = self.sums = self.spilled = self.outs = 0
        self.regions = [0, 0, 0, 0]
        self.touched: set[tuple[int, ...]] = set()
        for group in range(self.spec.groups):
            self.run_group(group)
        self.unneeded = self.spec.images * self.spec.c * self.spec.high * self.spec.wide - len(self.touched)

    def spaces(self) -> list[tuple[range, range, range]]:
        """Images, then column strips, then row tiles."""
        high, wide, tile = self.spec.out(0), self.spec.out(1), self.tile
        images, rows = max(1, tile.rows // high), min(tile.rows, high)
        return list(product(pieces(self.spec.images, images), pieces(wide, tile.cols), pieces(high, rows)))

    def run_group(self, group: int) -> None:
        spec, tile, spaces = self.spec, self.tile, self.spaces()
        ks = pieces(spec.k // spec.groups, tile.out_channels)
        cs = pieces(spec.c // spec.groups, tile.in_channels)
        trips = {"k": len(ks), "c": len(cs), "s": len(spaces)}
        state = _State()
        order = tile.order.lstrip("g")
        for indices in product(*(range(trips[loop]) for loop in order)):
            at = dict(zip(order, indices, strict=True))
            space = spaces[at["s"]]
            self.bring_inputs(state, at, group, cs[at["c"]], spaces)
            if state.weights != (at["k"], at["c"]):
                state.weights = (at["k"], at["c"])
                self.weights += len(ks[at["k"]]) * len(cs[at["c"]]) * spec.kernel[0] * spec.kernel[1]
            if at["c"] == 0 and state.biases != at["k"]:
                state.biases = at["k"]
                self.biases += len(ks[at["k"]]) if spec.bias else 0
            area = len(space[0]) * len(space[1]) * len(space[2]) * len(ks[at["k"]])
            self.bring_outputs(state, (at["k"], at["s"]), at["c"], area, trips["c"])
            self.note_peak(state, len(ks[at["k"]]), len(cs[at["c"]]), area, trips["c"] > 1)
        self.put_back(state, trips["c"])

    def bring_inputs(self, state: _State, at: dict[str, int], group: int, channels: range,
                     spaces: list[tuple[range, range, range]]) -> None:  # fmt: skip
        s, c = at["s"], at["c"]
        if state.inputs == (s, c):
            return
        images, cols, rows = spaces[s]
        offset = group * (self.spec.c // self.spec.groups)
        ys = set().union(*(self.spec.needs(0, q) for q in rows))
        xs = set().union(*(self.spec.needs(1, q) for q in cols))
        want: set[tuple[int, ...]] = {(n, offset + ch, y, x) for n in images for ch in channels for y in ys for x in xs}
        next_row = state.inputs == (s - 1, c) and s > 0 and spaces[s - 1][:2] == (images, cols)
        self.inputs += len(want - state.here if next_row else want)
        state.inputs, state.here = (s, c), want
        self.touched |= want

    def bring_outputs(self, state: _State, key: tuple[int, int], c: int, area: int, trips: int) -> None:
        if state.outputs != key:
            self.put_back(state, trips)
            state.outputs, state.area = key, area
            if state.seen.get(key):
                self.sums += area
        state.seen.setdefault(key, set()).add(c)

    def put_back(self, state: _State, trips: int) -> None:
        if state.outputs is None:
            return
        if len(state.seen[state.outputs]) == trips:
            self.outs += state.area
        else:
            self.spilled += state.area

    def note_peak(self, state: _State, k: int, c: int, area: int, split: bool) -> None:
        """Every operand has a region of its own, as large as its largest tile."""
        activation, weight, sums = self.spec.widths
        weights = k * c * self.spec.kernel[0] * self.spec.kernel[1]
        made = sums if split else activation
        held = (len(state.here), activation), (weights, weight), (k * self.spec.bias, sums), (area, made)
        for index, (elements, width) in enumerate(held):
            self.regions[index] = max(self.regions[index], -(-elements * width // 8))

    def bytes(self) -> tuple[int, int, int]:
        """(read, written, peak): every tensor once as a whole, everything beyond that packed."""
        activation, weight, sums = self.spec.widths
        graph = self.spec.graph()
        x, y = graph.tensors
        assert self.sums == self.spilled and self.outs == y.elements
        op = graph.ops[0]
        read = x.nbytes + -(-(self.inputs + self.unneeded - x.elements) * activation // 8)
        read += op.weight_bytes + -(-(self.weights - op.weight_elements) * weight // 8)
        read += -(-(self.biases - op.bias_elements) * sums // 8) + -(-self.sums * sums // 8)
        return read, y.nbytes + -(-self.spilled * sums // 8), sum(self.regions)


class _State:
    """What one group has on chip."""

    def __init__(self) -> None:
        self.inputs: tuple[int, int] | None = None
        self.here: set[tuple[int, ...]] = set()
        self.weights: tuple[int, int] | None = None
        self.biases: int | None = None
        self.outputs: tuple[int, int] | None = None
        self.area = 0
        self.seen: dict[tuple[int, int], set[int]] = {}
