// Makes a WebAssembly component of component.js and what it imports.
//
// All features are off: a transform has no clock, network, files or randomness of its own, and a module that asks for
// wasi:http is refused by Hookmill.

import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { componentize } from "@bytecodealliance/componentize-js";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));

const { component } = await componentize({
  sourcePath: path("component.js"),
  witPath: path("wit"),
  worldName: "transform",
  disableFeatures: ["random", "stdio", "clocks", "http", "fetch-event"],
});
await writeFile(path("{{name}}.component.wasm"), component);
