"""What the blocks of docs/your-publisher.md for Python need around them."""

import asyncio
import sys

import nats
from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent


async def main(url: str) -> None:
    client = await nats.connect(url)
    jetstream = client.jetstream()
    # The blocks.
    await client.close()


asyncio.run(main(sys.argv[1]))
