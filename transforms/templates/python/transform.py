"""The transform: stamps orders with a region and drops test orders. Change it to what you need.

Import everything at the top of the file: in a module there are no files left to import from later.
"""

from dataclasses import replace as changed

from hookmill import Drop, Replace, log


class Transform:
    """Made once for each instance, with what the pipeline file says under `settings`.

    What it raises is shown by `hookmill check`.
    """

    def __init__(self, settings):
        self.region = settings["region"]
        if self.region == "":
            raise ValueError('region is empty; give it a name such as "eu"')

    def apply(self, event):
        """Runs once for each event."""
        order = event.json()
        if order.get("test") is True:
            return Drop("a test order")
        log.debug(f"stamped with {self.region}")
        return Replace(changed(event, extensions={**event.extensions, "region": self.region}))
