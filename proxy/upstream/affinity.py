# Compiled by mypyc: see setup.py.
"""Where one request of a route with affinity, hashing or pod addressing goes, and what its answer has to say about it.

Routes without any of these have no `Affinity`. The order of precedence: a pod that the upgrade names, the session id that an
Engine.IO request carries, the cookie, then load balancing. A session or cookie that names an endpoint which is gone is balanced
anew. Synchronous; what it remembers is in shared memory (session_table.py), and in tables made from the endpoints, which follow
their changes.
"""

import hashlib
import ipaddress
import random
import re
import time
from collections.abc import Iterable, Mapping
from typing import Final

from proxy.http.local_replies import NO_POD
from proxy.http.message import Answer, Request
from proxy.model.config import LoadBalancing
from proxy.model.policy import CookieAffinity, EngineIoAffinity, HashOn, PodTarget, Policy
from proxy.shared_memory.counters import Reservation
from proxy.shared_memory.session_table import EndpointId, SessionTable, endpoint_id
from proxy.transport.timer_wheel import TimerWheel
from proxy.upstream.balance import Shares
from proxy.upstream.cookies import cookie_attributes, find_cookie, takes_same_site_none, without_cookie
from proxy.upstream.engine_io import PACKET_LIMIT, read_open_packet, sid_of
from proxy.upstream.hash_text import hash_text
from proxy.upstream.pool import EndpointPool, LiveUpstream
from proxy.upstream.rendezvous import KEY_MASK, NO_KEY, hash_key

_OUR_COOKIE: Final = re.compile(r"s1\.[0-9a-f]{32}")
"""The form of our cookies; any other value of the same name is the application's own."""
_DASHED: Final = re.compile(r"([0-9]{1,3})-([0-9]{1,3})-([0-9]{1,3})-([0-9]{1,3})")


class EndpointIndex:
    """The endpoints of some upstreams under names of any kind, made anew when the upstreams changed."""

    __slots__ = ("_keys", "_live", "_upstreams", "_versions")

    def __init__(self, keys: Iterable[str], upstreams: Mapping[str, LiveUpstream]) -> None:
        self._keys = tuple(keys)
        self._upstreams = upstreams
        self._live: list[LiveUpstream] = []
        self._versions: list[int] = []

    def refresh(self) -> None:
        """Call `clear` and then `add` for every endpoint, ready ones first, if any upstream changed since the last time."""
        live = [upstream for key in self._keys if (upstream := self._upstreams.get(key)) is not None]
        versions = [upstream.version for upstream in live]
        if live == self._live and versions == self._versions:
            return
        self._live, self._versions = live, versions
        self.clear()
        for draining in (False, True):
            for upstream in live:
                for pool in upstream.draining if draining else upstream.ready:
                    self.add(upstream, pool)

    def clear(self) -> None:
        """Forget all names."""
        raise NotImplementedError

    def add(self, upstream: LiveUpstream, pool: EndpointPool) -> None:
        """Name an endpoint."""
        raise NotImplementedError


class PodIndex(EndpointIndex):
    """Endpoints by the names of their pods and by their addresses."""

    __slots__ = ("_found",)

    def __init__(self, keys: Iterable[str], upstreams: Mapping[str, LiveUpstream]) -> None:
        super().__init__(keys, upstreams)
        self._found: dict[str, tuple[LiveUpstream, EndpointPool]] = {}

    def clear(self) -> None:
        """Forget all names."""
        self._found = {}

    def add(self, upstream: LiveUpstream, pool: EndpointPool) -> None:
        """Name an endpoint; of several, the first one keeps the name."""
        if pool.pod:
            self._found.setdefault(pool.pod, (upstream, pool))
        self._found.setdefault(pool.address, (upstream, pool))

    def find(self, name: str) -> tuple[LiveUpstream, EndpointPool] | None:
        """Find a pod by its name, its address, or in a host's label by its IPv4 address with dashes; None: there is none."""
        self.refresh()
        found = self._found.get(name)
        if found is None and (dashed := _DASHED.fullmatch(name)) is not None:
            return self._found.get(".".join(dashed.groups()))
        if found is None and ":" in name:
            try:
                return self._found.get(str(ipaddress.ip_address(name)))
            except ValueError:
                return None
        return found


