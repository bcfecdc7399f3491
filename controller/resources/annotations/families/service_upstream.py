"""Requests that go to the Service's own address instead of its pods."""

from collections.abc import Mapping

from controller.resources.annotations.annotation import NGINX, Annotation, Family, Refused, read_go_bool


def build(values: Mapping[str, bool]) -> bool:
    """Tell whether they do."""
    return values["asked"]


def _flag(text: str) -> bool | Refused | None:
    if not text:
        return None
    is_set = read_go_bool(text)
    return Refused("so requests go to the pods; true or false would be accepted.") if is_set is None else is_set


FAMILY = Family(
    "Service upstreams",
    (
        Annotation(
            NGINX + "service-upstream",
            says="requests and sockets go to the Service's cluster IP, the only endpoint then: affinity, load balancing and "
            "closing by pod have nothing to choose from. A headless Service has none, and its pods get them",
            values='`"true"`, `"false"` (default)',
            parse=_flag,
            attribute="asked",
        ),
    ),
    "service_upstream",
    build,
)
