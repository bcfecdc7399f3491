"""Ingresses that are served a part of the traffic of another."""

from collections.abc import Mapping

from controller.resources.annotations.annotation import NGINX, Annotation, Family, Refused, not_yet, read_go_bool

CANARY = NGINX + "canary"
NOT_SERVED = (
    "this Ingress is not served: canary is not supported yet, and it could take all traffic of the Ingress beside it. "
    "Remove the annotation, or give the backends of a WsRoute weights."
)


def is_canary(text: str) -> bool | Refused:
    """Parse the value as ingress-nginx does, which ignores what is no flag; an empty text is none."""
    value = read_go_bool(text) if text else False
    return Refused('so this Ingress is served as no canary; "true" or "false" would be accepted.') if value is None else value


def build(values: Mapping[str, bool]) -> bool:
    """Tell whether an Ingress is a canary."""
    return values["canary"]


FAMILY = Family(
    "Canaries",
    (
        Annotation(
            CANARY,
            parse=is_canary,
            attribute="canary",
            values='`"true"`, `"false"` (default)',
            says="nothing of a canary is served until canaries work, and it takes no host: served as any other it could take all "
            "traffic of the Ingress beside it. `1`, `t` and `True` are true too",
        ),
        *not_yet(
            "affinity-canary-behavior",
            "canary-by-cookie",
            "canary-by-header",
            "canary-by-header-pattern",
            "canary-by-header-value",
            "canary-weight",
            "canary-weight-total",
        ),
    ),
    "canary",
    build,
)
