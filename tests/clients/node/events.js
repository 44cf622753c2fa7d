// Makes a message of each event of tests/data/foreign-events.json with the CloudEvents SDK: structured, structured without
// headers, and binary. Prints one JSON object a line: headers, and the body in base64.
const { readFileSync } = require("node:fs");
const { CloudEvent, HTTP } = require("cloudevents");

function data(kind) {
  if ("base64" in kind) return new Uint8Array(Buffer.from(kind.base64, "base64"));
  return "json" in kind ? kind.json : kind.text;
}

function event(mode, kind) {
  return new CloudEvent({
    id: `node-${mode}-${kind.kind}`,
    source: "/shop/foreign",
    type: "com.shop.order.created",
    subject: "Straße 1, 100 %",
    time: "2026-11-24T03:00:00.000Z",
    dataschema: "https://example.com/schema",
    datacontenttype: kind.datacontenttype,
    region: "eu",
    count: 5,
    urgent: true,
    link: "https://example.com/a?b=c",
    blob: "AAEC",
    data: data(kind),
  });
}

function print({ headers, body }) {
  const bytes = typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body);
  const base64 = Buffer.from(bytes ?? "").toString("base64");
  console.log(JSON.stringify({ headers: headers ?? {}, body: base64 }));
}

for (const kind of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  print(HTTP.structured(event("structured", kind)));
  print({ body: HTTP.structured(event("bare", kind)).body });
  print(HTTP.binary(event("binary", kind)));
}
