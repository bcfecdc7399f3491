"""A value made in a process of its own, as the default certificate is."""

import os
import ssl
import time

import pytest

from proxy.platform.forked import ForkedError, made_apart
from proxy.tls.contexts import make_context
from proxy.tls.self_signed import self_signed_apart


def test_value_is_made_in_another_process() -> None:
    pid = int(made_apart(lambda: b"%d" % os.getpid()))

    assert pid != os.getpid()
    with pytest.raises(ChildProcessError):  # it was waited for
        os.waitpid(pid, os.WNOHANG)


def test_value_of_any_size_comes_whole() -> None:
    data = os.urandom(1_000_000)

    assert made_apart(lambda: data) == data


def test_process_that_fails_leaves_no_half_value() -> None:
    def fail() -> bytes:
        raise ValueError("no")

    with pytest.raises(ForkedError, match="status 1"):
        made_apart(fail)


def test_process_that_is_killed_leaves_no_half_value() -> None:
    def end() -> bytes:
        os.kill(os.getpid(), 9)
        return b""

    with pytest.raises(ForkedError, match="status -9"):
        made_apart(end)


def test_default_certificate_made_apart_serves() -> None:
    certificate = self_signed_apart(time.time())

    assert isinstance(make_context(certificate), ssl.SSLContext)
    assert certificate.not_after > time.time()
