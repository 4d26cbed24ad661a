"""What devices say of themselves, for the hooks that ask: the last word on whether they are there, and what a command is waited for.

In memory only: the broker keeps the one, and nobody waits for the other over a restart.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from bridge.model import Message
from bridge.rules.devices import Expectation, filter_of
from bridge.rules.inbound import Hook
from bridge.rules.topics import FilterTree

SETTLE_S = 0.5  # after the broker has confirmed what we listen to: what it keeps comes right behind that
MAX_WORDS = 10_000  # topics whose last word is kept; a house has some hundreds of devices


class Devices:
    """Hears what devices say, and remembers what hooks may ask of it."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._words: OrderedDict[str, Message] = OrderedDict()
        self._waiting: dict[str, tuple[Expectation, asyncio.Future[Message]]] = {}
        self._settled = asyncio.Event()
        self._settling: asyncio.TimerHandle | None = None
        self.adopt(hooks)

    def adopt(self, hooks: Sequence[Hook]) -> None:
        """Listen for these hooks from now on; what was heard, and what is waited for, stays."""
        self._available: FilterTree[Hook] = FilterTree()
        for hook in hooks:
            if hook.rule.available is not None:
                self._available.add(filter_of(hook.rule.available.topic), hook)
        self._heard: FilterTree[Hook] = FilterTree()
        for hook in hooks:
            for topic in hook.rule.listens_to:
                self._heard.add(filter_of(topic), hook)

    def listening(self, *, on: bool) -> None:
        """Note that the broker has confirmed what we listen to, or is away."""
        if self._settling is not None:
            self._settling.cancel()
        self._settled.clear()
        self._settling = asyncio.get_running_loop().call_later(SETTLE_S, self._settled.set) if on else None

    def hear(self, message: Message) -> bool:
        """Take in a message; return True if a hook wanted to hear it, False if none did."""
        levels = tuple(message.topic.split("/"))
        if not self._heard.of(levels):
            return False
        if self._available.of(levels):
            self._words[message.topic] = message
            self._words.move_to_end(message.topic)
            if len(self._words) > MAX_WORDS:
                self._words.popitem(last=False)
        for expected, coming in self._waiting.values():
            if expected.topic == message.topic and not coming.done() and expected.is_met_by(message):
                coming.set_result(message)
        return True

    async def last_word(self, topic: str) -> Message | None:
        """Return what was last written at a topic, None if nothing was heard of it; right after a start what the broker keeps is waited for."""
        if topic not in self._words:
            await self._settled.wait()
        return self._words.get(topic)

    @contextmanager
    def expecting(self, expected: Expectation | None) -> Iterator[None]:
        """Let a command's device be listened to meanwhile, from before it is told anything; None: there is nothing to wait for."""
        if expected is None or expected.id in self._waiting:
            yield
            return
        self._waiting[expected.id] = expected, asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            del self._waiting[expected.id]

    def expected_of(self, id: str) -> Expectation | None:
        """Return what a command's device is waited for to say, None where nobody waits."""
        found = self._waiting.get(id)
        return None if found is None else found[0]

    async def word_on(self, expected: Expectation) -> Message | None:
        """Return the device's word on a command, or None where it did not come in time."""
        found = self._waiting.get(expected.id)
        if found is None:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(expected.rule.timeout):
                return await asyncio.shield(found[1])
        return None
