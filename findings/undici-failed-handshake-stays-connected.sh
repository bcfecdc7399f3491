#!/bin/sh
# undici's WebSocket reports a handshake as failed when the server chose no subprotocol, but leaves the connection open.
#
# Expected: a client that asked for subprotocols and got a 101 without one fails the connection (WHATWG WebSockets, "establish a WebSocket
#   connection"), and to fail it is to close it (RFC 6455, 7.1.7). ws, the other client of Node, does both.
# Happens: undici gives the events error and close (1006), readyState is CLOSED, and the TCP connection stays established, without a close
#   frame or FIN (watched for 50 s; here for 3).
# Matters: a client that tries again leaves one more open socket at the server with each try, all of which have a good handshake there. A server or
#   proxy notices only by pings that nobody answers, so limits per client and counts of open sockets fill up with dead ones.
# Needs: Node 20 or newer with npm.
set -eu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
cd "$work"
echo '{"private": true, "type": "module"}' >package.json
npm install --silent --no-audit --no-fund --save-exact undici@7.30.2 ws@8.23.0 >/dev/null

echo "Node $(node --version), $(npm ls --depth 0 --parseable --long 2>/dev/null | sed -n 's/.*node_modules[^:]*:\([^:]*\).*/\1/p' | tr '\n' ' ')"
cat >try.js <<'JAVASCRIPT'
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket as Undici } from "undici";
import Ws from "ws";

const MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const connections = new Set();
const server = createServer();
server.on("connection", (connection) => {
  connections.add(connection);
  connection.on("error", () => {});
  connection.on("end", () => connection.end());
  connection.on("close", () => connections.delete(connection));
});
server.on("upgrade", (request, connection) => {
  connection.on("data", () => {});
  const accept = createHash("sha1").update(request.headers["sec-websocket-key"] + MAGIC).digest("base64");
  const head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", `Sec-WebSocket-Accept: ${accept}`];
  connection.write(head.join("\r\n") + "\r\n\r\n");
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

for (const [name, WebSocket] of [["ws", Ws], ["undici", Undici]]) {
  const events = [];
  const socket = new WebSocket(`ws://127.0.0.1:${server.address().port}/`, ["chat"]);
  const closed = new Promise((resolve) => socket.addEventListener("close", resolve));
  socket.addEventListener("open", () => events.push("open"));
  socket.addEventListener("error", () => events.push("error"));
  socket.addEventListener("close", (event) => events.push(`close ${event.code}`));
  await Promise.race([closed, sleep(10_000, null, { ref: false })]);
  await sleep(3_000);
  const closedState = socket.readyState === WebSocket.CLOSED;
  console.log(`${name}: ${events.join(", ")}; readyState is CLOSED: ${closedState}; connections still open 3 s later: ${connections.size}`);
  for (const connection of connections) connection.destroy();
}
process.exit(0);
JAVASCRIPT
node try.js >found
cat found
cat >expected <<'TEXT'
ws: error, close 1006; readyState is CLOSED: true; connections still open 3 s later: 0
undici: error, close 1006; readyState is CLOSED: true; connections still open 3 s later: 1
TEXT
diff expected found || { echo "The behaviour has changed."; exit 1; }
