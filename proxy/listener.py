"""Accepting connections: the worker's own accept loop, and for TLS the look at the ClientHello before the handshake.

What a connection says over HTTP is the server's; which certificate it gets is the store's.
"""

import asyncio
import errno
import logging
import os
import resource
import socket
import ssl
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from proxy.deadlines import Deadline
from proxy.exchange import Client
from proxy.http1.server import ServerConnection
from proxy.runtime import Runtime
from proxy.shells import PlainShell, SecureShell
from proxy.tls.client_hello import (
    ALERT_DECODE_ERROR,
    ALERT_NO_APPLICATION_PROTOCOL,
    ALERT_PROTOCOL_VERSION,
    ALERT_UNRECOGNIZED_NAME,
    MAX_BYTES,
    TLS_1_2,
    ClientHello,
    Peek,
    alert,
    parse_client_hello,
)
from proxy.tls.store import CertificateStore

ACCEPT_BATCH = 64
"""Connections accepted per turn of the loop, so that open ones are not kept waiting."""
HANDSHAKES_PER_TURN = 4
"""A handshake takes about 1 ms: 400 at once stalled the loop for 74 to 183 ms, four per turn 12 ms."""
DESCRIPTOR_SHARE = 0.9
"""Share of the descriptors from which on new connections wait in the kernel's queue; those that are open need some to go on."""
RESUME_SHARE = 0.95
"""Share of that from which on accepting goes on, so that it does not stop again at once."""
PAUSE_SECONDS = 0.25
"""How long accepting rests when descriptors or memory ran out."""
SHUTDOWN_SECONDS = 75.0
"""How long uvloop lets a TLS connection flush and wait for the peer's close_notify: longer than any owner waits who knows more."""
LINGER_SECONDS = 1.0
"""How long a refused connection may take to read its answer."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_MESSAGE = b"This port speaks HTTPS; the request came as plain HTTP.\n"
PLAIN_ON_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
    % (len(_MESSAGE), _MESSAGE)
)

_log = logging.getLogger("sluice.listener")


@dataclass(frozen=True, slots=True)
class Termination:
    """What a TLS listener needs: the context that was made before forking, and who knows the certificates."""

    base: ssl.SSLContext
    store: CertificateStore
    timeout: float
    """Seconds for the whole handshake, its first byte included."""


class Turns:
    """Starts handshakes, a few per turn of the loop."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()

    def add(self, start: Callable[[], None]) -> None:
        """Start now or in one of the next turns, in order."""
        self._waiting.append(start)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        for _ in range(min(HANDSHAKES_PER_TURN, len(self._waiting))):
            self._waiting.popleft()()
        if self._waiting:
            self._loop.call_soon(self._turn)


