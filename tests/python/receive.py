"""Receives webhooks: verifies each with the standardwebhooks library, reads it with the CloudEvents SDK, counts.

Prints one JSON object a line: first the port, then `reached` once so many different webhook-ids were verified, and at the
end (SIGTERM, or the deadline) the counts. Exit code 0 if `reached` was said, else 1.
"""

import argparse
import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloudevents.core.bindings import http
from standardwebhooks.webhooks import Webhook, WebhookVerificationError


class Counts:
    def __init__(self, expected: int):
        self.expected = expected
        self.lock = threading.Lock()
        self.requests = 0
        self.refused = 0
        self.malformed = 0
        self.webhook_ids = set()
        self.events = set()

    def reached(self) -> bool:
        return len(self.webhook_ids) >= self.expected

    def take(self, webhook_id: str, event_id: str) -> None:
        with self.lock:
            before = self.reached()
            self.webhook_ids.add(webhook_id)
            self.events.add(event_id)
            if self.reached() and not before:
                say({"reached": len(self.webhook_ids)})

    def summary(self) -> dict:
        with self.lock:
            return {
                "requests": self.requests,
                "refused": self.refused,
                "malformed": self.malformed,
                "distinct": len(self.webhook_ids),
                "events": len(self.events),
            }


def say(what: dict) -> None:
    print(json.dumps(what), flush=True)


def handler(webhook: Webhook, counts: Counts):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            with counts.lock:
                counts.requests += 1
            self.answer(self.judge(body))

        def judge(self, body: bytes) -> int:
            headers = dict(self.headers.items())
            try:
                webhook.verify(body, headers)
            except WebhookVerificationError:
                with counts.lock:
                    counts.refused += 1
                return 401
            try:
                event = http.from_http_event(http.HTTPMessage(headers=headers, body=body))
                # The order says which event it belongs to: nothing was mixed up on the way.
                assert event.get_data()["order"] == event.get_id()
                assert event.get_data()["note"] == "Grüße aus Köln"
                assert event.get_subject().startswith("Straße ") and event.get_extension("region") == "eu"
            except Exception as error:
                with counts.lock:
                    counts.malformed += 1
                say({"malformed": repr(error)})
                return 400
            counts.take(headers["webhook-id"], event.get_id())
            return 204

        def answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--expect", type=int, required=True, help="different webhook-ids")
    parser.add_argument("--deadline", type=float, required=True, help="seconds")
    arguments = parser.parse_args()
    counts = Counts(arguments.expect)
    server = Server(("127.0.0.1", 0), handler(Webhook(os.environ["WEBHOOK_SECRET"]), counts))
    # `shutdown` waits for the loop that this thread runs.
    stop = threading.Thread(target=server.shutdown, daemon=True)
    signal.signal(signal.SIGTERM, lambda *_: stop.start())
    timer = threading.Timer(arguments.deadline, server.shutdown)
    timer.daemon = True
    timer.start()
    say({"port": server.server_address[1]})
    server.serve_forever(poll_interval=0.05)
    say(counts.summary())
    return 0 if counts.reached() else 1


if __name__ == "__main__":
    sys.exit(main())
