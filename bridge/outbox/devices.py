"""What devices say of themselves, for the hooks that ask: the last word on whether they are there, and what a command is waited for.

In memory only: the broker keeps the one, and nobody waits for the other over a restart.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from bridge.model import Letter, Message
from bridge.rules.devices import Expectation, filter_of
from bridge.rules.inbound import Hook
from bridge.rules.topics import FilterTree

SETTLE_S = 0.5  # after the broker has confirmed what we listen to: what it keeps comes right behind that
HEAR_S = 5.0  # for the broker to confirm what we listen to, and tell what it keeps; one on the same network answers in milliseconds
MAX_WORDS, MAX_BYTES = 10_000, 4 << 20  # of the last words that are kept; a house has some hundreds of devices, and "offline" is short


class Devices:
    """Hears what devices say, and remembers what hooks may ask of it."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._words: OrderedDict[str, Message] = OrderedDict()
        self._bytes = 0
        self._waiting: dict[tuple[str, str], tuple[Expectation, asyncio.Future[Message | None]]] = {}
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
            self._keep(message)
        for expected, coming in self._waiting.values():
            if expected.topic == message.topic and not coming.done() and expected.is_met_by(message):
                coming.set_result(message)
        return True

    def _keep(self, message: Message) -> None:
        if (before := self._words.pop(message.topic, None)) is not None:
            self._bytes -= len(before.payload)
        self._words[message.topic] = message
        self._bytes += len(message.payload)
        while len(self._words) > MAX_WORDS or self._bytes > MAX_BYTES:
            _, oldest = self._words.popitem(last=False)
            self._bytes -= len(oldest.payload)

    async def last_word(self, topic: str) -> Message | None:
        """Return what was last written at a topic, None if nothing was heard of it; what the broker keeps is waited for, where it has still to tell."""
        if topic not in self._words:
            with suppress(TimeoutError):  # it went away meanwhile: nobody can tell
                async with asyncio.timeout(HEAR_S):
                    await self._settled.wait()
        return self._words.get(topic)

    @contextmanager
    def expecting(self, expected: Expectation | None) -> Iterator[None]:
        """Let a command's device be listened to meanwhile, from before it is told anything; None: there is nothing to wait for."""
        if expected is None or expected.command in self._waiting:
            yield
            return
        coming: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        self._waiting[expected.command] = expected, coming
        try:
            yield
        finally:
            del self._waiting[expected.command]
            if not coming.done():
                coming.set_result(None)

    def expected_of(self, command: Letter) -> Expectation | None:
        """Return what a command's device is waited for to say, None where nobody waits."""
        found = self._waiting.get((command.mapping, command.id))
        return None if found is None else found[0]

    async def word_on(self, expected: Expectation) -> Message | None:
        """Return the device's word on a command, or None where it did not come in time, or nobody waits for it any more."""
        found = self._waiting.get(expected.command)
        if found is None:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(expected.rule.timeout):
                return await asyncio.shield(found[1])
        return None
