"""Which requests stay with one endpoint."""

from controller.resources.annotations.annotation import Family, ours
from controller.resources.annotations.values import choice, field_text, presence, timeout

FAMILY = Family(
    "Affinity",
    (
        ours(
            "affinity.cookie.name",
            field_text("affinity.cookie.name", "a name of at most 64 letters, digits and !#$%&'*+.^_`|~- would be accepted."),
            "a name, `SLUICE` by default",
            "a cookie of ours keeps a client with its endpoint",
        ),
        ours("affinity.cookie.maxAge", timeout, "duration; absent: until the browser ends", "how long browsers keep it"),
        ours(
            "affinity.cookie.sameSite",
            choice("Lax", "Strict", "None"),
            "`Lax` (default), `Strict`, `None`",
            "its SameSite attribute",
        ),
        ours(
            "affinity.engineIO",
            presence(value={}),
            '`"true"`',
            "the session id of Engine.IO (Socket.IO) keeps a client with its endpoint, without a cookie",
        ),
    ),
    "affinity",
)
