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

KEPT = "SLUICE_KEPT"
"""Variable that tells a controller that it is kept already: it holds the keeper's process id."""
FIRST, MOST = 0.5, 10.0
"""Seconds until it is started again, doubling; the first again when one has lived for `LONG`. The container's probe waits 60 s."""
LONG = 60.0
FINAL = frozenset((0, 2))
"""Exit codes after which another start would be of no use: an orderly end, and settings that make no sense."""


class _Keeper:
    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._child = 0
        self._asked = 0

    def signalled(self, number: int, _frame: FrameType | None) -> None:
        """Hand a signal on."""
        self._asked = number
        if self._child:
            os.kill(self._child, number)

    def run(self) -> int:
        """Keep a controller running; return its exit code once it ended as it was asked to."""
        backoff = FIRST
        while True:
            start = time.monotonic()
            environment = {**os.environ, KEPT: str(os.getpid())}
            self._child = os.posix_spawn(sys.executable, [sys.executable, *self._arguments], environment)
            if self._asked:
                os.kill(self._child, self._asked)  # it came while there was nobody to tell
            code = self._wait()
            self._child = 0
            if self._asked or code in FINAL:
                return code if code >= 0 else 128 - code
            if time.monotonic() - start > LONG:
                backoff = FIRST
            how = f"by signal {-code}" if code < 0 else f"with code {code}"
            print(f"sluice: the controller ended {how}; it is started again in {backoff:g} s", file=sys.stderr, flush=True)  # noqa: T201
            until = time.monotonic() + backoff
            while not self._asked and (left := until - time.monotonic()) > 0:
                time.sleep(min(left, 0.1))
            if self._asked:
                return 0
            backoff = min(2 * backoff, MOST)

    def _wait(self) -> int:
        """Wait for the controller, and for whatever else this process inherits as the first of its container."""
        while True:
            pid, status = os.wait()
            if pid == self._child:
                return os.waitstatus_to_exitcode(status)


def become_keeper(arguments: list[str]) -> None:
    """Put a keeper in the place of this process, which then starts the controller with `arguments`; does not return."""
    place = str(Path(__file__).resolve().parents[2])
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from controller.process.restarter import main; sys.exit(main())"
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", code, place, *arguments])  # noqa: S606  ourselves


def main() -> int:
    """Keep a controller; return the exit code."""
    keeper = _Keeper(sys.argv[1:])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, keeper.signalled)
    return keeper.run()
