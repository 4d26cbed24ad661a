"""What is asked of the queue, as JSON carries it."""

from collections.abc import Mapping
from typing import Any

from bridge.model import State
from bridge.outbox.selection import Past, Selection


def selection(asked: Mapping[str, Any]) -> Selection:
    """Return the selection that a JSON object describes."""
    known = dict(asked)
    ids, state = tuple(known.pop("ids", ())), known.pop("state", None)
    return Selection(ids=ids, state=None if state is None else State(state), **known)


def past(asked: Mapping[str, Any]) -> Past:
    """Return the attempts that a JSON object asks for."""
    return Past(**asked)
