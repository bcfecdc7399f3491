# Compiled by mypyc: see setup.py.
"""The states of an exchange: one request and its answer, whatever version of HTTP either side speaks.

Request and answer go on by themselves, so each has a state of its own; how the whole ended is a third. forwarder.py keeps the
three.

The *request* is NONE while nothing of it is out: its endpoint is chosen, a connection to it dialled; what comes of its body
meanwhile waits. With a connection its head goes out, and it is STREAMING while more of its body may come, DONE when all of it was
sent. A connection that was pooled and turns out to have ended takes a request that is DONE back to NONE, once, if all of it is
still here.

The *answer* is NONE until the backend says something. An interim answer (1xx) is passed on and makes it INTERIM. With the final
head it is HEAD: whether it can be passed on is judged, the route's answer filters have it, and something else can still be said
to the client. When it is out it is BODY: from now on an answer that breaks is cut. DONE: it is whole.

The *end* is OPEN until exactly one of these happened. ANSWERED: the backend's answer is whole, with the client. SWITCHED: a 101
made a tunnel of it. REPLACED: the client got an answer of ours, as the backend's could not be had. CUT: the client's connection
was aborted, since what is out cannot be made whole. ABANDONED: the client is gone, or broke the protocol where nothing can be
said to it any more.

Each time there is exactly one deadline, that of the *phase*; the table says how long it is and what happens when it is over.

The tables here are what docs/architecture.md shows; tests/unit/proxy/test_exchange.py walks them and compares.
"""

from typing import Final

# The request, and the answer.
NONE: Final = 0
STREAMING: Final = 1
INTERIM: Final = 2
HEAD: Final = 3
BODY: Final = 4
DONE: Final = 5

# The end.
OPEN: Final = 0
ANSWERED: Final = 1
SWITCHED: Final = 2
REPLACED: Final = 3
CUT: Final = 4
ABANDONED: Final = 5

REQUEST_STATES: Final = {NONE: "NONE", STREAMING: "STREAMING", DONE: "DONE"}
ANSWER_STATES: Final = {NONE: "NONE", INTERIM: "INTERIM", HEAD: "HEAD", BODY: "BODY", DONE: "DONE"}
ENDS: Final = {
    OPEN: "OPEN",
    ANSWERED: "ANSWERED",
    SWITCHED: "SWITCHED",
    REPLACED: "REPLACED",
    CUT: "CUT",
    ABANDONED: "ABANDONED",
}

# The phases.
CONNECT: Final = 0
BODY_RATE: Final = 1
UPSTREAM_WRITE_STALL: Final = 2
RESPONSE: Final = 3
HANDSHAKE: Final = 4
IDLE: Final = 5
DOWNSTREAM_WRITE_STALL: Final = 6
FILTER: Final = 7

BODY_GRACE = 30.0
"""Seconds before the rate of a request's body is looked at (docs/wire.md, slow body)."""
RATE_INTERVAL: Final = 1.0
"""Seconds between looks at it."""
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods of requests that are sent once more (RFC 9110, 9.2.2)."""
MAX_INTERIM: Final = 16
"""1xx answers that one request may bring."""
WRITE_STALL = 60.0
"""Seconds that a client may leave an answer unread (nginx: send_timeout)."""

PHASES: Final = {
    CONNECT: "CONNECT",
    BODY_RATE: "BODY_RATE",
    UPSTREAM_WRITE_STALL: "UPSTREAM_WRITE_STALL",
    RESPONSE: "RESPONSE",
    HANDSHAKE: "HANDSHAKE",
    IDLE: "IDLE",
    DOWNSTREAM_WRITE_STALL: "DOWNSTREAM_WRITE_STALL",
    FILTER: "FILTER",
}
UPSTREAM_TIMEOUTS: Final = {
    UPSTREAM_WRITE_STALL: "body_not_taken",
    RESPONSE: "answer_timeout",
    HANDSHAKE: "handshake_timeout",
}
"""Phases whose end is the endpoint's fault, and its cause."""

