"""How large the body of a request may be."""

from collections.abc import Mapping

from controller.resources.annotations.annotation import NGINX, Annotation, Family
from controller.resources.annotations.values import nginx_size
from controller.resources.features.body_size import BodySizeSpec


def build(values: Mapping[str, int]) -> BodySizeSpec | None:
    """Make the limit; None: there is none (client_max_body_size 0)."""
    return BodySizeSpec(values["most"]) if values["most"] else None


FAMILY = Family(
    "Size of requests",
    (
        Annotation(
            NGINX + "proxy-body-size",
            parse=nginx_size,
            attribute="most",
            values='bytes, or with `k`, `m` or `g`; `"0"`, and absent: any size',
            says="bodies of requests, chunked ones too, that are larger get 413",
        ),
    ),
    "body_size",
    build,
)