class EndpointIdIndex(EndpointIndex):
    """Endpoints by digests of their address and port; by that of the address alone where a single one has it.

    So what was learned of a pod's one port counts for another: a rule's http and websocket backends may be two ports of one pod.
    """

    __slots__ = ("_addresses", "_exact", "_key", "_names")

    def __init__(self, key: bytes, keys: Iterable[str], upstreams: Mapping[str, LiveUpstream]) -> None:
        super().__init__(keys, upstreams)
        self._key = key
        self._names: dict[EndpointPool, EndpointId] = {}
        self._exact: dict[int, tuple[LiveUpstream, EndpointPool]] = {}
        self._addresses: dict[int, tuple[LiveUpstream, EndpointPool] | None] = {}

    def clear(self) -> None:
        """Forget the endpoints; the names of those that stay are taken over in `add`."""
        self._names = {pool: endpoint for pool, endpoint in self._names.items() if not pool.retired}
        self._exact = {}
        self._addresses = {}

    def add(self, upstream: LiveUpstream, pool: EndpointPool) -> None:
        """Name an endpoint."""
        endpoint = self.id_of(pool)
        self._exact.setdefault(endpoint.exact, (upstream, pool))
        self._addresses[endpoint.address] = None if endpoint.address in self._addresses else (upstream, pool)

    def id_of(self, pool: EndpointPool) -> EndpointId:
        """Return the digests that stand for an endpoint."""
        endpoint = self._names.get(pool)
        if endpoint is None:
            if self._key:
                endpoint = EndpointId(self._digest(f"{pool.address}|{pool.port}"), self._digest(pool.address))
            else:
                endpoint = endpoint_id(pool.address, pool.port)
            self._names[pool] = endpoint
        return endpoint

    def _digest(self, text: str) -> int:
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=self._key).digest(), "big")

    def find(self, endpoint: EndpointId) -> tuple[LiveUpstream, EndpointPool] | None:
        """Find an endpoint; None: it is gone."""
        self.refresh()
        return self._exact.get(endpoint.exact) or self._addresses.get(endpoint.address)


class Selection:
    """The endpoint selected for one request, and the fields and session that its answer needs."""

    __slots__ = (
        "_affinity",
        "_body_start",
        "_cookie_value",
        "_same_site",
        "_secure",
        "expects_sid",
        "key",
        "load_balancing",
        "pool",
        "strict",
        "upstream",
    )

    def __init__(
        self,
        affinity: "Affinity",
        upstream: LiveUpstream,
        pool: EndpointPool | None,
        load_balancing: LoadBalancing,
        key: int,
        *,
        strict: bool,
    ) -> None:
        self._affinity = affinity
        self._cookie_value = ""
        self._body_start = b""
        self._secure = False
        self._same_site = True
        self.upstream = upstream
        self.pool = pool
        """None: the upstream has no endpoint."""
        self.load_balancing = load_balancing
        self.key = key
        """For the choice of another endpoint, where this one cannot be reached."""
        self.strict = strict
        """No other endpoint will do."""
        self.expects_sid = False
        """The body of the answer is to be given to `read_answer`."""

    def reserve(self, limit: int, reservation: Reservation) -> EndpointPool | None:
        """Have an upgrade count on its endpoint, or where that has `limit` sockets already, on another; None: there is no room."""
        reservation.release_endpoint()
        pool = self.pool
        if pool is None or pool.counter.acquire(limit):
            reservation.endpoint_counter = pool.counter if pool is not None else None
            return pool
        return None if self.strict else self.upstream.reserve(self.load_balancing, limit, reservation, (pool,), self.key)

    def remember(self, request: Request, cookie_value: str, *, expects_sid: bool, same_site: bool) -> None:
        """Keep what the answer depends on: the cookie that came, whether a session id is expected, and SameSite understood."""
        self._cookie_value = cookie_value
        self._secure = request.secure
        self._same_site = same_site
        self.expects_sid = expects_sid

    def answer_fields(self, status: int, head: bytes, pool: EndpointPool) -> bytes:
        """Return the fields that the answer of `pool` gets in addition; `head` is what it has."""
        if self.expects_sid:
            lowered = head.lower()
            self.expects_sid = status == 200 and (
                b"\r\ncontent-encoding:" not in lowered or b"\r\ncontent-encoding: identity\r\n" in lowered
            )
        return self._affinity.set_cookie(pool, self._cookie_value, self.key, secure=self._secure, same_site=self._same_site)

    def read_answer(self, data: bytes, pool: EndpointPool) -> None:
        """Look for a session id in the next bytes of the answer's body."""
        self._body_start += data[: PACKET_LIMIT - len(self._body_start)]
        sid, self.expects_sid = read_open_packet(self._body_start)
        if sid:
            self._affinity.learn(sid, pool)


