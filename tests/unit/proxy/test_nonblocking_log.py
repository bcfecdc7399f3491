"""The ordinary log never waits, and says what it lost."""

import logging
import os

from proxy.platform.nonblocking_log import LINE_BYTES, NonblockingHandler


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("sluice", logging.INFO, __file__, 1, text, (), None)


def test_lines_arrive() -> None:
    reader, writer = os.pipe()
    NonblockingHandler(writer).emit(record("hello"))
    found = os.read(reader, 100)
    os.close(reader)
    os.close(writer)

    assert found == b"hello\n"


def test_pipe_that_nobody_reads_costs_lines_and_no_time_and_the_loss_is_said() -> None:
    reader, writer = os.pipe()
    handler = NonblockingHandler(writer)
    for _ in range(2000):
        handler.emit(record("x" * 200))
    while len(os.read(reader, 65536)) == 65536:
        pass
    handler.emit(record("after"))
    found = os.read(reader, 65536)
    os.close(reader)
    os.close(writer)

    assert found.startswith(b"(")
    assert found.endswith(b" lines before this one are lost) after\n")


def test_full_disk_is_no_error() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    handler = NonblockingHandler(full)
    handler.emit(record("hello"))
    os.close(full)

    assert handler._lost == 1


def test_reader_that_is_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    handler = NonblockingHandler(writer)
    handler.emit(record("hello"))
    os.close(writer)

    assert handler._lost == 1


def test_line_that_is_too_long_is_cut() -> None:
    reader, writer = os.pipe()
    NonblockingHandler(writer).emit(record("é" * LINE_BYTES))
    found = os.read(reader, 65536)
    os.close(reader)
    os.close(writer)

    assert len(found) <= LINE_BYTES
    assert found.endswith(b"...\n")
