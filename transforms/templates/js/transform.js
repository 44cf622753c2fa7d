// The transform: stamps orders with a region and drops test orders. Change it to what you need.

import { drop, json, log, replace } from "./hookmill.js";

/**
 * Runs once for each instance, with what the pipeline file says under `settings`. What it throws is shown by
 * `hookmill check`. Returns the function that gets the events.
 */
export function configure(settings) {
  if (settings.region === "") {
    throw new Error('region is empty; give it a name such as "eu"');
  }

  return function apply(event) {
    const order = json(event);
    if (order.test === true) {
      return drop("a test order");
    }
    log.debug(`stamped with ${settings.region}`);
    return replace({ ...event, extensions: { ...event.extensions, region: settings.region } });
  };
}