class Affinity:
    """The choice of endpoints for one kind of a route's requests."""

    __slots__ = (
        "_cookie",
        "_cookies",
        "_engine",
        "_hash_on",
        "_load_balancing",
        "_pods",
        "_session_table",
        "_sessions",
        "_shares",
        "_upstreams",
        "_wheel",
    )

    def __init__(
        self,
        policies: Iterable[Policy],
        shares: Shares,
        load_balancing: LoadBalancing,
        upstreams: Mapping[str, LiveUpstream],
        session_table: SessionTable,
        wheel: TimerWheel,
    ) -> None:
        self._shares = shares
        self._load_balancing = load_balancing
        self._upstreams = upstreams
        self._session_table = session_table
        self._wheel = wheel
        self._hash_on: HashOn | None = None
        self._pods: PodIndex | None = None
        self._cookie: CookieAffinity | None = None
        self._cookies: EndpointIdIndex | None = None
        self._engine: EngineIoAffinity | None = None
        self._sessions: EndpointIdIndex | None = None
        keys = shares.upstreams
        for candidate in policies:
            if isinstance(candidate, HashOn):
                self._hash_on = candidate
            elif isinstance(candidate, PodTarget):
                self._pods = PodIndex(keys, upstreams)
            elif isinstance(candidate, CookieAffinity):
                self._cookie = candidate
                self._cookies = EndpointIdIndex(hashlib.blake2b(candidate.key.encode(), digest_size=32).digest(), keys, upstreams)
            elif isinstance(candidate, EngineIoAffinity):
                self._engine = candidate
                self._sessions = EndpointIdIndex(b"", keys, upstreams)

    def select(self, request: Request) -> Selection | Answer | None:
        """Choose the endpoint of a request; None: a share that cannot be resolved."""
        if self._pods is not None and request.upgrade:
            named = self._pods.find(request.pod)
            return NO_POD if named is None else Selection(self, named[0], named[1], self._load_balancing, NO_KEY, strict=True)
        cookie = self._cookie
        cookie_value = (find_cookie(request.values("cookie"), cookie.name) or "") if cookie is not None else ""
        sid = sid_of(request.query) if self._engine is not None else None
        policy = self._load_balancing
        balanced = cookie is not None and cookie.balanced
        key = _session_key(cookie_value) if balanced else self._key(request)
        if key == NO_KEY and policy == "hash":
            policy = "least-connections" if request.upgrade else "round-robin"
        located = self._by_session(sid) if sid else None
        if located is None and cookie_value and not balanced:
            located = self._by_cookie(cookie_value)
        if located is None:
            upstream = self._share(key)
            if upstream is None:
                return None
            selection = Selection(self, upstream, upstream.choose(policy, (), key), policy, key, strict=False)
        else:
            selection = Selection(self, located[0], located[1], policy, key, strict=False)
        expects_sid = sid == "" and request.method == "GET" and "transport=polling" in request.query.split("&")
        by_browser = cookie is not None and cookie.same_site_by_browser and cookie.same_site == "None"
        same_site = not by_browser or takes_same_site_none(request.values("user-agent"))
        selection.remember(request, cookie_value, expects_sid=expects_sid, same_site=same_site)
        return selection

    def forwarded_fields(self, request: Request) -> bytes:
        """Return the request's field lines as they go to the backend: without a cookie that is ours."""
        if self._cookie is None:
            return request.fields
        name = self._cookie.name
        value = find_cookie(request.values("cookie"), name)
        if value is None or _OUR_COOKIE.fullmatch(value) is None:
            return request.fields
        return without_cookie(request.fields, name, value)

    def _share(self, key: int) -> LiveUpstream | None:
        share = self._shares.choose() if key == NO_KEY else self._shares.choose_for(key)
        return self._upstreams.get(share.upstream) if share is not None and share.upstream is not None else None

    def _key(self, request: Request) -> int:
        on = self._hash_on
        if on is None:
            return NO_KEY
        if on.kind == "text":
            return hash_key(hash_text(on.parts, request))
        if on.kind == "client-ip":
            return hash_key(request.address)
        if on.kind == "header":
            values = request.values(on.name)
            return hash_key("\n".join(values)) if values else NO_KEY
        if on.kind == "cookie":
            value = find_cookie(request.values("cookie"), on.name)
            return NO_KEY if value is None else hash_key(value)
        start = on.name + "="
        for pair in request.query.split("&"):
            if pair.startswith(start):
                return hash_key(pair[len(start) :])
        return NO_KEY

    def _by_session(self, sid: str) -> tuple[LiveUpstream, EndpointPool] | None:
        engine, sessions = self._engine, self._sessions
        if engine is None or sessions is None:
            return None
        endpoint = self._session_table.find(engine.scope, sid, self._wheel.now)
        return None if endpoint is None else sessions.find(endpoint)

    def _by_cookie(self, cookie_value: str) -> tuple[LiveUpstream, EndpointPool] | None:
        if self._cookies is None or _OUR_COOKIE.fullmatch(cookie_value) is None:
            return None
        located = self._cookies.find(_read(cookie_value))
        # Sessions of a cookie outlive their endpoint, so nothing holds them to one that ends or fails.
        return None if located is None or located[1].draining or located[1].outlier_detection.ejected else located

    def learn(self, sid: str, pool: EndpointPool) -> None:
        """Remember that `pool` knows a session."""
        if self._engine is not None and self._sessions is not None:
            self._session_table.learn(self._engine.scope, sid, self._sessions.id_of(pool), self._wheel.now)

    def set_cookie(self, pool: EndpointPool, cookie_value: str, key: int, *, secure: bool, same_site: bool) -> bytes:
        """Return the field that names `pool` to the client; empty if what was given does so already, or is the application's."""
        cookie, cookies = self._cookie, self._cookies
        if cookie is None or cookies is None:
            return b""
        ours = _OUR_COOKIE.fullmatch(cookie_value) is not None
        if cookie_value and not ours and not cookie.replaces_others:
            return b""
        named = cookies.find(_read(cookie_value)) if ours else None
        if named is not None and named[1] is pool:
            return b""
        endpoint = cookies.id_of(pool)
        second = key if cookie.balanced else endpoint.address
        attributes = cookie_attributes(cookie, time.time(), secure=secure, same_site=same_site)
        return f"Set-Cookie: {cookie.name}=s1.{endpoint.exact:016x}{second:016x}{attributes}\r\n".encode()


def _session_key(cookie_value: str) -> int:
    """Return the key of a session; at random for one that begins."""
    if not cookie_value:
        return random.getrandbits(30)
    return int(cookie_value[19:], 16) & KEY_MASK if _OUR_COOKIE.fullmatch(cookie_value) is not None else hash_key(cookie_value)


def _read(cookie: str) -> EndpointId:
    return EndpointId(int(cookie[3:19], 16), int(cookie[19:], 16))


def needs_affinity(policy: Policy, *, websocket: bool) -> bool:
    """Tell whether a policy has a say in where requests go."""
    return isinstance(policy, HashOn | CookieAffinity | EngineIoAffinity) or (websocket and isinstance(policy, PodTarget))
