"""One stage of one band: slices of channels are made, read by everyone who needs them, and dropped.

Which slices must be there together is found by the data: an op that lacks a slice of another
operand has it made. With arithmetic, the rows of the stage are computed once, from what is on chip when
it begins; every slice an op reads afterwards is compared, bit by bit, with what was used for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from fusecut.errors import SimulationError
from fusecut.ir import Graph, Group, bits
from fusecut.ops import accumulator_elements
from fusecut.schedule import Place
from fusecut.simulate.band_rows import Span
from fusecut.simulate.memory import Array

if TYPE_CHECKING:
    from fusecut.simulate.bands import Images

Slice = Span
"""Channels from the first to one past the last."""

SUMMING: Final = frozenset({"conv", "conv_transpose", "linear"})
"""Kinds whose results are sums over the channels of their operand; depthwise convolutions are not."""


def sums_channels(graph: Graph, index: int) -> bool:
    """Whether an op adds up the channels of its operand."""
    op = graph.ops[index]
    source, made = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    return op.kind in SUMMING and not op.attrs.get("groups", 1) == source.channels == made.channels


class StageRun:
    """The ops of one stage in one band of one set of images."""

    def __init__(self, images: Images, band: int, number: int, ops: Group) -> None:
        self.images, self.band, self.number = images, band, number
        self.group_run = images.group_run
        self.graph, self.part = self.group_run.graph, self.group_run.part
        self.mask, self.ops = ops, tuple(bits(ops))
        self.made = self.group_run.plan.made[band]
        self.loaded = self.group_run.plan.loaded[band]
        self.sums = frozenset(
            i for i in self.ops if self.graph.ops[i].inputs[0] in self.part and sums_channels(self.graph, i)
        )
        self.shadow: dict[int, Array] = {}
        self.progress: dict[int, int] = {}
        self.live: dict[int, Slice] = {}
        self.weights_bytes = 0

    def run(self) -> None:
        """Raises SimulationError where something is not there, or has no room."""
        step = 2 * self.number
        self._take(step)
        self._load()
        if self.group_run.kernels is not None:
            self._compute()
        self._begin_sums()
        for t in self._in_turn(self._heads()):
            while (at := self.progress.get(t, 0)) < self._channels(t):
                self._round(t, (at, min(at + self.group_run.bands.channels, self._channels(t))))
        self._give_back(step)
        self._take(step + 1)
        for i in sorted(self.sums):
            self._retire(i)
        self._evict()
        self._give_back(step + 1)

    def _channels(self, tensor: int) -> int:
        return self.graph.tensors[tensor].channels

    def _inside(self, tensor: int) -> bool:
        maker = self.graph.producer[tensor]
        return maker >= 0 and bool(self.mask >> maker & 1)

    def _where(self, tensor: int) -> str:
        return f"{self.group_run.where}, band {self.band}, tensor {self.graph.tensors[tensor].name!r}"

    # The chip --------------------------------------------------------------------------------

    def _take(self, step: int) -> None:
        for place in self.group_run.bands.places:
            if place.first == step and place.what not in ("halo", "weights"):
                self.group_run.take(place)
                if self._is_tile(place):
                    self.images.stores[place.index].open(0, self._channels(place.index))

    def _give_back(self, step: int) -> None:
        for place in self.group_run.bands.places:
            if place.last == step and place.what not in ("halo", "weights"):
                if self._is_tile(place):
                    self._keep(place.index, (0, self._channels(place.index)))
                    self.images.stores[place.index].close(0, self._channels(place.index))
                self.group_run.chip.release(place)

    def _is_tile(self, place: Place) -> bool:
        """All channels of some rows of a tensor."""
        return place.what == "tile" and place.index not in self.part

    def _load(self) -> None:
        """Rows of group inputs: full ones to the chip before their first reader, of part ones slices come later."""
        run = self.group_run
        for t in run.reads:
            stages = [n for n, stage in enumerate(run.bands.stages) if stage & self.graph.consumer_mask[t]]
            if stages[0] != self.number:
                continue
            for image, row in self._rows(self.loaded[t]):
                values = self._read(t, image, row)
                if t not in self.part:
                    self._push(t, image, row, (0, self._channels(t)), values)
                elif values is not None:
                    self._shadow(t)[self._at(t, image, row)] = values

    def _read(self, tensor: int, image: int, row: int) -> Array | None:
        run, facts = self.group_run, self.graph.tensors[tensor]
        at = self.images.numbers[image] * facts.rows + row
        values = run.dram.read_row(run.number, tensor, at, lambda: self._where(tensor))
        return None if values is None else values.reshape(facts.channels, facts.cols)

    def _rows(self, span: Span) -> Iterator[tuple[int, int]]:
        return ((image, row) for image in range(len(self.images.numbers)) for row in range(*span))

    def _at(self, tensor: int, image: int, row: int) -> int:
        return image * self.graph.tensors[tensor].rows + row

    def _push(self, tensor: int, image: int, row: int, channels: Slice, values: Array | None) -> None:
        store, at = self.images.stores[tensor], self._at(tensor, image, row)
        store.push(at, *channels, lambda: self._where(tensor))
        if store.values is not None and values is not None:
            store.values[at, slice(*channels)] = values[slice(*channels)]

    def _keep(self, tensor: int, channels: Slice) -> None:
        """Evict all rows of these channels but those that later bands look at."""
        run, rows = self.group_run, self.graph.tensors[tensor].rows
        spans: list[Span] = []
        if self.band + 1 < len(run.plan.waits) and tensor not in run.bands.again:
            low = run.plan.waits[self.band + 1][tensor]
            spans = [(image * rows + low, (image + 1) * rows) for image in range(len(self.images.numbers))]
        self.images.stores[tensor].keep(spans, *channels, lambda: self._where(tensor))

    def _evict(self) -> None:
        """Rows of full tensors that no later stage reads, where only rows between bands have a place."""
        for t in self.images.stores:
            stages = [n for n, stage in enumerate(self.group_run.bands.stages) if stage & self.graph.consumer_mask[t]]
            last = max(stages, default=self.number if self._inside(t) else -1)
            if t not in self.part and last == self.number:
                self._keep(t, (0, self._channels(t)))

    # Weights and sums ------------------------------------------------------------------------

    def _begin_sums(self) -> None:
        """Weights that are not resident pass once in every band; biases begin the sums."""
        run = self.group_run
        biases = 0
        for i in self.ops:
            if i not in run.bands.resident:
                biases += self.graph.ops[i].bias_bytes if i in self.sums else 0
                run.load_weights(i)
            self._check_sums(i)
        self._check_room("slice", self.number, biases)

    def _check_sums(self, index: int) -> None:
        op = self.graph.ops[index]
        made = self.graph.tensors[op.outputs[0]]
        self._check_room("accumulators", index, -(-accumulator_elements(self.graph, op) * op.bias_bits // 8))
        if index in self.sums:
            first, end = self.made[index]
            elements = (end - first) * len(self.images.numbers) * made.channels * made.cols
            self._check_room("sums", index, -(-elements * op.bias_bits // 8))

    def _check_room(self, what: str, index: int, nbytes: int) -> None:
        place = self.group_run.places.get((what, index))
        if nbytes > (0 if place is None else place.nbytes):
            name = f"stage {index}" if what == "slice" else repr(self.graph.ops[index].name)
            raise SimulationError(f"{self.group_run.where}: no room for {nbytes:,} B, {what} of {name}")

    def _use_weights(self, index: int, channels: int, summed: bool) -> None:
        """What goes with so many channels, of the operand if they are summed, is on chip until the round is over."""
        if index in self.group_run.bands.resident:
            return
        op = self.graph.ops[index]
        of = self._channels((op.inputs if summed else op.outputs)[0])
        weights = min(-(-op.weight_elements // of) * channels, op.weight_elements)
        biases = 0 if summed else min(-(-op.bias_elements // of) * channels, op.bias_elements)
        self.weights_bytes += -(-weights * op.weight_bits // 8) + -(-biases * op.bias_bits // 8)
        self._check_room("slice", self.number, self.weights_bytes)

    # Slices ----------------------------------------------------------------------------------

    def _heads(self) -> list[int]:
        """Where slices begin: part group inputs, and what is made of full operands alone."""
        heads = [t for t in self.group_run.reads if t in self.part and self.graph.consumer_mask[t] & self.mask]
        for i in self.ops:
            if self.part.isdisjoint(self.graph.ops[i].inputs):
                heads += self.graph.ops[i].outputs
        return heads

    def _in_turn(self, heads: list[int]) -> list[int]:
        """The heads in an order in which every concatenation gets its slices first to last; else as they are.

        Heads whose slices are looked at together have one turn.
        """
        turn = {t: t for t in heads}
        for i in self.ops:
            together = [t for t in dict.fromkeys(self.graph.ops[i].inputs) if t in self.part]
            if self.graph.ops[i].kind != "concat":
                for other in together[1:]:
                    for a, b in zip(self._begins(together[0]), self._begins(other), strict=False):
                        old, new = turn[b], turn[a]
                        turn = {t: new if at == old else at for t, at in turn.items()}
        waits: dict[int, set[int]] = {at: set() for at in turn.values()}
        for i in self.ops:
            operands = self.graph.ops[i].inputs
            if self.graph.ops[i].kind == "concat" and self.part.issuperset(operands):
                for a, b in pairwise(head for t in operands for head in self._begins(t)):
                    waits[turn[b]].add(turn[a])
        order: list[int] = []
        while len(order) < len(heads):
            left = [t for t in heads if t not in order]
            coming = {turn[t] for t in left}
            order.append(next((t for t in left if waits[turn[t]].isdisjoint(coming - {turn[t]})), left[0]))
        return order

    def _begins(self, tensor: int) -> list[int]:
        """The heads that the slices of a part tensor come from, in its order of channels."""
        inputs = self.graph.ops[self.graph.producer[tensor]].inputs if self._inside(tensor) else ()
        if self.part.isdisjoint(inputs):
            return [tensor]
        if self.graph.ops[self.graph.producer[tensor]].kind == "concat":
            return [head for t in inputs for head in self._begins(t)]
        return self._begins(next(t for t in inputs if t in self.part))

    def _round(self, tensor: int, channels: Slice) -> None:
        """A slice, and everything that comes of it."""
        self.weights_bytes = 0
        self._make(tensor, channels)
        for t, live in self.live.items():
            self._keep(t, live)
            self.images.stores[t].close(*live)
        self.live.clear()

    def _make(self, tensor: int, channels: Slice) -> None:
        """The next slice of a tensor, loaded or computed, and whatever follows from it."""
        if self.progress.get(tensor, 0) != channels[0]:
            raise SimulationError(f"{self._where(tensor)}: channels {channels[0]} on are not the next ones")
        if tensor in self.part:
            self.live[tensor] = channels
            self._check_width(tensor, channels[1] - channels[0])
            self.images.stores[tensor].open(*channels)
        if self._inside(tensor):
            self._output(self.graph.producer[tensor], tensor, channels)
        else:
            for image, row in self._rows(self.loaded[tensor]):
                self._push(tensor, image, row, channels, self._known(tensor, image, row))
        self.progress[tensor] = channels[1]
        for reader in self.graph.consumers[tensor] if tensor in self.part else ():
            if self.mask >> reader & 1:
                self._arrive(reader, tensor, channels)

    def _check_width(self, tensor: int, channels: int) -> None:
        """The slice fits the tile for as many rows as the tile has."""
        facts, place = self.graph.tensors[tensor], self.group_run.places.get(("tile", tensor))
        row_bytes = -(-channels * facts.cols * facts.bits // 8)
        if place is not None and place.nbytes < place.rows * row_bytes:
            raise SimulationError(
                f"{self._where(tensor)}: {place.nbytes:,} B for {place.rows} rows of {channels} channels"
            )

    def _output(self, index: int, tensor: int, channels: Slice) -> None:
        self._check_operands(index, channels)
        self._use_weights(index, channels[1] - channels[0], False)
        ends = not self.graph.consumer_mask[tensor] & self.group_run.schedule.group
        for image, row in self._rows(self.made[index]):
            self.group_run.work.events += 1
            values = self._known(tensor, image, row)
            self._push(tensor, image, row, channels, values)
            if channels[1] == self._channels(tensor):
                self._leave(tensor, image, row, values)
            if ends:
                self.images.stores[tensor].keep((), *channels, lambda: self._where(tensor))

    def _arrive(self, reader: int, tensor: int, channels: Slice) -> None:
        """A slice reaches an op: it is summed up, or handed on once its partners are there."""
        op = self.graph.ops[reader]
        if reader in self.sums:
            self._check(reader, 0, channels)
            self._use_weights(reader, channels[1] - channels[0], True)
        elif op.kind == "concat":
            self._append(reader, tensor, channels)
        else:
            for other in dict.fromkeys(op.inputs):
                if other in self.part and self.live.get(other) != channels:
                    self._pull(other, channels)
            if self.progress.get(op.outputs[0], 0) == channels[0]:
                self._make(op.outputs[0], channels)

    def _append(self, reader: int, tensor: int, channels: Slice) -> None:
        """The part of a concatenation that a slice is."""
        op = self.graph.ops[reader]
        offset = sum(self._channels(t) for t in op.inputs[: op.inputs.index(tensor)])
        self._make(op.outputs[0], (offset + channels[0], offset + channels[1]))

    def _pull(self, tensor: int, channels: Slice) -> None:
        """Have a slice made: of what it comes from, unless that is there, down to where slices begin."""
        source = self._source(tensor, channels)
        if source is not None and self.live.get(source[0]) != source[1]:
            self._pull(*source)
        if self.progress.get(tensor, 0) == channels[0]:
            self._make(tensor, channels)

    def _source(self, tensor: int, channels: Slice) -> tuple[int, Slice] | None:
        """The part operand a slice is made of, and its channels; None where slices begin."""
        if not self._inside(tensor):
            return None
        op = self.graph.ops[self.graph.producer[tensor]]
        offset = 0
        for t in op.inputs:
            if t in self.part and (op.kind != "concat" or channels[0] < offset + self._channels(t)):
                return t, (channels[0] - offset, channels[1] - offset)
            offset += self._channels(t) if op.kind == "concat" else 0
        return None

    def _retire(self, index: int) -> None:
        """Sums become rows."""
        self._all_arrived(index)
        for t in self.graph.ops[index].outputs:
            held = bool(self.graph.consumer_mask[t] & self.group_run.schedule.group)
            for image, row in self._rows(self.made[index]):
                self.group_run.work.events += 1
                values = self._known(t, image, row)
                if held:
                    self._push(t, image, row, (0, self._channels(t)), values)
                self._leave(t, image, row, values)

    def _all_arrived(self, index: int) -> None:
        source = self.graph.ops[index].inputs[0]
        if self.progress.get(source, 0) != self._channels(source):
            raise SimulationError(f"{self._where(source)}: its slices were never all made")

    def _leave(self, tensor: int, image: int, row: int, values: Array | None) -> None:
        """A row that leaves the group is written, the first time it is made."""
        run, maker = self.group_run, self.graph.producer[tensor]
        known = self.band and row < run.plan.made[self.band - 1][maker][1]
        if known or not self.graph.leaves(tensor, run.schedule.group):
            return
        at = self.images.numbers[image] * self.graph.tensors[tensor].rows + row
        shaped = None if values is None or run.shapes is None else values.reshape(run.shapes[tensor])
        run.dram.write_row(run.number, tensor, at, shaped, lambda: self._where(tensor))

    # What ops look at --------------------------------------------------------------------------

    def _check_operands(self, index: int, channels: Slice) -> None:
        """All channels of full operands, the slice of part ones; of a concatenation the part that is copied."""
        op, offset = self.graph.ops[index], 0
        for k, t in enumerate(op.inputs):
            size = self._channels(t)
            if op.kind == "concat":
                copied = max(channels[0] - offset, 0), min(channels[1] - offset, size)
                offset += size
                if copied[0] < copied[1]:
                    self._check(index, k, copied)
            else:
                self._check(index, k, channels if t in self.part else (0, size))

    def _check(self, index: int, operand: int, channels: Slice) -> None:
        """The rows that the op's rows of this band look at are there, with the values that were used."""
        name, tensor = self.graph.ops[index].name, self.graph.ops[index].inputs[operand]
        store = self.images.stores[tensor]
        low, past = self._window(index, operand)

        def where() -> str:
            return f"{self.group_run.where}, band {self.band}, op {name!r}"

        for image in range(len(self.images.numbers)):
            rows = self._at(tensor, image, low), self._at(tensor, image, past)
            store.check(*rows, *channels, where)
            if store.values is not None and tensor in self.shadow:
                here, used = (v[slice(*rows), slice(*channels)] for v in (store.values, self.shadow[tensor]))
                if not np.array_equal(here, used):
                    raise SimulationError(f"{where()} finds other values of {store.name!r} than were made")

    def _window(self, index: int, operand: int) -> Span:
        first, end = self.made[index]
        if first >= end:
            return 0, 0
        rowmap = self.group_run.maps[index][operand]
        return min(rowmap.lo[first:end]), max(0, *(h + 1 for h in rowmap.hi[first:end]))

    # Arithmetic ------------------------------------------------------------------------------

    def _shadow(self, tensor: int) -> Array:
        """Rows made or loaded in this stage, over what is on chip of the tensor."""
        if tensor not in self.shadow:
            values = self.images.stores[tensor].values
            if values is None:
                raise SimulationError(f"{self._where(tensor)}: no values are kept")
            self.shadow[tensor] = values.copy()
        return self.shadow[tensor]

    def _known(self, tensor: int, image: int, row: int) -> Array | None:
        return self.shadow[tensor][self._at(tensor, image, row)] if tensor in self.shadow else None

    def _compute(self) -> None:
        """All rows of the stage, from what is on chip and from one another."""
        for i in self.ops:
            for image in range(len(self.images.numbers)):
                self._compute_image(i, image)

    def _compute_image(self, index: int, image: int) -> None:
        kernels, op = self.group_run.kernels, self.graph.ops[index]
        if kernels is None:
            return
        kernel, maps = kernels[index], self.group_run.maps[index]
        folds = [k for k, m in enumerate(maps) if m.reduces]
        if self.band == 0 or folds:
            kernel.start()
        for _, row in ((0, r) for r in range(*self.made[index])):
            windows: list[Array | None] = []
            for k, (t, rowmap) in enumerate(zip(op.inputs, maps, strict=True)):
                window = self._rows_at(t, image, rowmap.lo[row], rowmap.hi[row] + 1)
                if k not in folds:
                    windows.append(window)
                    continue
                for r in range(rowmap.hi[row] + 1):
                    kernel.fold(k, r, window[r : r + 1])
            lows = [m.lo[row] for k, m in enumerate(maps) if k not in folds]
            self._store(op.outputs, image, row, kernel.row(row, windows, lows))

    def _rows_at(self, tensor: int, image: int, low: int, past: int) -> Array:
        shapes, values = self.group_run.shapes, self.shadow.get(tensor, self.images.stores[tensor].values)
        if shapes is None or values is None:
            raise SimulationError(f"{self._where(tensor)}: no values are kept")
        rows = values[self._at(tensor, image, low) : self._at(tensor, image, max(low, past))]
        return rows.reshape(len(rows), *shapes[tensor])

    def _store(self, outputs: Sequence[int], image: int, row: int, made: Sequence[Array]) -> None:
        for t, values in zip(outputs, made, strict=True):
            facts = self.graph.tensors[t]
            self._shadow(t)[self._at(t, image, row)] = values.reshape(facts.channels, facts.cols)
