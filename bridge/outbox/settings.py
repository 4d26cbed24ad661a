"""`[store]`: where the outbox is, how big it may get, and what comes first, speed or the disk."""

from typing import Literal

from bridge.rules.units import Duration, Size, Slice, size_bytes


class StoreSettings(Slice):
    """The outbox file."""

    path: str = "outbox.db"
    durability: Literal["balanced", "strict"] = "balanced"
    max_size: Size = size_bytes("256MiB")
    history: Duration = 604_800.0  # a week: what was it that happened on holiday?
