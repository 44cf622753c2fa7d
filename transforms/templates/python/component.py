"""The contract's side of the transform. Nothing here needs to change.

Whatever apply raises that is neither Rejected nor Retry is answered as *retry* with its text: in a module without WASI an
exception that leaves it would end the instance without any message.
"""

import json

import hookmill
from componentize_py_types import Err
from hookmill import Drop, Event, Keep, Rejected, Replace, Retry, Split
from transform import Transform
from wit_world import exports
from wit_world.imports import clock, log, types

INTEGER = range(-(2**31), 2**31)


def _log(level, text):
    log.log(log.Level[level.upper()], str(text))


hookmill.log.sink = _log
hookmill.clock.source = clock.now


# The one of this instance, once configure has made it.
transform = None


class Handler(exports.Handler):
    def configure(self, settings):
        global transform
        try:
            transform = Transform(json.loads(settings))
        except Exception as error:
            raise Err(_text(error)) from None

    def apply(self, event):
        try:
            return _outward(transform.apply(_inward(event)))
        except Rejected as error:
            raise Err(types.Failure_Rejected(str(error))) from None
        except Retry as error:
            raise Err(types.Failure_Retry(str(error))) from None
        except Exception as error:
            raise Err(types.Failure_Retry(_text(error))) from None


def _text(error):
    place, line = error.__traceback__, None
    while place is not None:
        line, place = f"{place.tb_frame.f_code.co_filename.rpartition('/')[2]}:{place.tb_lineno}", place.tb_next
    return f"{type(error).__name__}: {error} ({line})"


def _inward(event):
    return Event(
        id=event.id,
        source=event.source,
        type=event.type,
        subject=event.subject,
        time=event.time,
        datacontenttype=event.datacontenttype,
        dataschema=event.dataschema,
        extensions={extension.name: extension.value.value for extension in event.extensions},
        data=event.data,
    )


def _outward(answer):
    if isinstance(answer, Keep):
        return types.Verdict_Keep()
    if isinstance(answer, Drop):
        return types.Verdict_Drop(str(answer.why))
    if isinstance(answer, Replace):
        return types.Verdict_Replace(_output(answer))
    if isinstance(answer, Split):
        return types.Verdict_Split([_output(output) for output in answer.outputs])
    raise TypeError("apply returned none of Keep(), Replace(…), Split(…), Drop(…)")


def _output(output):
    event = output.event
    if event.data is not None and type(event.data) is not bytes:
        raise TypeError(f"event.data is a {type(event.data).__name__}, not bytes")
    whole = types.Event(
        id=event.id,
        source=event.source,
        type=event.type,
        subject=event.subject,
        time=event.time,
        datacontenttype=event.datacontenttype,
        dataschema=event.dataschema,
        extensions=[types.Extension(name, _attribute(name, value)) for name, value in event.extensions.items()],
        data=event.data,
    )
    for text in (event.id, event.source, event.type, *output.headers.values()):
        # A lone surrogate would end the instance.
        text.encode("utf-8")
    return types.Output(whole, [types.Header(name.lower(), value) for name, value in output.headers.items()])


def _attribute(name, value):
    if isinstance(value, bool):
        return types.Value_Boolean(value)
    if isinstance(value, int) and value in INTEGER:
        return types.Value_Integer(value)
    if isinstance(value, str):
        value.encode("utf-8")
        return types.Value_Text(value)
    raise TypeError(f"extension {name} is neither text, boolean nor an integer of 32 bits")
