"""The proxy of `sluice standalone`: a fork of this process, so that what both import is in memory once.

It is forked before a loop, a thread or an object of the user exists, and waits until the control socket does.
"""

import asyncio
import contextlib
import ctypes
import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NoReturn, Self

_PR_SET_NAME, _PR_SET_PDEATHSIG = 15, 1  # prctl.h
NAME = b"sluice-proxy"
"""What ps(1) and top(1) show instead of the interpreter's name."""


class ForkedProxy:
    """The proxy, from the fork to its end. Without `start` it ends with the context, and has done nothing."""

    def __init__(self, arguments: Sequence[str]) -> None:
        reader, self._writer = os.pipe()
        parent = os.getpid()
        # By its name: what the proxy consists of is no more known here than where it is a program of its own. Before the fork, as
        # what is imported behind it fills gaps of pages that were shared until then.
        main = importlib.import_module("proxy.__main__").main
        # A full collection writes into every object that it looks at, and a page that is written to is shared no longer.
        gc.collect()
        gc.freeze()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._writer)
            _be_proxy(parent, reader, main, arguments)
        os.close(reader)
        self._status: int | None = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        """Wait for the end of what was not started; the kernel ends what was when this process does."""
        if self._writer >= 0:
            self._let_go()
            os.waitpid(self._pid, 0)

    def start(self, control_socket: str) -> None:
        """Have the proxy run, fed by a control socket."""
        os.write(self._writer, os.fsencode(control_socket))
        self._let_go()

    def _let_go(self) -> None:
        os.close(self._writer)
        self._writer = -1

    def send_signal(self, number: int) -> None:
        """Send a signal, if the proxy has not ended."""
        if self._status is None:
            os.kill(self._pid, number)

    async def wait(self) -> int:
        """Wait for the end; return the exit code, of a proxy that a signal ended the signal's negative number."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()

        def reap() -> None:
            pid, status = os.waitpid(self._pid, os.WNOHANG) if self._status is None else (0, 0)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
            if self._status is not None and not ended.done():
                ended.set_result(self._status)

        loop.add_signal_handler(signal.SIGCHLD, reap)
        try:
            reap()
            return await ended
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)


def _be_proxy(parent: int, reader: int, main: Callable[..., object], arguments: Sequence[str]) -> NoReturn:
    """Be the proxy, and nothing of what the parent would have done: whatever happens, this does not return."""
    status = 1
    try:
        # A terminal sends Ctrl-C to a whole process group: the proxy has its signals from the parent alone, each once.
        os.setsid()
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_NAME, NAME)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        with os.fdopen(reader, "rb") as file:
            control_socket = os.fsdecode(file.read())
        if control_socket and os.getppid() == parent:  # else it was gone before the kernel knew, or wants no proxy
            # No load balancer has to notice that this one ends.
            os.environ.setdefault("SLUICE_DRAIN_DELAY", "0s")
            main([*arguments, "--control-socket", control_socket], prog_name="sluice-proxy")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001  as the interpreter does it at its end
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
