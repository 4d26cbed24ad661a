"""Slash commands: what Slack shows the one who typed it.

Pure. Slack shows the `text` of an answer of status 200, and of any other only that it failed (docs.slack.dev,
"Implementing slash commands"); so what went well says so in a word, beside what every hook answers.
"""

from collections.abc import Mapping
from typing import Any

from bridge.rules.inbound import Hook

_SAID = {
    "published": "Done.",
    "confirmed": "Done: the device has confirmed it.",
    "queued": "It is safe, and goes out as soon as it can.",
    "filtered": "Nothing was done: this is none of what the hook takes.",
}
_UNHEARD = "It went out, but no device listens to it."


def shown(hook: Hook, body: Any, document: Mapping[str, object]) -> Mapping[str, object]:
    """Return what a hook answers, with a `text` where the request is a slash command of Slack's, and as it is where it isn't."""
    if hook.verify.scheme != "slack" or not isinstance(body, dict) or not str(body.get("command", "")).startswith("/"):
        return document
    text = _UNHEARD if document.get("heard") is False else _SAID.get(str(document.get("status")))
    return document if text is None else {**document, "text": text}
