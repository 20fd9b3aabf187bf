"""What the pages of results say of themselves."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess


def circumstances() -> str:
    """Date, commit, Python, machine and number of cores, with commas between."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    today = datetime.datetime.now(datetime.UTC).date()
    python, machine = platform.python_version(), platform.machine()
    return f"{today}, commit {commit.stdout.strip()}, Python {python}, {machine}, {os.cpu_count()} cores"
