"""Why a request was not answered as it was meant to be: a closed set of names, for the access log, the log and the metrics.

A name here is part of the interface, as a metric's is. What each means is said in the same words in the log and in
docs/troubleshooting.md.
"""

from collections.abc import Mapping
from typing import Final

UPSTREAM: Final[Mapping[str, str]] = {
    "no_endpoint": "the Service has no ready endpoint",
    "endpoints_full": "every endpoint has as many open WebSockets as it may have",
    "exhausted": "the proxy has run out of descriptors, ports or memory for a connection to the backend",
    "name_unresolved": "the name of the endpoint has no address",
    "connect_refused": "the endpoint refused the connection: nothing listens on its port",
    "connect_reset": "the endpoint reset the connection while it was made",
    "connect_timeout": "the endpoint did not take the connection in time",
    "connect_unreachable": "there is no way to the endpoint",
    "connect_failed": "the connection to the endpoint could not be made",
    "tls_handshake": "the TLS handshake with the endpoint failed",
    "tls_timeout": "the endpoint took the connection, and the TLS handshake did not end in time",
    "body_not_taken": "the backend took nothing of the request's body for 60 s",
    "answer_timeout": "the backend did not answer within timeouts.response of the request's end",
    "handshake_timeout": "the backend did not answer the upgrade within timeouts.handshake of its being sent",
    "closed_before_answer": "the backend closed the connection before it answered",
    "reset_before_answer": "the backend reset the connection before it answered",
    "truncated_head": "the backend's connection ended within the head of its answer",
    "malformed_head": "the head of the backend's answer is no head of HTTP/1.0 or HTTP/1.1",
    "head_too_large": "the head of the backend's answer is above 64 KiB or 128 fields",
    "malformed_framing": "the length of the backend's answer is not given in exactly one valid way",
    "too_many_interim": "the backend sent more than 16 answers of 1xx",
    "interim_body": "an answer of 1xx of the backend has a body",
    "unexpected_switch": "the backend switched protocols, which the request did not ask for",
    "switch_other_protocol": "the backend's 101 is not for websocket alone",
    "switch_no_connection": "the backend's 101 has no Connection: upgrade",
    "switch_invalid_accept": "the Sec-WebSocket-Accept of the backend's 101 does not answer the key",
    "switch_unoffered_subprotocol": "the backend's 101 chose a subprotocol that was not offered",
    "switch_unoffered_extension": "the backend's 101 chose an extension that was not offered",
    "unsupported_coding": "the backend's answer has a transfer coding that a client of HTTP/1.0 cannot be given",
    "bad_chunk": "the chunked coding of the backend's answer is broken",
    "truncated": "the backend's connection ended before its answer did",
    "idle_timeout": "the backend's answer stood still for longer than timeouts.idle",
}
"""What a backend, or the way to it, did: counted by Service in `sluice_upstream_errors_total`."""

FILTERS: Final[Mapping[str, str]] = {
    "filter_failed": "a filter of the route failed, on the request or on the backend's answer",
    "filter_timeout": "a filter of the route took longer over the backend's answer than timeouts.response",
}
"""What the proxy itself did to a request or to a backend's answer."""

CLIENT: Final[Mapping[str, str]] = {
    "client_gone": "the client ended the connection before it had the whole answer",
    "client_stalled": "the client took nothing of the answer for 60 s",
    "body_too_slow": "the request's body came slower than --min-body-rate",
    "request_body_malformed": "the chunked coding of the request's body is broken",
    "body_grew_too_large": "the request's chunked body came to more than proxy-body-size",
}
"""What a client did while its request was with a backend."""

SOCKETS: Final[Mapping[str, str]] = {
    "mask_missing": "a frame of the client is not masked",
    "mask_forbidden": "a frame of the backend is masked",
    "reserved_bits": "reserved bits are set, and no extension was negotiated",
    "reserved_opcode": "the opcode is reserved, and no extension was negotiated",
    "control_fragmented": "a control frame is fragmented",
    "control_too_long": "a control frame has more than 125 bytes",
    "continuation_of_nothing": "a continuation comes without a message",
    "message_interrupted": "a new message begins within another",
    "length_too_large": "the length has more than 63 bits",
    "length_not_minimal": "the length is in more bytes than it needs",
    "close_truncated": "a close frame has one byte, which is half a code",
    "close_code": "a close frame has a code that none may carry: below 1000, 1005, 1006 or 1015",
    "message_too_large": "a message is larger than limits.messageBytes",
    "too_many_messages": "messages come faster than limits.messages",
}
"""What a side of a WebSocket sent that the proxy closed it for; beside it the access log names the side."""

REFUSALS: Final[Mapping[str, str]] = {
    "request_malformed": "the request's head is malformed",
    "request_line_malformed": "the request line is not a method, a target and a version",
    "method_malformed": "the method has a character that it may not have",
    "method_unknown": "the method is longer than any that is known",
    "method_not_allowed": "CONNECT or TRACE",
    "target_malformed": "the target has a character that it may not have, or is of a form that is not served",
    "target_too_long": "the request line is above 16 KiB",
    "version_unsupported": "the version of HTTP is neither 1.0 nor 1.1",
    "fields_too_large": "the head is above 64 KiB or 128 fields",
    "host_malformed": "there is not exactly one valid Host field",
    "host_mismatch": "the target names another host than the Host field",
    "length_malformed": "the length is not given in exactly one valid way",
    "expectation_unsupported": "an Expect other than 100-continue",
    "request_timeout": "the head did not arrive within --header-timeout",
    "plain_http_on_tls": "plain HTTP came to the TLS port",
    "handshake_malformed": "the WebSocket handshake is not one of RFC 6455",
    "websocket_version": "the WebSocket version asked for is not 13",
    "upgrade_required": "only WebSockets are served here, and the request asks for none",
    "path_ambiguous": "the path can be read in more than one way",
    "no_route": "no route serves the host and path",
    "no_pod": "the path or host names no pod behind the route",
    "misdirected": "the TLS connection was made for another host",
    "https_redirect": "the host is served over https",
    "redirect": "the route redirects to another address",
    "address_refused": "the client's address is not among those that the route serves",
    "body_too_large": "the request's Content-Length is more than proxy-body-size",
    "origin_refused": "the upgrade came from a page of an origin that is not listed",
    "rate_exceeded": "the client comes faster than limits let it",
    "route_full": "the route has as many open WebSockets as it may have",
    "client_full": "the client has as many open WebSockets on the route as it may have",
    "pod_full": "the proxy has as many open WebSockets as --max-connections lets it",
    "pod_client_full": "the client has as many open WebSockets as --max-connections-per-client lets it have",
    "expressions_failed": "there was no memory to match the path with the regular expressions of its host",
    "route_fault": "the route has a fault in its configuration",
    "backend_unresolved": "the route's backend cannot be resolved",
}
"""Why the proxy answered by itself, before any backend was asked."""
