"""What a transform answers with, and the event that it gets. Plain Python: works on your machine as in a module."""

import json as _json
import time as _time
from dataclasses import dataclass, field
from dataclasses import replace as _changed
from typing import Any, Callable, Optional, Union


class Rejected(Exception):
    """Raise it for an event that can never work: it becomes a dead letter. The text must not quote the event."""


class Retry(Exception):
    """Raise it for what may work later: the event is tried again."""


@dataclass(frozen=True)
class Event:
    """A CloudEvent. `dataclasses.replace(event, …)` makes a changed one."""

    id: str
    source: str
    type: str
    subject: Optional[str] = None
    time: Optional[str] = None
    datacontenttype: Optional[str] = None
    dataschema: Optional[str] = None
    extensions: dict[str, Union[str, int, bool]] = field(default_factory=dict)
    data: Optional[bytes] = None

    def json(self) -> Any:
        """The data as JSON. Raises Rejected where there is none; the text never quotes the data."""
        if self.data is None:
            raise Rejected("the event has no data")
        kind = (self.datacontenttype or "application/json").split(";")[0].strip().lower()
        subtype = kind.partition("/")[2]
        if subtype != "json" and not subtype.endswith("+json"):
            raise Rejected(f"the data is {self.datacontenttype}, not JSON")
        try:
            # Decoded first: json.loads guesses UTF-16 for some bytes.
            return _json.loads(self.data.decode("utf-8"))
        except ValueError:
            raise Rejected("the data is not valid JSON") from None

    def with_json(self, value: Any) -> "Event":
        """The event with this value as its data."""
        data = _json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        return _changed(self, data=data, datacontenttype=self.datacontenttype or "application/json")


@dataclass(frozen=True)
class Keep:
    """The event goes on as it came, byte for byte. Answer this when nothing changed: it is the cheapest."""


@dataclass(frozen=True)
class Drop:
    """The event ends here, on purpose; `why` must not quote it."""

    why: str


@dataclass(frozen=True)
class Replace:
    """The event goes on like this, its delivery with these HTTP headers."""

    event: Event
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """Each goes on for itself; an empty list filters the event."""

    outputs: list[Replace]


class log:
    """Lines in the engine's log; they must not quote the event."""

    lines: list[tuple[str, str]] = []
    sink: Callable[[str, str], None] = lambda level, text: log.lines.append((level, text))

    @staticmethod
    def debug(text: str) -> None:
        log.sink("debug", text)

    @staticmethod
    def info(text: str) -> None:
        log.sink("info", text)

    @staticmethod
    def warn(text: str) -> None:
        log.sink("warn", text)

    @staticmethod
    def error(text: str) -> None:
        log.sink("error", text)


class clock:
    """Milliseconds since 1970. In a module `time.time()` ends the instance."""

    source: Callable[[], int] = lambda: int(_time.time() * 1000)

    @staticmethod
    def now() -> int:
        return clock.source()
