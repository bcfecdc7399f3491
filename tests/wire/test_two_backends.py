"""Two Services on one host and path: sockets go to one, ordinary requests to the other."""

import msgspec
from wire.harness import Proxy, proxying
from wire.several import Named, at, backends, get, serving, upgrade

from proxy.model.config import ProxyConfig, Route, Share, Target, Upstream

SOCKETS, PAGES = "test/sockets:80", "test/pages:80"


def one_path(sockets: Named, pages: Named) -> ProxyConfig:
    plain = serving(at(sockets.port))
    (route,) = plain.routes.values()
    route = msgspec.structs.replace(route, origin="wsroute", websocket=Target((Share(SOCKETS),)), http=Target((Share(PAGES),)))
    upstreams = {SOCKETS: Upstream((at(sockets.port),)), PAGES: Upstream((at(pages.port),))}
    return msgspec.structs.replace(plain, routes={route.id: route}, upstreams=upstreams)


def without(found: ProxyConfig, kind: str) -> ProxyConfig:
    changed: dict[str, Route] = {key: msgspec.structs.replace(route, **{kind: None}) for key, route in found.routes.items()}
    return msgspec.structs.replace(found, routes=changed)


async def ask(proxy: Proxy) -> tuple[int, int, str]:
    """An upgrade and an ordinary request of the same path: both statuses, and who answered the request."""
    status, _ = await upgrade(proxy, "/chat")
    plain, _, body = await get(proxy, "/chat")
    return status, plain, body


async def test_upgrades_and_requests_of_one_path_go_to_services_of_their_own() -> None:
    async with proxying() as proxy, backends(2) as (sockets, pages):
        proxy.serves(one_path(sockets, pages))
        found = [await ask(proxy) for _ in range(3)]

    assert found == [(101, 200, "1")] * 3
    assert ([b"\r\nUpgrade: websocket\r\n" in head for head in sockets.seen], len(pages.seen)) == ([True] * 3, 3)


async def test_path_that_has_one_of_them_refuses_what_is_for_the_other() -> None:
    async with proxying() as proxy, backends(2) as (sockets, pages):
        both = one_path(sockets, pages)
        proxy.serves(without(both, "http"))
        only_sockets = await ask(proxy)
        proxy.serves(without(both, "websocket"))
        only_pages = await ask(proxy)

    assert only_sockets[:2] == (101, 426)
    assert only_pages == (404, 200, "1")
    assert (len(sockets.seen), len(pages.seen)) == (1, 1)
