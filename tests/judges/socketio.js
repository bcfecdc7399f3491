// Socket.IO's own server and client. Usage: node socketio.js serve | node socketio.js talk URL COUNT
// serve prints its port. talk opens COUNT clients that begin with polling and keep no cookies, waits until each has upgraded and has
// its echo, and prints one line of JSON: how many did, who served them, and every error that was seen.
const { createServer } = require("http");

if (process.argv[2] === "serve") {
  const { Server } = require("socket.io");
  const web = createServer();
  const server = new Server(web, { serveClient: false });
  server.on("connection", (socket) => {
    socket.on("echo", (text, answer) => answer(`${web.address().port} ${text}`));
  });
  web.listen(0, "127.0.0.1", () => console.log(web.address().port));
  process.stdin.on("end", () => process.exit(0)).resume();
} else {
  const { io } = require("socket.io-client");
  const count = Number(process.argv[4]);
  const result = { echoed: 0, upgraded: 0, polled: 0, servers: {}, errors: {} };
  const note = (text) => { result.errors[text] = (result.errors[text] || 0) + 1; };
  const talk = (number) => new Promise((done) => {
    const socket = io(process.argv[3], {
      forceNew: true, reconnection: false, timeout: 20000,
    });
    let echoed = false;
    let upgraded = false;
    const step = () => { if (echoed && upgraded) { socket.disconnect(); done(); } };
    socket.on("connect_error", (error) => { note(`${error.context?.responseText || error.message}`); done(); });
    socket.on("disconnect", (reason) => { if (reason !== "io client disconnect") { note(reason); done(); } });
    socket.io.on("open", () => {
      const engine = socket.io.engine;
      if (engine.transport.name === "polling") result.polled++;
      engine.on("upgrade", () => { upgraded = true; result.upgraded++; step(); });
      engine.on("upgradeError", (error) => { note(`upgrade: ${error.message}`); done(); });
    });
    socket.on("connect", () => {
      socket.emit("echo", String(number), (answer) => {
        const [server, text] = answer.split(" ");
        if (text === String(number)) result.echoed++;
        result.servers[server] = (result.servers[server] || 0) + 1;
        echoed = true;
        step();
      });
    });
  });
  Promise.all(Array.from({ length: count }, (_, number) => talk(number))).then(() => {
    console.log(JSON.stringify(result));
    process.exit(0);
  });
}
