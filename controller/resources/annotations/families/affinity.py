"""Which requests stay with one endpoint."""

from controller.resources.annotations.annotation import Family, Status, not_yet, ours, unread
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
        *unread(
            Status.DIFFERENT,
            "{name} has no effect. Write sluice.dev/affinity-cookie-name instead.",
            "affinity",
            "session-cookie-name",
        ),
        *unread(
            Status.DIFFERENT,
            "{name} has no effect. Write sluice.dev/affinity-cookie-max-age, a duration, instead.",
            "session-cookie-max-age",
            "session-cookie-expires",
        ),
        *unread(
            Status.DIFFERENT,
            "{name} has no effect. Write sluice.dev/affinity-cookie-same-site instead.",
            "session-cookie-samesite",
        ),
        *not_yet(
            "affinity-mode",
            "session-cookie-change-on-failure",
            "session-cookie-conditional-samesite-none",
            "session-cookie-domain",
            "session-cookie-partitioned",
            "session-cookie-path",
            "session-cookie-secure",
        ),
    ),
    "affinity",
)
