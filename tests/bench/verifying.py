"""What verifying costs: a request of 1 KB, right and wrong, for each scheme whose signature is a MAC."""

import json
import time
from argparse import Namespace

from bridge.errors import SignatureError
from bridge.rules.signing import SCHEMES, Evidence, Signing, Verification, new_secret, sign, signing_keys, verify
from tests.bench.figures import Figures, Goal

AT = 1_764_000_000
PUBLIC_URL = "https://hooks.example.com"
BODY = json.dumps({"type": "light.set", "webhookTimestamp": AT * 1000, "data": {"state": "ON", "note": "x" * 930}}).encode()
MACS = [name for name, row in SCHEMES.items() if row.sign is not None and row.available is None and name not in ("none", "bearer", "basic", "header", "gitlab")]
GOALS = {f"{name}, {kind}, µs": Goal("<", 40) for name in MACS for kind in ("right", "wrong")}


def verifying(options: Namespace) -> Figures:
    """Measure what it costs to verify a request of 1 KB, for every scheme with a MAC; Twilio's body is a form's of 20 fields."""
    figures = Figures(f"verifying {len(BODY)} bytes, one secret, microseconds each", GOALS)
    for _ in range(options.runs):
        for name in MACS:
            right = _evidence(name)
            wrong = Evidence(**{slot: getattr(right, slot) for slot in Evidence.__slots__} | {"body": right.body[:-1] + b" "})
            figures.add({f"{name}, right, µs": _each_us(right, options.requests, accepted=True), f"{name}, wrong, µs": _each_us(wrong, options.requests, accepted=False)})
    return figures


def _evidence(name: str) -> Evidence:
    secret = new_secret(b"k" * 32)
    is_form = name == "twilio"
    body = "&".join(f"Field{n:02}={'x' * 42}" for n in range(20)).encode() if is_form else BODY
    written = sign(Signing(scheme=name), signing_keys(name, [secret]), id="evt_1", now=AT, body=body, url=f"{PUBLIC_URL}/hooks/hall")
    headers = {key.lower(): (value,) for key, value in written} | {"content-type": ("application/x-www-form-urlencoded" if is_form else "application/json",)}
    way = Verification(scheme=name, public_url=PUBLIC_URL)
    return Evidence(how=way, keys=signing_keys(name, [secret]), method="POST", path="/hooks/hall", query="", headers=headers, body=body, now=AT)


def _each_us(evidence: Evidence, times: int, *, accepted: bool) -> float:
    taken = 0
    start = time.perf_counter()
    for _ in range(times):
        try:
            verify(evidence)
            taken += 1
        except SignatureError:
            pass
    spent_s = time.perf_counter() - start
    assert taken == (times if accepted else 0), "what is measured is what was meant"
    return spent_s / times * 1e6
