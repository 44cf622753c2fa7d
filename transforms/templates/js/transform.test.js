import assert from "node:assert/strict";
import { test } from "node:test";
import { Failure, takeLog, withJson } from "./hookmill.js";
import { configure } from "./transform.js";

const order = (data) => withJson({ id: "1", source: "/shop", type: "com.shop.order.created", extensions: {} }, data);

test("orders are stamped", () => {
  const answer = configure({ region: "eu" })(order({ total: 9 }));
  assert.equal(answer.tag, "replace");
  assert.equal(answer.val.event.extensions.region, "eu");
  assert.deepEqual(takeLog(), [["debug", "stamped with eu"]]);
});

test("test orders are dropped", () => {
  assert.deepEqual(configure({ region: "eu" })(order({ test: true })), { tag: "drop", val: "a test order" });
});

test("what is no JSON is rejected without being quoted", () => {
  const event = { ...order({}), data: new TextEncoder().encode("secret") };
  assert.throws(
    () => configure({ region: "eu" })(event),
    (error) => error instanceof Failure && error.tag === "rejected" && error.message === "the data is not valid JSON",
  );
});

test("an empty region is refused", () => {
  assert.throws(() => configure({ region: "" }), /region is empty/);
});
