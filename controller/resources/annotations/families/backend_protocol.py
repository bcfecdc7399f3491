"""What is spoken to the backends of an Ingress."""

from collections.abc import Mapping

from controller.resources.annotations.annotation import NGINX, Annotation, Family, Refused

_ACCEPTED = "HTTP or HTTPS would be accepted."
_NOT_SPOKEN = {
    "GRPC": "gRPC needs HTTP/2, which is not supported yet",
    "GRPCS": "gRPC needs HTTP/2, which is not supported yet",
    "AUTO_HTTP": "with it clients choose whether backends are spoken to over TLS",
    "FCGI": "FastCGI is not spoken",
}


def backend_protocol(text: str) -> bool | Refused:
    """Tell whether backends are spoken to over TLS. Letters are compared without case, as in ingress-nginx."""
    name = text.strip().upper()
    if name in ("HTTP", "HTTPS"):
        return name == "HTTPS"
    if name in _NOT_SPOKEN:
        return Refused(f"{_NOT_SPOKEN[name]}; {_ACCEPTED}", closes=True)
    return Refused(f"so it is HTTP; {_ACCEPTED}")


def build(values: Mapping[str, bool]) -> bool:
    """Tell whether backends are spoken to over TLS."""
    return values["https"]


FAMILY = Family(
    "Protocol of backends",
    (
        Annotation(
            NGINX + "backend-protocol",
            parse=backend_protocol,
            attribute="https",
            values="`HTTP` (default), `HTTPS`",
            says="with `HTTPS`, TLS to all backends of the Ingress, whose certificates are not verified. `HTTP` leaves it to "
            "`appProtocol` of the Service's port. With `GRPC`, `GRPCS`, `AUTO_HTTP` and `FCGI` the routes answer 500",
        ),
    ),
    "backend_https",
    build,
)
