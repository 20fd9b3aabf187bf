"""How much faster a prediction is than the exact search, and what the ranking is worth.

Fresh members of the families (seeds from 1000, none of them trained on) at 256 KiB under lbdf:
CPU seconds of both, errors, and whether the predicted best ten of each family hold the true best.

    python benchmarks/predict.py 20
"""

from __future__ import annotations

import sys
from time import process_time

import numpy as np

from fusecut.predict.metrics import metrics
from fusecut.predict.spaces.families import FAMILIES, member
from fusecut.predictions import predict
from fusecut.solve import solve

FIRST_SEED = 1000


def main(count: int) -> None:
    """A line for each family, and one for all."""
    print("family        nets  solve s  predict s  MAPE %   SRCC  in interval  best in top 10")
    total = np.zeros(2)
    for family in FAMILIES:
        names = [f"{family}:{FIRST_SEED + i}" for i in range(count)]
        graphs = [member(family, FIRST_SEED + i) for i in range(count)]
        started = process_time()
        truth = np.array([float(solve(g, buffer="256KiB", scheme="lbdf").cost.dram_bytes) for g in graphs])
        solved = process_time()
        rows = predict(names, "dram@256KiB")
        spent = np.array([solved - started, process_time() - solved])
        total += spent
        found = metrics(truth, np.array([r.value for r in rows]))
        inside = np.mean([r.low <= t <= r.high for r, t in zip(rows, truth, strict=True)])
        print(
            f"{family:12}  {count:4}  {spent[0]:7.2f}  {spent[1]:9.3f}  {100 * found.mape:6.1f}  {found.srcc:5.3f}"
            f"  {inside:11.2f}  {'yes' if found.best else 'no'}",
            flush=True,
        )
    print(f"all           {count * len(FAMILIES):4}  {total[0]:7.2f}  {total[1]:9.3f}  ratio {total[0] / total[1]:.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
