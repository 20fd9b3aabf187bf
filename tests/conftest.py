"""For all tests: numerical libraries use one thread, as pytest runs several processes beside each other.

Small products on several threads wait for each other: the training tests take fifty times as long on a busy machine.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
