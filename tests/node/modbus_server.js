// A Modbus device made with jsmodbus: TCP, or RTU over TCP.
//
//   node modbus_server.js tcp|rtu PORT MEMORY LOG
//
// MEMORY is a JSON file: see Memory in tests/other_makes.py; this server refuses no address of its
// own accord. LOG gets the line "ready", then each request in hexadecimal digits, before it is
// answered. It ends when its standard input is closed.
"use strict";

const fs = require("fs");
const net = require("net");
const { server } = require("jsmodbus");

const [framing, port, memoryFile, log] = process.argv.slice(2);
const memory = JSON.parse(fs.readFileSync(memoryFile, "utf8"));

function registers(values) {
  const held = Buffer.alloc(values.length * 2);
  values.forEach((value, at) => held.writeUInt16BE(value, at * 2));
  return held;
}

function bits(values) {
  const held = Buffer.alloc(Math.ceil(values.length / 8));
  values.forEach((value, at) => {
    held[at >> 3] |= (value ? 1 : 0) << (at & 7);
  });
  return held;
}

const held = {
  coils: bits(memory.coil),
  discrete: bits(memory.discrete),
  holding: registers(memory.holding),
  input: registers(memory.input),
};

console.log = () => {}; // the library prints what is written to it

const listener = net.createServer((socket) => {
  socket.on("error", () => socket.destroy());
  // This listener comes before the library's own: a request is in the log before it is answered.
  socket.on("data", (data) => fs.appendFileSync(log, data.toString("hex") + "\n"));
  if (framing === "rtu") new server.RTU(socket, held);
});
if (framing === "tcp") new server.TCP(listener, held);

listener.listen(Number(port), "127.0.0.1", () => fs.appendFileSync(log, "ready\n"));
process.stdin.on("end", () => process.exit(0)).resume();
