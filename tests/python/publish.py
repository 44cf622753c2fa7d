"""Publishes orders with nats-py and the CloudEvents SDK: half of them structured, half binary, each with an ack.

The SDK has no NATS binding of its own. Its HTTP binding makes the same headers and bodies (`ce-` names, the same
percent-encoding, `application/cloudevents+json`), so what it says is sent as it is.

Prints one JSON object: how many were acknowledged, and the last sequence.
"""

import argparse
import asyncio
import json
import sys

import nats
from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent

IN_FLIGHT_MAX = 200


def order(mode: str, number: int) -> CloudEvent:
    attributes = {
        "id": f"{mode}-{number}",
        "source": "/shop/python",
        "type": "com.shop.order.created",
        "subject": f"Straße {number}, 100 %",
        "datacontenttype": "application/json",
        "region": "eu",
    }
    return CloudEvent(attributes, {"order": f"{mode}-{number}", "total": 63.7, "note": "Grüße aus Köln"})


def messages(count: int):
    for number in range(count):
        yield http.to_structured_event(order("structured", number))
        yield http.to_binary_event(order("binary", number))


async def publish(url: str, subject: str, count: int) -> dict:
    client = await nats.connect(url)
    jetstream = client.jetstream(publish_async_max_pending=IN_FLIGHT_MAX)
    pending = []
    for message in messages(count):
        sent = await jetstream.publish_async(subject, message.body, headers=message.headers, wait_stall=30)
        pending.append(sent)
    acks = await asyncio.gather(*pending)
    await client.close()
    return {"acknowledged": len(acks), "last": max(ack.seq for ack in acks)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nats", required=True, help="URL of the server")
    parser.add_argument("--subject", required=True)
    parser.add_argument("--count", type=int, required=True, help="of each mode")
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(publish(arguments.nats, arguments.subject, arguments.count))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
