"""The first process of the controller's container: starts the controller, and starts it again when it ends unasked.

Kubernetes takes a pod out of its Services while any of its containers is down, and waits up to five minutes before it starts one
again that keeps failing. A controller that crashes would so take away a proxy that serves on without it. This process imports and
holds next to nothing, so that what ends a controller, an object that it cannot digest or too much memory, does not end it.
"""

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

RESTARTER_PID = "SLUICE_RESTARTER_PID"
"""Variable that tells a controller that it runs under a restarter: its process id."""
BACKOFF_FIRST, BACKOFF_MOST = 0.5, 10.0
"""Seconds until the next start, doubling; the first again after a run of `STABLE_SECONDS`. The container's probe waits 60 s."""
STABLE_SECONDS = 60.0
FINAL_CODES = frozenset((0, 2))
"""Exit codes after which another start would be of no use: an orderly end, and settings that make no sense."""


class _Restarter:
    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._child = 0
        self._signal = 0

    def forward_signal(self, number: int, _frame: FrameType | None) -> None:
        """Forward a signal to the controller, and end when it does."""
        self._signal = number
        if self._child:
            os.kill(self._child, number)

    def run(self) -> int:
        """Run the controller; return its exit code once it ended by a signal that was forwarded, or with a final code."""
        backoff = BACKOFF_FIRST
        while True:
            start = time.monotonic()
            environment = {**os.environ, RESTARTER_PID: str(os.getpid())}
            self._child = os.posix_spawn(sys.executable, [sys.executable, *self._arguments], environment)
            if self._signal:
                os.kill(self._child, self._signal)  # it came while no controller ran
            code = self._wait()
            self._child = 0
            if self._signal or code in FINAL_CODES:
                return code if code >= 0 else 128 - code
            if time.monotonic() - start > STABLE_SECONDS:
                backoff = BACKOFF_FIRST
            how = f"by signal {-code}" if code < 0 else f"with code {code}"
            print(f"sluice: the controller ended {how}; it is started again in {backoff:g} s", file=sys.stderr, flush=True)  # noqa: T201
            until = time.monotonic() + backoff
            while not self._signal and (left := until - time.monotonic()) > 0:
                time.sleep(min(left, 0.1))
            if self._signal:
                return 0
            backoff = min(2 * backoff, BACKOFF_MOST)

    def _wait(self) -> int:
        """Wait for the controller, and for whatever else this process inherits as the first of its container."""
        while True:
            pid, status = os.wait()
            if pid == self._child:
                return os.waitstatus_to_exitcode(status)


def become_restarter(arguments: list[str]) -> None:
    """Put a restarter in the place of this process, which then starts the controller with `arguments`; does not return."""
    place = str(Path(__file__).resolve().parents[2])
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from controller.process.restarter import main; sys.exit(main())"
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", code, place, *arguments])  # noqa: S606  ourselves


def main() -> int:
    """Run the controller under a restarter; return the exit code."""
    restarter = _Restarter(sys.argv[1:])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, restarter.forward_signal)
    return restarter.run()
