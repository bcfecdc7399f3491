"""`sluice standalone` in a terminal, and as others end it: a pty, its foreground process group, and open sockets."""

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from demo import await_ready, write_whole
from e2e.harness import running, trusting, until
from e2e.standalone import AUTHORITY, FREE, HOSTS, WAIT, echo_backends, endpoints_text, objects, secret
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

HOST = HOSTS[0]
SOCKETS = 4


class Terminal:
    """A terminal whose foreground process group is `sluice standalone`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.keyboard, screen = os.openpty()
        self.said = b""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "controller.cli", "standalone", str(folder), *FREE, *arguments],
            stdin=screen,
            stdout=screen,
            stderr=screen,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  it is one system call
        )
        os.close(screen)
        asyncio.get_running_loop().add_reader(self.keyboard, self._read)

    def _read(self) -> None:
        try:
            self.said += os.read(self.keyboard, 65536)
        except OSError:  # nobody has the other end any more
            asyncio.get_running_loop().remove_reader(self.keyboard)

    def types(self, key: bytes) -> None:
        os.write(self.keyboard, key)

    def hangs_up(self) -> None:
        asyncio.get_running_loop().remove_reader(self.keyboard)
        os.close(self.keyboard)
        self.keyboard = -1

    @property
    def proxy(self) -> int:
        (found,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(found)

    async def listening(self) -> dict[str, str]:
        await until(lambda: b"listening " in self.said and b"\n" in self.said.split(b"listening ", 1)[1], WAIT)
        line = self.said.split(b"listening ", 1)[1].split(b"\n", 1)[0].decode()
        found = dict(part.split("=", 1) for part in line.split())
        await asyncio.to_thread(await_ready, self.process, found["admin"])
        return found

    async def ended(self) -> int:
        await until(lambda: self.process.poll() is not None, WAIT)
        return self.process.returncode

    def close(self) -> None:
        if self.keyboard >= 0:
            asyncio.get_running_loop().remove_reader(self.keyboard)
            os.close(self.keyboard)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


@contextlib.asynccontextmanager
async def terminal(folder: Path, *arguments: str) -> AsyncIterator[tuple[Terminal, list[ClientConnection]]]:
    """A terminal, and sockets over TLS through its proxy."""
    async with echo_backends(1) as ports, contextlib.AsyncExitStack() as stack:
        write_whole(folder / "endpoints.yaml", endpoints_text(ports))
        write_whole(folder / "objects.yaml", objects(HOST))
        write_whole(folder / "secret.json", secret(HOST))
        made = Terminal(folder, *arguments)
        stack.callback(made.close)
        port = int((await made.listening())["https"].rsplit(":", 1)[1])
        sockets = []
        for _ in range(SOCKETS):
            one = connect(f"wss://{HOST}:{port}/ws", ssl=trusting(AUTHORITY), host="127.0.0.1", ping_interval=None)
            sockets.append(await stack.enter_async_context(one))
        yield made, sockets


async def code_of(one: ClientConnection) -> int:
    with contextlib.suppress(ConnectionClosed):
        await asyncio.wait_for(one.recv(), WAIT)
    return one.close_code or 0


async def codes_of(sockets: list[ClientConnection]) -> list[int]:
    return list(await asyncio.gather(*map(code_of, sockets)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "objects"
    made.mkdir()
    return made


async def test_one_ctrl_c_closes_every_socket_with_1001_and_ends_with_zero(folder: Path) -> None:
    async with terminal(folder, "--drain-time", "1s") as (one, sockets):
        one.types(b"\x03")
        codes, status = await codes_of(sockets), await one.ended()

    assert (codes, status) == ([1001] * SOCKETS, 0)
    assert b"second signal" not in one.said


async def test_second_ctrl_c_ends_at_once(folder: Path) -> None:
    """Without it the sockets would be closed over a minute."""
    async with terminal(folder, "--drain-time", "50s") as (one, sockets):
        one.types(b"\x03")
        await until(lambda: b"WebSockets are closed over 50 s" in one.said, WAIT)
        async with asyncio.timeout(WAIT):
            while b"second signal" not in one.said:
                one.types(b"\x03")
                await asyncio.sleep(0.05)
        codes, status = await codes_of(sockets), await one.ended()

    assert status == 1
    assert 1006 in codes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_to_every_process_of_a_unit_is_one_signal(folder: Path, number: int) -> None:
    """As systemd ends a unit, with KillMode=control-group."""
    async with terminal(folder, "--drain-time", "1s") as (one, sockets):
        os.kill(one.proxy, number)
        await until(lambda: b"WebSockets are closed over 1 s" in one.said, WAIT)
        os.kill(one.process.pid, number)
        codes, status = await codes_of(sockets), await one.ended()

    assert (codes, status) == ([1001] * SOCKETS, 0)


async def test_terminal_that_is_closed_ends_it_as_a_signal_would(folder: Path) -> None:
    async with terminal(folder, "--drain-time", "1s") as (one, sockets):
        one.hangs_up()
        codes, status = await codes_of(sockets), await one.ended()

    assert (codes, status) == ([1001] * SOCKETS, 0)


async def test_proxy_of_a_killed_standalone_closes_its_sockets_and_ends(folder: Path) -> None:
    async with terminal(folder, "--drain-time", "1s") as (one, sockets):
        proxy = one.proxy
        one.process.kill()
        codes = await codes_of(sockets)
        await until(lambda: not running([proxy]), WAIT)

    assert codes == [1001] * SOCKETS


async def test_drain_delay_of_the_environment_counts_and_there_is_none_without(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with terminal(folder, "--drain-time", "0s") as (one, _):
        one.types(b"\x03")
        await one.ended()
    monkeypatch.setenv("SLUICE_DRAIN_DELAY", "200ms")
    async with terminal(folder, "--drain-time", "0s") as (other, _):
        other.types(b"\x03")
        await other.ended()

    assert (b"accepting for" in one.said, b"accepting for 0.2 s" in other.said) == (False, True)
