"""Identifiers of our own: sorted by time, unguessable, without a '.', as Standard Webhooks wants them."""

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32, as ULID uses it
_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]  # two characters at a time take half the time
RANDOM_BYTES = 10  # ULID: 80 bits of chance after 48 bits of milliseconds


def ulid(now: float, chance: bytes) -> str:
    """Return the 26 characters of a ULID for the instant *now* and 10 bytes of *chance* (github.com/ulid/spec)."""
    number = (max(int(now * 1000), 0) & (1 << 48) - 1) << 80 | int.from_bytes(chance, "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])
