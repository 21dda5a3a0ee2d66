// An OPC UA server made with node-opcua: without security and with it, one user, small limits.
//
//   node opcua_server.js PORT FOLDER NODESET LOG
//
// FOLDER keeps its certificates. NODESET has the types of its recipes. LOG gets the line "ready", then a line for each request: its name
// and how many nodes it names. A line "trust client FILE" or "trust user FILE" on its standard input
// makes it trust a certificate (DER). It ends when its standard input is closed.
"use strict";

const fs = require("fs");
const path = require("path");
const readline = require("readline");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const { nodesets } = require("node-opcua-nodesets");
const { SecurityPolicy } = require("node-opcua-secure-channel");
const { MessageSecurityMode } = require("node-opcua-service-secure-channel");
const { OPCUAServer } = require("node-opcua-server");
const { StatusCodes } = require("node-opcua-status-code");
const { DataType, Variant, VariantArrayType } = require("node-opcua-variant");

const [port, folder, nodeset, log] = process.argv.slice(2);
const NAMESPACE = "urn:test:other-make";
const NODES_PER_READ = 7;
const NODES_PER_BROWSE = 3;
const ITEMS_PER_CALL = 5;

function note(line) {
  fs.appendFileSync(log, line + "\n");
}

// Name, type, value, and which of the standard types it says it is, where that is another one.
const SCALARS = [
  ["Boolean", DataType.Boolean, true],
  ["SByte", DataType.SByte, -100],
  ["Byte", DataType.Byte, 200],
  ["Int16", DataType.Int16, -30000],
  ["UInt16", DataType.UInt16, 60000],
  ["Int32", DataType.Int32, -2000000000],
  ["UInt32", DataType.UInt32, 4000000000],
  ["Int64", DataType.Int64, [0xffffffff, 0xfffffffe]], // -2: the upper and the lower half
  ["UInt64", DataType.UInt64, [0x80000000, 1]],
  ["Float", DataType.Float, 64.09],
  ["Double", DataType.Double, 0.1],
  ["String", DataType.String, "PUMP 7 \u00b0C"],
  ["DateTime", DataType.DateTime, new Date("2026-01-02T03:04:05.678Z")],
  ["Guid", DataType.Guid, "72962B91-FA75-4AE6-8D28-B404DC7DAF63"],
  ["ByteString", DataType.ByteString, Buffer.from("00ff10", "hex")],
  ["LocalizedText", DataType.LocalizedText, { text: "Zelle", locale: "de" }],
  ["State", DataType.Int32, 2, "ServerState"],
  ["Duration", DataType.Double, 1500.5, "Duration"],
  ["Anything", DataType.UInt16, 11, "BaseDataType"],
  ["AnyNumber", DataType.Float, 2.5, "Number"],
];
const ARRAYS = [
  ["Booleans", DataType.Boolean, [true, false, true]],
  ["UInt16s", DataType.UInt16, new Uint16Array([1, 2, 65535])],
  ["Floats", DataType.Float, new Float32Array([0.1, -2.5])],
  ["Doubles", DataType.Double, new Float64Array([0.1, 1e300])],
  ["Strings", DataType.String, ["one", "", "three"]],
  ["Long", DataType.Double, new Float64Array(20000).map((_, at) => at + 0.5)],
  ["NoInt32s", DataType.Int32, new Int32Array([])],
];
const QUALITIES = [
  ["Uncertain", StatusCodes.UncertainLastUsableValue],
  ["SensorFailure", StatusCodes.BadSensorFailure],
  ["Waiting", StatusCodes.BadWaitingForInitialData],
  ["LocalOverride", StatusCodes.GoodLocalOverride],
];

function addVariables(space, namespace, cell) {
  const add = (name, fields) =>
    namespace.addVariable({
      componentOf: cell,
      browseName: name,
      nodeId: `s=${name}`,
      accessLevel: "CurrentRead | CurrentWrite",
      userAccessLevel: "CurrentRead | CurrentWrite",
      ...fields,
    });
  for (const [name, dataType, value, declared] of SCALARS)
    add(name, {
      dataType: declared || dataType,
      value: new Variant({ dataType, arrayType: VariantArrayType.Scalar, value }),
    });
  for (const [name, dataType, value] of ARRAYS) {
    const variant = new Variant({ dataType, arrayType: VariantArrayType.Array, value });
    add(name, { dataType, valueRank: 1, value: variant });
  }
  add("Matrix", {
    dataType: DataType.Double,
    valueRank: 2,
    arrayDimensions: [2, 3],
    value: new Variant({
      dataType: DataType.Double,
      arrayType: VariantArrayType.Matrix,
      dimensions: [2, 3],
      value: new Float64Array([1, 2, 3, 4, 5, 6]),
    }),
  });
  for (const [name, status] of QUALITIES)
    add(name, { dataType: DataType.Double }).setValueFromSource(
      { dataType: DataType.Double, value: 7.5 },
      status,
    );
  for (let number = 0; number < 40; number++)
    add(`N${number}`, {
      dataType: DataType.Int32,
      value: new Variant({ dataType: DataType.Int32, value: number }),
    });
  add("ReadOnly", {
    dataType: DataType.Int32,
    accessLevel: "CurrentRead",
    userAccessLevel: "CurrentRead",
    value: new Variant({ dataType: DataType.Int32, value: 5 }),
  });
  addTheStubborn(add);
  addRecipes(space, add);
}

