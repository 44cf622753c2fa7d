// The contract's side of the transform. Nothing here needs to change.
//
// Whatever apply throws that is no Failure is answered as `retry` with its text: in a module without WASI an exception
// that leaves it would end the instance without any message.

import { now } from "hookmill:transform/clock@0.1.0";
import { log } from "hookmill:transform/log@0.1.0";
import { Failure, connect } from "./hookmill.js";
import { configure } from "./transform.js";

connect({ log, now: () => Number(now()) });

let transform;

export const handler = {
  configure(settings) {
    try {
      transform = configure(JSON.parse(settings));
    } catch (error) {
      throw textOf(error);
    }
    if (typeof transform !== "function") {
      throw "configure returned no function";
    }
  },

  apply(event) {
    let answer;
    try {
      answer = transform(inward(event));
      if (typeof answer?.then === "function") {
        return answer.then(outward).catch(failed);
      }
      return outward(answer);
    } catch (error) {
      return failed(error);
    }
  },
};

function failed(error) {
  throw error instanceof Failure
    ? { tag: error.tag, val: error.message }
    : { tag: "retry", val: textOf(error) };
}

function textOf(error) {
  if (!(error instanceof Error)) {
    return String(error);
  }
  const place = /([\w.-]+\.js:\d+)/.exec(error.stack ?? "")?.[1];
  return `${error.name}: ${error.message}${place === undefined ? "" : ` (${place})`}`;
}

function inward(event) {
  const extensions = {};
  for (const { name, value } of event.extensions) {
    extensions[name] = value.val;
  }
  return { ...event, extensions };
}

function outward(answer) {
  switch (answer?.tag) {
    case "keep":
      return answer;
    case "drop":
      return { tag: "drop", val: String(answer.val) };
    case "replace":
      return { tag: "replace", val: output(answer.val) };
    case "split":
      return { tag: "split", val: answer.val.map(output) };
    default:
      throw new TypeError("apply returned none of keep(), replace(…), split(…), drop(…)");
  }
}

function output({ event, headers }) {
  // A plain array would be taken too, a thousand times slower; a string would not. What the engine hands in is a
  // Uint8Array of another realm, which instanceof doesn't know.
  if (event.data !== undefined && Object.prototype.toString.call(event.data) !== "[object Uint8Array]") {
    throw new TypeError("event.data is no Uint8Array; withJson(event, value) makes one");
  }
  const extensions = Object.entries(event.extensions ?? {}).map(([name, value]) => ({ name, value: attribute(name, value) }));
  const pairs = Object.entries(headers).map(([name, value]) => ({ name: name.toLowerCase(), value: String(value) }));
  return { event: { ...event, extensions }, headers: pairs };
}

function attribute(name, value) {
  switch (typeof value) {
    case "string":
      return { tag: "text", val: value };
    case "boolean":
      return { tag: "boolean", val: value };
    case "number":
      // Anything else would be cut to 32 bits without a word.
      if (Number.isInteger(value) && value >= -(2 ** 31) && value < 2 ** 31) {
        return { tag: "integer", val: value };
      }
  }
  throw new TypeError(`extension ${name} is neither text, boolean nor an integer of 32 bits`);
}
