// Makes a message of each event of tests/data/foreign-events.json with the CloudEvents SDK: structured, structured without
// headers, and binary. Prints one JSON object a line: headers, and the body in base64.
const { readFileSync } = require("node:fs");
const { CloudEvent, HTTP } = require("cloudevents");

function data(mode, kind) {
  if ("base64" in kind) return new Uint8Array(Buffer.from(kind.base64, "base64"));
  if (!("json" in kind)) return kind.text;
  // In binary mode the SDK sends a string as it is.
  return mode === "binary" && typeof kind.json === "string" ? JSON.stringify(kind.json) : kind.json;
}

function event(mode, kind) {
  return new CloudEvent({
    id: `node-${mode}-${kind.kind}`,
    source: "/shop/foreign",
    type: "com.shop.order.created",
    subject: "Straße 1, 100 %",
    time: "2026-11-24T03:00:00.250Z",
    dataschema: "https://example.com/schema",
    datacontenttype: kind.datacontenttype,
    region: "eu",
    count: 5,
    urgent: true,
    link: "https://example.com/a?b=c",
    // Extensions that are a Date or bytes are not written as the specification has them.
    seen: "2026-11-24T03:00:00.250Z",
    blob: "AAEC",
    data: data(mode, kind),
  });
}

function print({ headers = {}, body }) {
  const bytes = body instanceof Uint8Array ? body : Buffer.from(String(body ?? ""));
  const texts = Object.entries(headers).map(([name, value]) => [name, String(value)]);
  console.log(JSON.stringify({ headers: texts, body: Buffer.from(bytes).toString("base64") }));
}

for (const kind of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  print(HTTP.structured(event("structured", kind)));
  print({ body: HTTP.structured(event("bare", kind)).body });
  print(HTTP.binary(event("binary", kind)));
}
