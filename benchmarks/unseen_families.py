"""What the bundled predictor of our solver's labels is worth on what it has not seen.

Each family is left out in turn, then the buffer 256 KiB: errors, rank correlations, and the share of answers in the
90 % interval, for the closed form alone and for its geometric mean with non-negative sums, which is what ships.

    python benchmarks/unseen_families.py
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fusecut.predict.basis import Basis, Described, describe_graphs
from fusecut.predict.bundle import FOLDER
from fusecut.predict.metrics import metrics
from fusecut.predict.model import Model
from fusecut.predict.spaces.families import member
from fusecut.train.predictor import solved_bounds, solved_task
from fusecut.train.solved import Label, read_labels

HIDDEN_BYTES = 256 * 1024
Mask = NDArray[np.bool_]


class Labels:
    """Labels of one task with their networks, families and buffers."""

    def __init__(self, task: str, rows: list[Label]) -> None:
        graphs = {key: member(*key) for key in sorted({(r.family, r.seed) for r in rows})}
        self.task = task
        self.sizes = np.array([solved_task(r.task)[1] for r in rows])
        self.networks: Described = describe_graphs([graphs[r.family, r.seed] for r in rows], self.sizes.tolist())
        self.values = np.array([float(r.value) for r in rows])
        self.families = np.array([r.family for r in rows])

    def judged(self, there: Mask, here: Mask) -> list[tuple[float, float, float]]:
        """(mean error, rank correlation, share in the interval) of the closed form, and of both."""
        empty = Model(Basis.of("families", self.networks[there]).without_linear(), {})
        both = empty.learning(
            "t", self.networks[there], self.values[there], "", "unfused", solved_bounds(self.task), buffered=True
        )
        closed = replace(both, tasks={"t": replace(both.tasks["t"], sums=np.zeros((0, 0)))})
        return [self._score(model, here) for model in (closed, both)]

    def _score(self, model: Model, here: Mask) -> tuple[float, float, float]:
        found, truth, sizes = model.predict("t", self.networks[here]), self.values[here], self.sizes[here]
        parts = [metrics(truth[sizes == b], found.values[sizes == b]) for b in np.unique(sizes)]
        inside = float(np.mean(np.abs(truth - found.values) <= found.half_widths))
        return float(np.mean([p.mape for p in parts])), float(np.mean([p.srcc for p in parts])), inside


def left_out(labels: Labels) -> Iterator[tuple[str, list[tuple[float, float, float]]]]:
    """Each family, then the buffer."""
    for family in sorted(set(labels.families)):
        yield family, labels.judged(labels.families != family, labels.families == family)
    if len(set(labels.sizes)) > 1:
        yield "256 KiB", labels.judged(labels.sizes != HIDDEN_BYTES, labels.sizes == HIDDEN_BYTES)


def main() -> None:
    """A line for each task and what is left out."""
    rows = read_labels(FOLDER / "solved.csv")
    print("| task | left out | closed form: MAPE % | SRCC | in 90 % | both: MAPE % | SRCC | in 90 % |")
    print("|---|---|---|---|---|---|---|---|")
    for task in sorted({solved_task(r.task)[0] for r in rows}):
        labels = Labels(task, [r for r in rows if solved_task(r.task)[0] == task])
        for name, pair in left_out(labels):
            cells = " | ".join(f"{100 * mape:.1f} | {srcc:.3f} | {inside:.2f}" for mape, srcc, inside in pair)
            print(f"| {task} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
