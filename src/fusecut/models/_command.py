"""Runs a command with a deadline and a bound on what is kept of its output. No shell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread
from time import monotonic
from typing import IO, Final, NamedTuple

_CHUNK: Final = 2**16
_GRACE_SECONDS: Final = 1.0


class Finished(NamedTuple):
    """``code`` is None if the deadline passed; ``out`` and ``err`` are the first bytes said."""

    code: int | None
    out: bytes
    err: bytes


def run_command(command: Sequence[str], stdin: bytes, timeout_seconds: float, keep_bytes: int) -> Finished:
    """Run to the end or to the deadline; then everything the command started is stopped.

    At most ``keep_bytes`` of each stream are kept, what follows is read and dropped, so that
    neither memory nor a full pipe is a problem.

    Raises:
        OSError: the command cannot be started.
    """
    end = monotonic() + timeout_seconds
    with tempfile.TemporaryFile() as file:
        file.write(stdin)
        file.seek(0)
        process = subprocess.Popen(  # noqa: S603 (no shell; the command is the user's own)
            list(command), stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    listeners = [_Listener(stream, keep_bytes) for stream in (process.stdout, process.stderr) if stream]
    code: int | None = None
    try:
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(timeout=max(0.0, end - monotonic()))
        for listener in listeners if code is not None else ():
            listener.join(max(0.0, end - monotonic()))
    finally:
        if code is None or any(listener.is_alive() for listener in listeners):
            _stop(process)
        for listener in listeners:
            listener.finish()
    return Finished(code, listeners[0].kept, listeners[1].kept)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the command, and on POSIX whatever it started in its own session."""
    with suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class _Listener(Thread):
    """Drains one stream and keeps its beginning."""

    def __init__(self, stream: IO[bytes], keep_bytes: int) -> None:
        super().__init__(daemon=True)
        self.kept = b""
        self._stream, self._keep = stream, keep_bytes
        self.start()

    def run(self) -> None:
        while chunk := os.read(self._stream.fileno(), _CHUNK):
            self.kept += chunk[: self._keep - len(self.kept)]

    def finish(self) -> None:
        """Let go of the stream, unless something that escaped still holds its other end."""
        self.join(_GRACE_SECONDS)
        if not self.is_alive():
            self._stream.close()
