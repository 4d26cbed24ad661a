"""A backlog: an outbox file in which events wait, made as the daemon would have made them, only faster."""

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from bridge.config.load import load
from bridge.model import Answer, Letter, Message
from bridge.outbox.store import Changes, Store
from bridge.rules.events import fates_for, letter_of
from bridge.rules.ids import RANDOM_BYTES, ulid
from bridge.rules.outbound import Routes
from tests.bench.publisher import message
from tests.bench.rig import Rig

BATCH = 1_000  # rows in one commit
MAX_SIZE = 2 << 30  # as in the rig's config


def filled(parts: Rig, *, rows: int) -> Path:
    """Return a new outbox file with *rows* events for the rig's receiver; none of them has been tried."""
    state = Path(tempfile.mkdtemp(prefix="filled-", dir=parts.place))
    config, _ = parts.config(state)
    letters = _letters(load(config, {}).settings.routes(), rows)
    store = Store.open(state / "outbox.db", max_size=MAX_SIZE)
    try:
        written = 0
        while batch := {letter.seq: letter for letter in islice(letters, BATCH)}:
            written += len(batch)
            store.write(Changes(letters=batch, counts={"sensors": {"in": written}}))
    finally:
        store.close()
    return state / "outbox.db"


def remembering(parts: Rig, *, ids: int) -> Path:
    """Return a new outbox file that remembers so many *ids* of requests to a hook, each with its answer."""
    path, now = Path(tempfile.mkdtemp(prefix="remembering-", dir=parts.place)) / "outbox.db", time.time()
    store = Store.open(path, max_size=MAX_SIZE)
    try:
        for first in range(0, ids, BATCH):
            names = [("lamp", f"msg_{n:026d}") for n in range(first, min(first + BATCH, ids))]
            answers = {name: Answer(status=200, document={"id": name[1], "status": "published"}) for name in names}
            store.write(Changes(seen=dict.fromkeys(names, now), answers=answers))
    finally:
        store.close()
    return path


def _letters(routes: Routes, rows: int) -> Iterator[Letter]:
    for number in range(rows):
        topic, payload = message(number, time.monotonic_ns())
        received = Message(topic=topic.decode(), payload=payload, qos=1, received_at=time.time())
        (fate,) = fates_for(received, routes, wall=received.received_at, new_id=_new_id)
        yield replace(letter_of(fate, created_at=received.received_at, origin=f"{number}:backlog"), seq=number + 1)


def _new_id() -> str:
    return "evt_" + ulid(time.time(), os.urandom(RANDOM_BYTES))
