"""Parts of routes that are equal are one object after decoding, and nothing else about them differs."""

import msgspec

from proxy.model.config import EMPTY, Conditions, Pair, Path, Route, Share, Target
from proxy.model.policy import Timeouts
from proxy.model.sharing import Sharer
from proxy.model.wire import RouteEntry, encode_config


def route(number: int, upstream: str) -> Route:
    return Route(
        id=f"ingress/shop/web/{number}",
        origin="ingress",
        namespace="shop",
        name="web",
        created="2026-01-01T00:00:00Z",
        index=number,
        hosts=(f"h{number}.example",),
        path=Path("prefix", "/"),
        conditions=Conditions(headers=(Pair("x", "y"),)),
        http=Target((Share(upstream),)),
        websocket=Target((Share(upstream),)),
        policies=(Timeouts(connect=float(number // 2 + 1)),),
    )


def test_decoded_routes_share_equal_parts_and_stay_equal() -> None:
    routes = {one.id: one for one in (route(0, "shop/web:80"), route(1, "shop/web:80"), route(2, "shop/other:80"))}
    encoded = encode_config(msgspec.structs.replace(EMPTY, routes=routes))

    sharer = Sharer()
    decoded = [
        entry.value for key in encoded.entries if isinstance(entry := sharer.decode(key, encoded.entries[key][0]), RouteEntry)
    ]

    assert decoded == list(routes.values())
    first, second, third = decoded
    for name in ("namespace", "created", "path", "conditions", "http", "websocket", "policies"):
        assert getattr(first, name) is getattr(second, name)
    assert first.http is first.websocket
    assert third.path is first.path
