"""A value made in a process of its own: what it takes to make it is gone from memory with that process."""

import os
import traceback
from collections.abc import Callable


class ForkedError(Exception):
    """The process ended without a value; what happened stands on standard error."""


def made_apart(make: Callable[[], bytes]) -> bytes:
    """Return what `make` returns in a forked process, and wait for its end; raises `ForkedError`.

    Only for a process without other threads, whose locks a fork takes along, and without a loop, which it would hold.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _make(make, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        data = file.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise ForkedError(f"the process ended with status {os.waitstatus_to_exitcode(status)}")
    return data


def _make(make: Callable[[], bytes], writer: int) -> None:
    """Write and end, whatever happens: nothing of the parent may run on in the child."""
    status = 1
    try:
        with os.fdopen(writer, "wb") as file:
            file.write(make())
        status = 0
    except BaseException:  # noqa: BLE001  it has nobody else who would say it
        traceback.print_exc()
    finally:
        os._exit(status)
