"""Notices: an event for one of Apprise's services: a text, and with it a title and a type.

Pure. A notice has no address of its own: that is the destination's secret, and never gets into the outbox.
"""

from collections.abc import Mapping

from bridge.errors import RenderError
from bridge.model import Event, Headers
from bridge.rules.expressions import Text
from bridge.rules.payloads import utf8

METHOD, URL = "NOTIFY", "apprise:"

TITLE, TYPE = "title", "type"  # the headers that a notice may have
TYPES = ("info", "success", "warning", "failure")  # Apprise's own: most services show them as a colour or a sign
PLAIN_TYPE = TYPES[0]


def problem_with_headers(headers: Mapping[str, Text]) -> str | None:
    """Return what is wrong with the `headers` of a destination with `apprise`, or None if nothing is."""
    for name, value in headers.items():
        if name.lower() not in (TITLE, TYPE):
            return f"{name!r} goes nowhere: with `apprise` there are `Title` and `Type`"
        if name.lower() == TYPE and "{" not in value.text and value.text not in TYPES:
            return f"{value.text!r} is no type: expected one of {', '.join(TYPES)}"
    return None


def notice(headers: Headers, body: bytes) -> Event:
    """Return the event for Apprise that says *body*; raise RenderError where a service could never take it."""
    text = utf8(body)
    if text is None:
        raise RenderError("Apprise takes texts, and this body is none: write one with `text`")
    if not text.strip():
        raise RenderError("Apprise takes no empty text")
    event = Event(method=METHOD, url=URL, headers=headers, body=body)
    if (kind := title_and_type(event)[1]) not in TYPES:
        raise RenderError(f"the header Type came to {kind!r}: expected one of {', '.join(TYPES)}")
    return event


def title_and_type(event: Event) -> tuple[str, str]:
    """Return the title and the type that an event's headers give it; no title is an empty one."""
    given = {name.lower(): value for name, value in event.headers}
    return given.get(TITLE, ""), given.get(TYPE, PLAIN_TYPE)