class Listener:
    """One listening socket, which the supervisor bound and keeps open."""

    def __init__(self, runtime: Runtime, sock: socket.socket, name: str, port: int, turns: Turns, tls: Termination | None) -> None:
        self.runtime = runtime
        self.tls = tls
        self.turns = turns
        self.greetings: set[Greeting] = set()
        """TLS connections whose hello is not here yet."""
        self._loop = runtime.loop
        self._sock = sock
        self._name = name
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting = False
        self._ceiling = int(DESCRIPTOR_SHARE * resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._exhausted = False
        """Said already; once until something is accepted again."""
        self._pause: asyncio.TimerHandle | None = None

    @property
    def pending(self) -> int:
        """Connections that were accepted and are not yet the server's."""
        return len(self.greetings) + len(self._tasks)

    def start(self) -> None:
        """Accept from now on."""
        if not self._accepting:
            self._accepting = True
            self._loop.add_reader(self._sock, self._accept)

    def pause(self) -> None:
        """Accept no more; what waits in the queue waits for another worker or for `start`."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        elif self._accepting:
            self._loop.remove_reader(self._sock)
        self._accepting = False

    def stop(self) -> None:
        """Take what waits in the queue, then listen no more, in any process."""
        for greeting in [one for one in self.greetings if one.silent]:
            greeting.drop()
        if self._accepting:
            self.pause()
            self._ceiling = sys.maxsize
            while self._accept_some():
                pass
            self._sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        self._accept_some()

    def _accept_some(self) -> bool:
        """Accept a batch; tell whether there may be more."""
        for _ in range(ACCEPT_BATCH):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(str(error))
                    return False
                continue  # accept(2): the connection died in the queue; the next one may be well
            sock.setblocking(False)
            # A new descriptor is the lowest that is free (open(2)): nothing need be counted.
            full = sock.fileno() >= self._ceiling
            self._take(sock, _plain_address(address[0]))
            if full:
                self._rest(f"{self._ceiling} descriptors are in use")
                return False
        return True

    def _rest(self, reason: str) -> None:
        if self._accepting and self._pause is None:
            if not self._exhausted:
                self._exhausted = True
                _log.error("listener=%s reason=%r new connections wait", self._name, reason)
            self._loop.remove_reader(self._sock)
            self._pause = self._loop.call_later(PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._crowded():
            self._pause = self._loop.call_later(PAUSE_SECONDS, self._resume)
            return
        self._pause = None
        self._exhausted = False
        self._loop.add_reader(self._sock, self._accept)

    def _crowded(self) -> bool:
        try:
            probe = os.dup(self._sock.fileno())
        except OSError:
            return True
        os.close(probe)
        return probe >= RESUME_SHARE * self._ceiling

    def _take(self, sock: socket.socket, peer: str) -> None:
        client = Client(
            peer=peer,
            secure=self.tls is not None,
            port=self._port,
            trusted=self.runtime.trusts(peer),
            listener=self._name,
            began=self._loop.time(),
        )
        if self.tls is None:
            self.spawn(self._serve(sock, client))
        else:
            Greeting(self, self.tls, sock, client).look()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run the start of a connection; it is `pending` until it is done."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket, client: Client) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: PlainShell(ServerConnection(self.runtime, client)), sock)
        except OSError:
            sock.close()


class Greeting:
    """A connection to a TLS port until its handshake starts, or until it is refused."""

    __slots__ = ("_client", "_deadline", "_listener", "_reading", "_seen", "_sock", "_started", "_tls")

    def __init__(self, listener: Listener, tls: Termination, sock: socket.socket, client: Client) -> None:
        self._listener = listener
        self._tls = tls
        self._sock = sock
        self._client = client
        self._seen = 0
        self._reading = False
        self._started = listener.runtime.loop.time()
        self._deadline = Deadline(self._late)
        listener.greetings.add(self)

    @property
    def silent(self) -> bool:
        """No byte has come."""
        return not self._seen

    def look(self) -> None:
        """Look at what is here, without taking it from OpenSSL."""
        try:
            data = self._sock.recv(MAX_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            self._wait(self.look)
            return
        except OSError:
            self.drop()
            return
        if len(data) == self._seen:  # woken without more bytes: the peer has ended
            self.drop()
            return
        self._seen = len(data)
        hello = parse_client_hello(data)
        if isinstance(hello, ClientHello):
            self._judge(hello)
        elif hello is Peek.MORE:
            # The bytes stay in the socket, so it would be readable all the time.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, self._seen + 1)
            self._wait(self.look)
        else:
            self._refuse(PLAIN_ON_TLS if hello is Peek.NOT_TLS else alert(ALERT_DECODE_ERROR))

    def drop(self) -> None:
        """Close without an answer."""
        if self._forget():
            self._sock.close()

    def _judge(self, hello: ClientHello) -> None:
        if hello.version < TLS_1_2:
            # OpenSSL's own alert would be lost: uvloop drops what a failed handshake has left to say.
            self._refuse(alert(ALERT_PROTOCOL_VERSION))
        elif hello.alpn and b"http/1.1" not in hello.alpn:
            self._refuse(alert(ALERT_NO_APPLICATION_PROTOCOL))  # RFC 7301 3.2
        elif not self._tls.store.serves(hello.sni):
            self._refuse(alert(ALERT_UNRECOGNIZED_NAME))
        else:
            self._sleep()
            self._client.sni = hello.sni
            self._listener.turns.add(self._start)

    def _start(self) -> None:
        if self._forget():
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self._listener.spawn(self._handshake())

    async def _handshake(self) -> None:
        runtime, client, tls = self._listener.runtime, self._client, self._tls
        client.tls_scope = tls.store.scope(client.sni)
        left = self._started + tls.timeout - runtime.loop.time()
        result = "failed"
        try:
            await runtime.loop.connect_accepted_socket(
                lambda: SecureShell(ServerConnection(runtime, client), runtime.scratch),
                self._sock,
                ssl=tls.base,
                ssl_handshake_timeout=max(left, 0.001),
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
            result = "ok"
        except OSError:  # ssl.SSLError too
            if runtime.loop.time() >= self._started + tls.timeout:
                result = "timeout"
            self._sock.close()
        runtime.stats.tls_handshake(result, runtime.loop.time() - self._started)

    def _wait(self, then: Callable[[], None]) -> None:
        if not self._reading:
            self._reading = True
            self._listener.runtime.loop.add_reader(self._sock, then)
            if not self._deadline.at:
                self._listener.runtime.wheel.file(self._deadline, self._tls.timeout)

    def _sleep(self) -> None:
        if self._reading:
            self._reading = False
            self._listener.runtime.loop.remove_reader(self._sock)

    def _forget(self) -> bool:
        """Leave the loop and the wheel; False: that was done before."""
        self._sleep()
        self._listener.runtime.wheel.drop(self._deadline)
        if self not in self._listener.greetings:
            return False
        self._listener.greetings.discard(self)
        return True

    def _late(self) -> None:
        if self._seen >= 0:
            self._listener.runtime.stats.tls_handshake("timeout", self._tls.timeout)
        self.drop()

    def _refuse(self, answer: bytes) -> None:
        """Say why, then read on for a moment: closing on unread bytes would reset the connection and lose the answer."""
        self._sleep()
        self._seen = -1
        runtime = self._listener.runtime
        runtime.stats.tls_handshake("refused", runtime.loop.time() - self._started)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self._sock.send(answer)
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.drop()
            return
        self._deadline.at = 0.0
        runtime.wheel.file(self._deadline, LINGER_SECONDS)
        self._wait(self._discard)

    def _discard(self) -> None:
        try:
            if self._sock.recv(65536):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self.drop()


def _plain_address(address: str) -> str:
    """Write an IPv4 client of a dual-stack socket as IPv4."""
    return address[7:] if address.startswith("::ffff:") and "." in address else address
