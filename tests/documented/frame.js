// What the blocks of docs/your-publisher.md for JavaScript need around them.
const { CloudEvent, HTTP } = require("cloudevents");
const { jetstream } = require("@nats-io/jetstream");
const { connect, headers } = require("@nats-io/transport-node");

async function main(url) {
  const connection = await connect({ servers: url });
  // The blocks.
  await connection.close();
}

main(process.argv[2]);
