"""Publishes each event of tests/data/foreign-events.json with nats-py and the CloudEvents SDK: structured, structured
without headers, and binary, each with an ack. Prints how many were acknowledged, as one JSON object.
"""

import asyncio
import base64
import datetime
import json
import sys

import nats
from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent

MOMENT = datetime.datetime(2026, 11, 24, 3, 0, 0, 250_000, tzinfo=datetime.timezone.utc)


def data_of(mode: str, case: dict):
    if "base64" in case:
        return base64.b64decode(case["base64"])
    if "json" not in case:
        return case.get("text")
    # What is None is no data for the SDK, and in binary mode it writes objects alone as JSON.
    if case["json"] is None or (mode == "binary" and not isinstance(case["json"], dict)):
        return json.dumps(case["json"]).encode()
    return case["json"]


def event(mode: str, case: dict) -> CloudEvent:
    attributes = {
        "id": f"python-{mode}-{case['kind']}",
        "source": "/shop/foreign",
        "type": "com.shop.order.created",
        "subject": "Straße 1, 100 %",
        "time": MOMENT,
        "dataschema": "https://example.com/schema",
        "region": "eu",
        "count": 5,
        "urgent": True,
        "link": "https://example.com/a?b=c",
        "seen": MOMENT,
        # The SDK has no extensions of bytes.
        "blob": "AAEC",
    }
    if "datacontenttype" in case:
        attributes["datacontenttype"] = case["datacontenttype"]
    return CloudEvent(attributes, data_of(mode, case))


async def main(url: str, subject: str, path: str) -> None:
    client = await nats.connect(url)
    jetstream = client.jetstream()
    acknowledged = 0
    with open(path, encoding="utf-8") as file:
        cases = json.load(file)
    for case in cases:
        structured = http.to_structured_event(event("structured", case))
        bare = http.to_structured_event(event("bare", case))
        binary = http.to_binary_event(event("binary", case))
        for message, headers in ((structured, structured.headers), (bare, None), (binary, binary.headers)):
            await jetstream.publish(subject, message.body, headers=headers)
            acknowledged += 1
    await client.close()
    print(json.dumps({"acknowledged": acknowledged}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