// One refuses what is too large for it, one takes everything and keeps what it has.
function addTheStubborn(add) {
  let limited = 10;
  const int16 = (value) => new Variant({ dataType: DataType.Int16, value });
  add("Limited", {
    dataType: DataType.Int16,
    minimumSamplingInterval: 100,
    value: {
      get: () => int16(limited),
      set: (variant) => {
        if (variant.value > 100) return StatusCodes.BadOutOfRange;
        limited = variant.value;
        return StatusCodes.Good;
      },
    },
  });
  add("Stuck", {
    dataType: DataType.Int16,
    minimumSamplingInterval: 100,
    value: { get: () => int16(120), set: () => StatusCodes.Good },
  });
}

function addRecipes(space, add) {
  const type = space.findDataType("Recipe", space.getNamespaceIndex("urn:test:recipe"));
  const recipe = (title) =>
    space.constructExtensionObject(type, {
      title,
      temperature: 64.09,
      steps: [3, 1, 2],
      mode: 1,
      limits: { low: 0.1, high: 90 },
    });
  const dataType = DataType.ExtensionObject;
  add("Recipe", { dataType: type, value: new Variant({ dataType, value: recipe("cola") }) });
  add("Recipes", {
    dataType: type,
    valueRank: 1,
    value: new Variant({
      dataType,
      arrayType: VariantArrayType.Array,
      value: [recipe("cola"), recipe("lemon")],
    }),
  });
}

function addMethods(namespace, cell) {
  const argument = (name, dataType, valueRank = -1) => ({ name, dataType, valueRank });
  const add = (name, inputArguments, outputArguments, carryOut) =>
    namespace
      .addMethod(cell, { browseName: name, nodeId: `s=${name}`, inputArguments, outputArguments })
      .bindMethod(async (inputs, _context) => {
        note(`${name} ${JSON.stringify(inputs.map((input) => input.value))}`);
        return carryOut(...inputs.map((input) => input.value));
      });
  const returns = (dataType, value) => ({
    statusCode: StatusCodes.Good,
    outputArguments: [new Variant({ dataType, value })],
  });
  add(
    "Scale",
    [argument("value", DataType.Int16), argument("factor", DataType.Float)],
    [argument("result", DataType.Double)],
    (value, factor) => returns(DataType.Double, value * factor),
  );
  add(
    "Sum",
    [argument("values", DataType.Double, 1)],
    [argument("result", DataType.Double)],
    (values) => returns(DataType.Double, values.reduce((sum, value) => sum + value, 0)),
  );
  namespace
    .addMethod(cell, {
      browseName: "Echo",
      nodeId: "s=Echo",
      inputArguments: [argument("anything", "BaseDataType", -2)],
      outputArguments: [argument("same", "BaseDataType", -2)],
    })
    .bindMethod(async (inputs, _context) => ({
      statusCode: StatusCodes.Good,
      outputArguments: inputs,
    }));
  add("Refuse", [], [], () => ({ statusCode: StatusCodes.BadInvalidState }));
  add("Nothing", [], [], () => ({ statusCode: StatusCodes.Good, outputArguments: [] }));
}

function trustAsTold(managers) {
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    const [, whose, file] = line.split(" ");
    await managers[whose].trustCertificate(fs.readFileSync(file));
    note(`trusted ${file}`);
  });
  lines.on("close", () => process.exit(0));
}

async function main() {
  const manager = new OPCUACertificateManager({
    rootFolder: path.join(folder, "server"),
    automaticallyAcceptUnknownCertificate: false,
  });
  const users = new OPCUACertificateManager({
    rootFolder: path.join(folder, "users"),
    automaticallyAcceptUnknownCertificate: false,
  });
  await manager.initialize();
  await users.initialize();
  const server = new OPCUAServer({
    port: Number(port),
    host: "127.0.0.1",
    hostname: "127.0.0.1",
    serverInfo: { applicationUri: "urn:test:node-opcua", productUri: "urn:test" },
    securityPolicies: [
      SecurityPolicy.None,
      SecurityPolicy.Basic256Sha256,
      SecurityPolicy.Aes128_Sha256_RsaOaep,
      SecurityPolicy.Aes256_Sha256_RsaPss,
    ],
    securityModes: [
      MessageSecurityMode.None,
      MessageSecurityMode.Sign,
      MessageSecurityMode.SignAndEncrypt,
    ],
    allowAnonymous: true,
    userManager: {
      isValidUser: (name, password) => name === "operator" && password === "s3cret-w0rd",
    },
    serverCertificateManager: manager,
    userCertificateManager: users,
    serverCapabilities: {
      operationLimits: {
        maxNodesPerRead: NODES_PER_READ,
        maxNodesPerBrowse: NODES_PER_BROWSE,
        maxMonitoredItemsPerCall: ITEMS_PER_CALL,
      },
    },
    nodeset_filename: [nodesets.standard, nodeset],
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  const namespace = space.registerNamespace(NAMESPACE);
  const cell = namespace.addObject({
    organizedBy: space.rootFolder.objects,
    browseName: "Cell",
    nodeId: "s=Cell",
  });
  addVariables(space, namespace, cell);
  addMethods(namespace, cell);
  server.on("request", (request) => {
    const named = request.nodesToRead || request.nodesToBrowse || request.nodesToWrite || [];
    note(`${request.constructor.name} ${named.length}`);
  });
  await server.start();
  trustAsTold({ client: manager, user: users });
  note("ready");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
