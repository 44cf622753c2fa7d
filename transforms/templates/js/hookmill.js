// What a transform answers with, and what it needs of an event. Plain JavaScript: works in Node.js as in a module.

/** The event goes on as it came, byte for byte. Answer this when nothing changed: it is by far the cheapest. */
export const keep = () => ({ tag: "keep" });

/** The event goes on like this, its delivery with these HTTP headers: `{ "x-shop": "eu" }`. */
export const replace = (event, headers = {}) => ({ tag: "replace", val: { event, headers } });

/** Each goes on for itself; an empty list filters the event. Outputs are events, or `{ event, headers }`. */
export const split = (outputs) => ({
  tag: "split",
  val: outputs.map((output) => ("event" in output ? { headers: {}, ...output } : { event: output, headers: {} })),
});

/** The event ends here, on purpose; `why` must not quote it. */
export const drop = (why) => ({ tag: "drop", val: why });

/** A failure to throw. `rejected`: the event can never work, it becomes a dead letter. `retry`: try again later. */
export class Failure extends Error {
  constructor(tag, text) {
    super(text);
    this.tag = tag;
  }
}
export const rejected = (text) => new Failure("rejected", text);
export const retry = (text) => new Failure("retry", text);

/** The data as JSON. Throws `rejected` where there is none; the text never quotes the data. */
export function json(event) {
  if (event.data === undefined) {
    throw rejected("the event has no data");
  }
  const type = (event.datacontenttype ?? "application/json").split(";")[0].trim().toLowerCase();
  if (!/^[^/]+\/(json|.+\+json)$/.test(type)) {
    throw rejected(`the data is ${event.datacontenttype}, not JSON`);
  }
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(event.data));
  } catch {
    throw rejected("the data is not valid JSON");
  }
}

/** The event with this value as its data. */
export const withJson = (event, value) => ({
  ...event,
  datacontenttype: event.datacontenttype ?? "application/json",
  data: new TextEncoder().encode(JSON.stringify(value)),
});

const lines = [];
const sinks = {
  log: (level, text) => lines.push([level, text]),
  now: () => Date.now(),
};

/** Lines in the engine's log; they must not quote the event. */
export const log = {
  debug: (text) => sinks.log("debug", String(text)),
  info: (text) => sinks.log("info", String(text)),
  warn: (text) => sinks.log("warn", String(text)),
  error: (text) => sinks.log("error", String(text)),
};

/** Milliseconds since 1970. In a module `Date.now()` is the time of the build. */
export const now = () => sinks.now();

/** For tests: the lines that were logged since the last call. */
export const takeLog = () => lines.splice(0);

/** For component.js: where lines go and the time comes from in a module. */
export const connect = (to) => Object.assign(sinks, to);
