// The `ws` package against its own server, through the proxy.
// Usage: node ws_client.js serve | node ws_client.js talk URL OPTION | node ws_client.js listen URL PINGS
// serve prints its port. talk prints one line of JSON: what it got, and how the socket ended. listen prints `open`, is silent until it
// got so many pings, then sends a message, and prints one line of JSON when the echo is there.
const { WebSocket, WebSocketServer } = require("ws");

const OPTIONS = {
  plain: { perMessageDeflate: false },
  deflate: { perMessageDeflate: { threshold: 0 } },
  "no context": { perMessageDeflate: { threshold: 0, clientNoContextTakeover: true, serverNoContextTakeover: true } },
  "small windows": { perMessageDeflate: { threshold: 0, clientMaxWindowBits: 9, serverMaxWindowBits: 9 } },
  subprotocol: { protocols: ["superchat", "chat"] },
  masked: { generateMask: (mask) => mask.fill(7) },
};

if (process.argv[2] === "serve") {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: { threshold: 0 }, maxPayload: 1 << 28 });
  server.on("listening", () => console.log(server.address().port));
  server.on("connection", (socket) => {
    socket.on("error", () => {});
    socket.on("message", (data, binary) => {
      if (!binary && data.toString() === "close please") socket.close(4321, "as you wish");
      else if (!binary && data.toString() === "vanish please") socket.terminate();
      else socket.send(data, { binary });
    });
  });
  process.stdin.on("end", () => process.exit(0)).resume();
} else if (process.argv[2] === "listen") {
  const socket = new WebSocket(process.argv[3], { headers: { Host: "a.test" }, servername: "a.test", ca: process.env.CA });
  const wanted = Number(process.argv[4]);
  const result = { pings: 0, echo: "", code: 0 };
  socket.on("open", () => console.log("open"));
  socket.on("ping", () => { if (++result.pings === wanted) socket.send("still here"); });
  socket.on("message", (data) => { result.echo = data.toString(); socket.close(1000); });
  socket.on("error", () => {});
  socket.on("close", (code) => { result.code = code; console.log(JSON.stringify(result)); process.exit(0); });
} else {
  const { protocols, ...options } = OPTIONS[process.argv[4]] || {};
  const end = process.argv[5] || "";
  const socket = new WebSocket(process.argv[3], protocols || [], {
    ...options, headers: { Host: "a.test" }, servername: "a.test", ca: process.env.CA, maxPayload: 1 << 28,
  });
  const sent = ["", "hello", "ζώον", "x".repeat(125), "x".repeat(126), "y".repeat(70000), "z".repeat(1 << 21)];
  const result = { same: 0, pong: "", protocol: "", code: 0, reason: "", error: "" };
  let next = 0;
  const step = () => {
    if (next < sent.length) socket.send(sent[next]);
    else if (end) socket.send(end);
    else socket.ping("are you there");
  };
  socket.on("open", () => { result.protocol = socket.protocol; step(); });
  socket.on("message", (data, binary) => { if (!binary && data.toString() === sent[next]) result.same++; next++; step(); });
  socket.on("pong", (data) => { result.pong = data.toString(); socket.close(4001, "done"); });
  socket.on("unexpected-response", (_request, answer) => { result.error = String(answer.statusCode); console.log(JSON.stringify(result)); process.exit(0); });
  socket.on("error", (error) => { result.error = error.code || error.message; });
  socket.on("close", (code, reason) => { result.code = code; result.reason = reason.toString(); console.log(JSON.stringify(result)); process.exit(0); });
}