REQUEST_TRANSITIONS: Final = (
    ("NONE", "a connection, and the body has not ended", "STREAMING"),
    ("NONE", "a connection, and the request is whole", "DONE"),
    ("STREAMING", "the body ends", "DONE"),
    ("DONE", "a pooled connection was stale, and all of the request is here", "NONE"),
)
"""State, event, state after it."""

ANSWER_TRANSITIONS: Final = (
    ("NONE", "an interim answer", "INTERIM"),
    ("NONE", "the final head", "HEAD"),
    ("INTERIM", "the final head", "HEAD"),
    ("HEAD", "the final head", "BODY"),
    ("HEAD", "an answer filter is done", "BODY"),
    ("HEAD", "the end of the answer", "DONE"),
    ("BODY", "the end of the answer", "DONE"),
)
"""State, event, state after it; an event that brings the head and more does one after the other."""

END_TRANSITIONS: Final = (
    ("HEAD", "the end of the answer", "ANSWERED"),
    ("BODY", "the end of the answer", "ANSWERED"),
    ("NONE", "a valid 101 to an upgrade", "SWITCHED"),
    ("INTERIM", "a valid 101 to an upgrade", "SWITCHED"),
    ("NONE", "an answer filter is done", "SWITCHED"),
    ("INTERIM", "an answer filter is done", "SWITCHED"),
    ("NONE", "no connection can be made", "REPLACED"),
    ("NONE", "the backend's connection ends", "REPLACED"),
    ("INTERIM", "the backend's connection ends", "REPLACED"),
    ("HEAD", "the backend's connection ends", "REPLACED"),
    ("BODY", "the backend's connection ends", "CUT"),
    ("NONE", "what the backend sends is malformed", "REPLACED"),
    ("INTERIM", "what the backend sends is malformed", "REPLACED"),
    ("HEAD", "what the backend sends is malformed", "REPLACED"),
    ("BODY", "what the backend sends is malformed", "CUT"),
    ("HEAD", "a head that this client cannot be sent", "REPLACED"),
    ("NONE", "an answer filter fails", "REPLACED"),
    ("INTERIM", "an answer filter fails", "REPLACED"),
    ("HEAD", "an answer filter fails", "REPLACED"),
    ("BODY", "an answer filter fails", "CUT"),
    ("NONE", "the request's body is malformed or too large", "REPLACED"),
    ("INTERIM", "the request's body is malformed or too large", "REPLACED"),
    ("HEAD", "the request's body is malformed or too large", "REPLACED"),
    ("BODY", "the request's body is malformed or too large", "ABANDONED"),
    ("NONE", "the client is lost", "ABANDONED"),
    ("INTERIM", "the client is lost", "ABANDONED"),
    ("HEAD", "the client is lost", "ABANDONED"),
    ("BODY", "the client is lost", "ABANDONED"),
)
"""State of the answer, event, end."""

DEADLINES: Final = (
    ("CONNECT", "`timeouts.connect`, for all attempts", "REPLACED, 504"),
    ("BODY_RATE", "30 s, then each second: `--min-body-rate`", "CUT, 408 in the log"),
    ("UPSTREAM_WRITE_STALL", "60 s, or `proxy-send-timeout`", "REPLACED, 504"),
    ("RESPONSE", "`timeouts.response`", "REPLACED, 504"),
    ("HANDSHAKE", "`timeouts.handshake`", "REPLACED, 504"),
    ("IDLE", "`timeouts.idle` since the last byte of the answer", "CUT"),
    ("DOWNSTREAM_WRITE_STALL", "60 s", "CUT"),
    ("FILTER", "`timeouts.response` since an answer filter began to wait", "REPLACED, 504; where the head is out CUT"),
)
"""Phase, how long it may take, and what happens when that is over."""
