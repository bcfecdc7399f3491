#!/bin/sh
# Of a context that Python's sni_callback puts in place of the listening one, ALPN counts at once, but num_tickets never does.
#
# Expected: the callback sets SSLSocket.context to the context of the name that was asked for (documentation of ssl.SSLContext.sni_callback), and the
#   connection goes by what its context then reads back.
# Happens: ALPN is looked up in the new context, but how many session tickets follow a TLS 1.3 handshake was copied from the listening
#   context when the connection was made. The connection's context reads back as the new one, num_tickets included.
# Matters: what was turned off for one name goes on for it, and reading the setting back confirms what does not hold. What OpenSSL copies into a
#   connection has to be set on the listening context, or the ClientHello read and the context chosen before the connection is made.
# Needs: Python 3.11 or newer.
set -eu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check trustme==1.2.1 cryptography==50.0.2

"$work/venv/bin/python" -c 'import ssl, sys; print("Python", sys.version.split()[0] + ",", ssl.OPENSSL_VERSION)'
cat >"$work/try.py" <<'PYTHON'
import contextlib
import ssl

import trustme

authority = trustme.CA()
certificate = authority.issue_cert("localhost")


def server_context(protocol: str, tickets: int) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    context.set_alpn_protocols([protocol])
    context.num_tickets = tickets
    return context


def try_swap(listening: int, swapped: int) -> None:
    outer, inner = server_context("listening", listening), server_context("swapped", swapped)
    outer.sni_callback = lambda connection, name, context: setattr(connection, "context", inner)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    client_context.set_alpn_protocols(["listening", "swapped"])
    to_client, from_client, to_server, from_server = (ssl.MemoryBIO() for _ in range(4))
    client = client_context.wrap_bio(to_client, from_client, server_hostname="localhost")
    server = outer.wrap_bio(to_server, from_server, server_side=True)
    for _ in range(4):
        for end in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
            to_server.write(from_client.read())
            to_client.write(from_server.read())
    with contextlib.suppress(ssl.SSLWantReadError):
        client.read()  # tickets come behind the handshake
    print(
        f"num_tickets {listening} listening, {swapped} swapped in: ALPN of the {client.selected_alpn_protocol()} one,",
        f"server.context.num_tickets {server.context.num_tickets}, the client got a ticket: {client.session.has_ticket}",
    )


try_swap(listening=0, swapped=2)
try_swap(listening=2, swapped=0)
PYTHON
"$work/venv/bin/python" "$work/try.py" >"$work/found"
cat "$work/found"
cat >"$work/expected" <<'TEXT'
num_tickets 0 listening, 2 swapped in: ALPN of the swapped one, server.context.num_tickets 2, the client got a ticket: False
num_tickets 2 listening, 0 swapped in: ALPN of the swapped one, server.context.num_tickets 0, the client got a ticket: True
TEXT
diff "$work/expected" "$work/found" || { echo "The behaviour has changed."; exit 1; }
