"""Executes a schedule in bands: stage by stage, slice by slice, everything at the address it was given.

A slice of channels of a part tensor is made, handed to everyone who reads it and gone before the
next one comes; whoever sums slices is done after the last (:mod:`fusecut.simulate.band_stage`).
Nothing here knows how a schedule was chosen or what it should cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fusecut.errors import SimulationError
from fusecut.ir import Graph, bits
from fusecut.schedule import Bands, Place, Schedule
from fusecut.simulate.band_rows import BandPlan, Chip, Puller, Store
from fusecut.simulate.band_stage import StageRun
from fusecut.simulate.lines import Observer
from fusecut.simulate.memory import Buffer, Dram, poison
from fusecut.simulate.stages import Shapes
from fusecut.simulate.views import RowKernel


@dataclass
class BandWork:
    """Rows that ops made again, as MACs, and events: rows of a slice."""

    recomputed_macs: int = 0
    events: int = 0


class BandRun:
    """One group in execution. ``kernels`` None counts without computing."""

    def __init__(
        self,
        graph: Graph,
        schedule: Schedule,
        number: int,
        dram: Dram,
        buffer: Buffer,
        shapes: Shapes | None = None,
        kernels: Mapping[int, RowKernel] | None = None,
        observer: Observer | None = None,
    ) -> None:
        if schedule.bands is None:
            raise SimulationError(f"group {number}: the schedule has no bands")
        self.graph, self.schedule, self.number, self.dram = graph, schedule, number, dram
        self.bands: Bands = schedule.bands
        self.shapes, self.kernels = shapes, kernels
        self.where = f"group {number}"
        self.chip = Chip(buffer, self.where, observer)
        self.work = BandWork()
        puller = Puller(graph, schedule, self.bands)
        self.maps = puller.maps
        self.plan: BandPlan = puller.plan()
        self.part = frozenset(self.bands.part)
        self.places = {(p.what, p.index): p for p in self.bands.places}
        self.reads = graph.reads(schedule.group)
        self.batch = graph.tensors[graph.ops[schedule.order[0]].outputs[0]].batch

    def run(self) -> None:
        """All bands of all images.

        Raises:
            SimulationError: the schedule cannot be executed with what it grants.
        """
        self._check_stages()
        for place in self.bands.places:
            if place.what in ("halo", "weights"):
                self.chip.take(place, self._label(place))
        for i in self.bands.resident:
            self._resident(i)
        for first in range(0, self.batch, self.bands.images):
            images = range(first, min(self.batch, first + self.bands.images))
            if len(self.plan.made) > 1 and len(images) > 1:
                raise SimulationError(f"{self.where}: bands of a part of an image hold one image, not {len(images)}")
            Images(self, images).run()
        self._count_again()

    def _check_stages(self) -> None:
        every = [i for stage in self.bands.stages for i in bits(stage)]
        if sorted(every) != sorted(self.schedule.order):
            raise SimulationError(f"{self.where}: the stages are not the ops of the group, each once")

    def _resident(self, index: int) -> None:
        op = self.graph.ops[index]
        place = self.places.get(("weights", index))
        if place is None or place.nbytes < op.weight_bytes:
            raise SimulationError(f"{self.where}: no room for the resident weights of {op.name!r}")
        self.load_weights(index)

    def load_weights(self, index: int) -> None:
        """One pass of the weights of an op."""
        op = self.graph.ops[index]
        self.dram.count(self.number, f"weights of {op.name}", op.weight_bytes, weight_bytes=op.weight_bytes)

    def _label(self, place: Place) -> str:
        if place.what == "slice":
            return f"weights of stage {place.index}"
        names = self.graph.tensors if place.what in ("halo", "tile") else self.graph.ops
        return f"{place.what} of {names[place.index].name}"

    def take(self, place: Place) -> None:
        self.chip.take(place, self._label(place))

    def rows_of(self, what: str, index: int, row_bytes: int) -> int:
        """Rows for which the schedule grants a place; checked against its bytes."""
        place = self.places.get((what, index))
        if place is None:
            return 0
        if place.nbytes < place.rows * row_bytes:
            raise SimulationError(
                f"{self.where}: {self._label(place)} has {place.nbytes:,} B for {place.rows} rows of {row_bytes:,} B"
            )
        return place.rows

    def _count_again(self) -> None:
        for i in self.schedule.order:
            op = self.graph.ops[i]
            rows = self.graph.tensors[op.outputs[0]].rows
            made = sum(end - first for first, end in (band[i] for band in self.plan.made))
            again = self.batch * (made - max(band[i][1] for band in self.plan.made))
            self.work.recomputed_macs += op.macs * again // (rows * self.batch)


class Images:
    """All bands of the images that are on chip together."""

    def __init__(self, run: BandRun, images: range) -> None:
        self.group_run, self.numbers = run, images
        graph = run.graph
        self.stores: dict[int, Store] = {}
        for t in (*run.reads, *(t for i in run.schedule.order for t in graph.ops[i].outputs)):
            facts = graph.tensors[t]
            halo = run.rows_of("halo", t, facts.row_bytes)
            tile = run.rows_of("tile", t, 0 if t in run.part else facts.row_bytes)
            self.stores[t] = Store(facts.name, facts.rows * len(images), facts.channels, halo, tile)
            if run.kernels is not None:
                self.stores[t].values = np.full(
                    (facts.rows * len(images), facts.channels, facts.cols), poison(run.dram.dtype), run.dram.dtype
                )

    def run(self) -> None:
        run = self.group_run
        for band in range(len(run.plan.made)):
            for number, stage in enumerate(run.bands.stages):
                StageRun(self, band, number, stage).run()
        for t in run.reads:
            self._drain(t)

    def _drain(self, tensor: int) -> None:
        """Rows of a group input that nobody wanted stream by."""
        run = self.group_run
        rows = run.graph.tensors[tensor].rows
        for image in self.numbers:
            for row in range(max(band[tensor][1] for band in run.plan.loaded), rows):
                run.dram.read_row(run.number, tensor, image * rows + row, lambda: run.where)
