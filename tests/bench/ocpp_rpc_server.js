// The peer of the JavaScript world: npm ocpp-rpc, validating calls and answers against the schemas, keeping nothing.
//
// NODE_PATH=.../node_modules node ocpp_rpc_server.js PORT
const { RPCServer } = require("ocpp-rpc");

const server = new RPCServer({ protocols: ["ocpp1.6"], strictMode: true });
server.on("client", (client) => {
  client.handle("BootNotification", () => ({ currentTime: new Date().toISOString(), interval: 300, status: "Accepted" }));
  client.handle("Heartbeat", () => ({ currentTime: new Date().toISOString() }));
  client.handle("MeterValues", () => ({}));
  client.handle("StatusNotification", () => ({}));
});
server.listen(+process.argv[2], "127.0.0.1");
