"""Bad input, as raw bytes, against one real daemon: each row with its source and the answers it has to get.

All come from addresses of their own, so that no row is locked out for another's mistakes; those that wait for a time limit
run beside the others. In the end nothing was published but what had to be, and a good request is still served.
"""

import asyncio
import base64
import hmac
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.rig.client import Device, device
from tests.rig.daemon import SECRET, Daemon
from tests.rig.mosquitto import Mosquitto
from tests.rig.wait import UNIT_S, until

TOKEN = "correct-horse-battery"
OTHER = "whsec_" + "A" * 44
MAX_BODY = 80_000
AT_ONCE = 16

HOOKS = f"""
[inbound.light]
verify = "standard-webhooks"
secret = "{SECRET}"
topic = "home/light/set"
json = {{ state = "{{{{ body.state }}}}" }}
[inbound.room]
path = "/hooks/room/{{room}}"
verify = "bearer"
secret = "{TOKEN}"
topic = "home/{{{{ room }}}}/set"
text = "on"
[inbound.device]
verify = "bearer"
secret = "{TOKEN}"
topic = "home/{{{{ body.name }}}}/set"
text = "{{{{ body.text | default('on') }}}}"
[inbound.form]
verify = "bearer"
secret = "{TOKEN}"
topic = "home/form/set"
json = {{ who = "{{{{ body.who }}}}" }}
[inbound.note]
verify = "bearer"
secret = "{TOKEN}"
topic = "home/note/set"
text = "{{{{ headers['x-note'] }}}} {{{{ query.q | default('') }}}}"
[inbound.closed]
verify = "bearer"
secret = "{TOKEN}"
allow_from = ["10.99.0.0/16"]
topic = "home/closed/set"
[inbound.seldom]
verify = "bearer"
secret = "{TOKEN}"
rate = "2/min"
topic = "home/seldom/set"
[inbound.open]
verify = "none"
topic = "home/open/set"
text = "{{{{ body | string | length }}}}"
"""


@dataclass(frozen=True)
class Attack:
    """Bytes, in pieces that go out one after the other; the statuses of all answers until the connection ends, none if it just ends."""

    name: str
    source: str
    sent: bytes
    expected: tuple[int, ...]
    published: tuple[tuple[str, bytes], ...] = ()
    drip: bytes = field(default=b"", repr=False)  # then this again and again, every tenth of a second
    within_s: float = 12.0  # until the connection has ended


def request(line: str = "POST /hooks/light HTTP/1.1", *headers: str | bytes, body: bytes = b"", length: bool = True, end: bool = True) -> bytes:
    """Return a request that asks for the connection to be closed, unless *end* is False."""
    own: list[str | bytes] = ["Host: pi.example", *headers, *(["Connection: close"] if end else []), *([f"Content-Length: {len(body)}"] if length else [])]
    return b"\r\n".join(text.encode() if isinstance(text, str) else text for text in [line, *own, "", ""]) + body


def signed(body: bytes = b'{"state":"on"}', *, id: str = "msg_attack", at: float | str = 0.0, secret: str = SECRET, line: str = "POST /hooks/light HTTP/1.1", **changed: str | None) -> bytes:
    """Return a request to the signed hook; *at* is seconds from now, or what stands there as the timestamp; a change of None leaves a header out."""
    stamp = at if isinstance(at, str) else str(int(time.time() + at))
    mac = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), f"{id}.{stamp}.".encode() + body, "sha256")
    headers: dict[str, str | None] = {"webhook-id": id, "webhook-timestamp": stamp, "webhook-signature": "v1," + base64.b64encode(mac).decode()}
    headers |= {f"webhook-{name}": value for name, value in changed.items()}
    return request(line, *(f"{name}: {value}" for name, value in headers.items() if value is not None), "Content-Type: application/json", body=body)


def to(hook: str, body: bytes = b"", *headers: str | bytes, kind: str = "application/json", method: str = "POST") -> bytes:
    """Return a request with the right token."""
    return request(f"{method} /hooks/{hook} HTTP/1.1", f"Authorization: Bearer {TOKEN}", f"Content-Type: {kind}", *headers, body=body)


def chunked(*chunks: bytes, last: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + last


def smuggled(*headers: str | bytes, body: bytes) -> bytes:
    """Return a request of doubtful length whose body, read otherwise, is a second request that would be carried out."""
    return request("POST /hooks/gone HTTP/1.1", *headers, body=body, length=False, end=False)


INNER = request("POST /hooks/open HTTP/1.1", body=b"smuggled")


def on_forging() -> Iterator[Attack]:
    """Yield what tries to get past a signature or a token."""
    good = signed()
    signature = good.partition(b"webhook-signature: ")[2].partition(b"\r\n")[0].decode()
    mac = signature.removeprefix("v1,")

    def refused(name: str, source: str, sent: bytes, status: int = 401) -> Attack:
        return Attack(name, source, sent, (status,))

    yield refused("no signature", "S7", signed(signature=None))
    yield refused("empty signature", "S7", signed(signature=""))
    yield refused("version only", "S7", signed(signature="v1,"))
    yield refused("older version", "S7", signed(signature="v0," + mac))
    yield refused("no version", "S7", signed(signature=mac))
    yield refused("signature cut", "S7: truncated", signed(signature=signature[:-4]))
    yield refused("signature in other case", "S7: base64 has two cases", signed(signature="v1," + mac.swapcase()))
    yield refused("base64 with garbage", "FACTS 25: b64decode is lenient", signed(signature=f"v1,{mac[:10]}!{mac[10:]}"))
    yield refused("base64 without padding", "FACTS 25", signed(signature=signature.rstrip("=") + "=="))
    yield refused("signature not ASCII", "FACTS 25: compare_digest raises on it", signed(signature="v1,ключ"))
    yield refused("a hundred signatures", "S14", signed(signature=" ".join(["v1,AAAA"] * 100)))
    yield refused("the right one behind a hundred", "S14: at most so many are looked at", signed(signature=" ".join([*["v1,AAAA"] * 100, signature])))
    yield refused("tampered body", "S8", good.replace(b'"on"', b'"no"'))
    yield refused("tampered id", "S8", good.replace(b"msg_attack", b"msg_attacc"))
    yield refused("no id", "Standard Webhooks 1.0.0", signed(id=""))
    yield refused("id with a dot", "S57: an id that could be read as id and time", signed(signature=signature, id="msg.1"))
    yield refused("another key", "S9", signed(secret=OTHER))
    yield refused("stale", "S10: after 6 min", signed(at=-360))
    yield refused("from the future", "S10", signed(at=360))
    for stamp in ("0", "-1", "1e400", "１２３", "1_000", "99999999999999999999", f"{time.time():.3f}", "0x7fffffff", "NaN", "+1", ""):
        yield refused(f"timestamp {stamp}", "S12", signed(at=stamp))
    yield refused("two ids", "S12: two headers", good.replace(b"webhook-id:", b"webhook-id: msg_other\r\nwebhook-id:", 1))
    yield refused("two timestamps", "S12: two headers", good.replace(b"webhook-timestamp:", b"webhook-timestamp: 1\r\nwebhook-timestamp:", 1))
    yield refused("two signatures' headers", "S12: two headers", good.replace(b"webhook-signature:", b"webhook-signature: v1,AAAA\r\nwebhook-signature:", 1))
    yield refused("a token where a signature belongs", "S7", request("POST /hooks/light HTTP/1.1", f"Authorization: Bearer {SECRET}"))
    yield refused("no token", "S25", request("POST /hooks/device HTTP/1.1", body=b"{}"))
    yield refused("token in other case", "S25", request("POST /hooks/device HTTP/1.1", f"Authorization: Bearer {TOKEN.upper()}"))
    yield refused("token of another scheme", "RFC 6750 2.1", request("POST /hooks/device HTTP/1.1", f"Authorization: Basic {TOKEN}"))
    yield refused("token cut", "S25", request("POST /hooks/device HTTP/1.1", f"Authorization: Bearer {TOKEN[:-1]}"))
    yield refused("two tokens", "RFC 9110 5.3", request("POST /hooks/device HTTP/1.1", f"Authorization: Bearer {TOKEN}", "Authorization: Bearer x"))
    yield refused("token in the query", "RFC 6750 2.3", request(f"POST /hooks/device?access_token={TOKEN} HTTP/1.1"))
    yield refused("token with a blank more", "RFC 6750 2.1", request("POST /hooks/device HTTP/1.1", f"Authorization: Bearer  {TOKEN} x"))
    for name, ids in (("with a blank", ["a b"]), ("empty", [""]), ("not ASCII", ["é"]), ("of 257 characters", ["x" * 257]), ("twice", ["a", "a"])):
        yield refused(f"id {name}", "the right token: he may know", to("device", b'{"name":"x"}', *(f"Idempotency-Key: {id}" for id in ids)), 400)
    yield refused("id with a blank of a stranger", "401 tells nothing", request("POST /hooks/device HTTP/1.1", "Authorization: Bearer x", "Idempotency-Key: a b"))
    yield refused("not from here", "allow_from", to("closed"), 403)
    yield refused("not from here, says the caller", "allow_from: nobody is a trusted proxy", to("closed", b"", "X-Forwarded-For: 10.99.0.1", "Forwarded: for=10.99.0.1"), 403)


def on_levels() -> Iterator[Attack]:
    """Yield what tries to get into a topic."""
    for level in ("%2B", "%23", "a%2Fb", "..%2Fadmin", "%2e%2e%2f", "%00", "a%00b", "%0a", "%0D%0AX:%20y", "%7f", "%C2%85", "%EF%BF%BF", "%ED%A0%80", "%FF", "$SYS", "%24share", "%C0%AE", "a%2B"):
        yield Attack(f"level {level}", "S1 to S4, FACTS 9", to(f"room/{level}"), (400,))
    yield Attack("two levels", "S2", to("room/a/b"), (404,))
    yield Attack("dots that a browser would take away", "S24", to("room/../closed"), (404,))
    yield Attack("no level", "S5: empty", to("room/"), (400,))
    yield Attack("level percent-encoded twice", "S6: decoded once", to("room/%252e%252e%252fadmin"), (200,), (("home/%2e%2e%2fadmin/set", b"on"),))
    yield Attack("look-alike of a slash", "S6: U+FF0F is no slash", to("room/a%EF%BC%8Fb"), (200,), (("home/a／b/set", b"on"),))
    for value in ("+", "#", "a/b", "../x", "\0", "\n", "$SYS", "", "a" * 65_530, "\ufffe", "\x9f"):
        yield Attack(f"topic from a body {value[:9]!a}", "S1 to S5", to("device", json.dumps({"name": value}).encode()), (422,))
    for value in ("null", "true", '{"a":1}'):
        yield Attack(f"a topic of {value}", "no name of a level", to("device", f'{{"name":{value}}}'.encode()), (422,))
    yield Attack("a topic of a list", "S2", to("device", b'{"name":["a","/","+"]}'), (422,))


def on_bodies() -> Iterator[Attack]:
    """Yield what tries to break who reads it."""

    def unreadable(name: str, source: str, body: bytes) -> Attack:
        return Attack(name, source, signed(body, id="msg_" + "".join(sign for sign in name if sign.isalnum())), (400,))  # signed: to be kept apart from a 401

    yield unreadable("deep list", "S17", b"[" * 30_000 + b"]" * 30_000)
    yield unreadable("deep table", "S17", b'{"a":' * 10_000 + b"1" + b"}" * 10_000)
    yield unreadable("5,000 digits", "S17", b'{"state":' + b"9" * 5_000 + b"}")
    yield unreadable("1e400", "S17", b'{"state":1e400}')
    yield unreadable("NaN", "S17", b'{"state":NaN}')
    yield unreadable("-Infinity", "S17", b'{"state":-Infinity}')
    yield unreadable("a key twice", "S17, RFC 8259 4", b'{"state":"off","state":"on"}')
    yield unreadable("a key twice by an escape", "S17, RFC 8259 4", b'{"state":"off","st\\u0061te":"on"}')
    yield unreadable("lone surrogate", "S17", b'{"state":"\\ud800"}')
    yield unreadable("UTF-16", "S17, RFC 8259 8.1", '{"state":"on"}'.encode("utf-16"))
    yield unreadable("BOM", "S17, RFC 8259 8.1", b'\xef\xbb\xbf{"state":"on"}')
    yield unreadable("invalid UTF-8", "S17", b'{"state":"\xff"}')
    yield unreadable("cut", "RFC 8259 2", b'{"state":"on"')
    yield unreadable("two values", "RFC 8259 2", b'{"state":"on"}{"state":"off"}')
    yield unreadable("a raw line's end", "RFC 8259 7", b'{"state":"o\nn"}')
    yield Attack("empty where a key is needed", "the product: 422", signed(b"", id="msg_empty"), (422,))
    yield Attack("a list where a table is needed", "the product: 422", signed(b"[1]", id="msg_list"), (422,))
    yield Attack("many keys", "S17", to("device", b"{" + b",".join(b'"k%d":0' % n for n in range(5_000)) + b',"name":"many"}'), (200,), (("home/many/set", b"on"),))
    yield Attack("template in a value", "S48: {{7*7}}", signed(b'{"state":"{{7*7}} {% raw %} ${x} {{ self.__class__ }}"}', id="msg_template"), (200,), (("home/light/set", b'{"state":"{{7*7}} {% raw %} ${x} {{ self.__class__ }}"}'),))
    yield Attack("template in a header and query", "S48", to("note?q=%7B%7B7*7%7D%7D", b"", "X-Note: {{ 7*7 }}"), (200,), (("home/note/set", b"{{ 7*7 }} {{7*7}}"),))
    yield Attack("methods' names as keys", "S48", to("device", b'{"name":"keys","__class__":{"__mro__":1},"text":"{{ body.__class__.__mro__ }}"}'), (200,), (("home/keys/set", b"{{ body.__class__.__mro__ }}"),))
    yield Attack("bytes that are no text in a header", "FACTS 22: surrogateescape", to("note", b"", b"X-Note: \xff\xfe"), (422,))
    yield Attack("201 fields", "the bound of a form", to("form", b"&".join(b"f%d=1" % n for n in range(201)), kind="application/x-www-form-urlencoded"), (400,))
    yield Attack("a form without its field", "the product: 422", to("form", b"whom=me", kind="application/x-www-form-urlencoded"), (422,))
    yield Attack("a form's line ends", "S31", to("form", b"who=a%0d%0aSet-Cookie:%20x", kind="application/x-www-form-urlencoded"), (200,), (("home/form/set", b'{"who":"a\\r\\nSet-Cookie: x"}'),))
    yield Attack("text/plain that is JSON", "S18: it would be read as JSON, but not without the token", request("POST /hooks/device HTTP/1.1", "Content-Type: text/plain", body=b'{"name":"x"}'), (401,))
    yield Attack("multipart", "S18", to("form", b'--x\r\nContent-Disposition: form-data; name="who"\r\n\r\nme\r\n--x--', kind="multipart/form-data; boundary=x"), (415,))
    yield Attack("gzip", "S16", to("open", b"\x1f\x8b\x08" + b"\0" * 50, "Content-Encoding: gzip"), (415,))
    yield Attack("two codings", "S16", to("open", b"x", "Content-Encoding: identity", "Content-Encoding: br"), (415,))
    yield Attack("one byte too much", "S15", to("open", b"x" * (MAX_BODY + 1)), (413,))
    yield Attack("10 MB", "S15", request("POST /hooks/open HTTP/1.1", body=b"x" * 10_000_000), (413,))
    yield Attack("1 GB announced", "S15: early", request("POST /hooks/open HTTP/1.1", "Content-Length: 1000000000", length=False), (413,))
    yield Attack("chunks without end", "S15", request("POST /hooks/open HTTP/1.1", "Transfer-Encoding: chunked", length=False), (413,), drip=chunked(b"x" * 9_000, last=b""))


def on_http() -> Iterator[Attack]:
    """Yield what is read in two ways, or in none."""
    for name, source, sent in (
        ("CL and TE", "S22, RFC 9112 6.1", smuggled(f"Content-Length: {len(INNER) + 5}", "Transfer-Encoding: chunked", body=b"0\r\n\r\n" + INNER)),
        ("TE and CL", "S22, RFC 9112 6.1", smuggled("Transfer-Encoding: chunked", "Content-Length: 4", body=chunked(b"x" * 30) + INNER)),
        ("TE twice", "S22", smuggled("Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=b"0\r\n\r\n" + INNER)),
        ("TE with a control character", "S22", smuggled("Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n" + INNER)),
        ("TE with a blank before the colon", "RFC 9112 5.1", smuggled("Transfer-Encoding : chunked", body=b"0\r\n\r\n" + INNER)),
        ("TE misspelt", "RFC 9112 6.1", smuggled("Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + INNER)),
        ("TE of HTTP/1.0", "RFC 9112 6.1", smuggled("Transfer-Encoding: chunked", "Content-Length: 3", body=b"0\r\n\r\n" + INNER).replace(b"HTTP/1.1", b"HTTP/1.0", 1)),
        ("two lengths", "S22, RFC 9112 6.3", smuggled("Content-Length: 0", f"Content-Length: {len(INNER)}", body=INNER)),
        ("list of lengths", "RFC 9112 6.3", smuggled("Content-Length: 0, 0", body=INNER)),
        ("signed length", "RFC 9110 8.6", smuggled("Content-Length: +0", body=INNER)),
        ("negative length", "RFC 9110 8.6", smuggled("Content-Length: -1", body=INNER)),
        ("hexadecimal length", "RFC 9110 8.6", smuggled("Content-Length: 0x0", body=INNER)),
        ("length beyond 64 bits", "RFC 9110 8.6", smuggled("Content-Length: 18446744073709551616", body=INNER)),
        ("bare LF", "S22, RFC 9112 2.2", b"POST /hooks/open HTTP/1.1\nHost: a\nContent-Length: 0\n\n" + INNER),
        ("bare CR", "RFC 9112 2.2", request("POST /hooks/open HTTP/1.1", "X: a\rTransfer-Encoding: chunked")),
        ("folded header", "S22, RFC 9112 5.2", request("POST /hooks/open HTTP/1.1", "X: a\r\n b")),
        ("folded length", "S22, RFC 9112 5.2", smuggled("Content-Length:\r\n 0", body=INNER)),
        ("two hosts", "S22, RFC 9112 3.2", request("POST /hooks/open HTTP/1.1", "Host: b")),
        ("no host", "RFC 9112 3.2", b"POST /hooks/open HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
        ("LF in a chunk's extension", "RFC 9112 7.1.1", smuggled("Transfer-Encoding: chunked", body=b"0;\nx\r\n\r\n" + INNER)),
        ("chunk without a size", "RFC 9112 7.1", smuggled("Transfer-Encoding: chunked", body=b"\r\n\r\n" + INNER)),
        ("chunk of negative size", "RFC 9112 7.1", smuggled("Transfer-Encoding: chunked", body=b"-1\r\n\r\n" + INNER)),
        ("NUL in a header", "RFC 9110 5.5", request("POST /hooks/open HTTP/1.1", "X: a\0b")),
        ("NUL in the path", "S24", b"POST /hooks/o\0pen HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("blank in the path", "RFC 9112 3", request("POST /hooks/o pen HTTP/1.1")),
        ("LF in the path", "RFC 9112 3", b"POST /hooks/o\npen HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("header's name with a blank", "RFC 9110 5.1", request("POST /hooks/open HTTP/1.1", "X Y: z")),
        ("header without a name", "RFC 9110 5.1", request("POST /hooks/open HTTP/1.1", ": z")),
        ("path without a slash", "RFC 9112 3.2", request("POST hooks/open HTTP/1.1")),
        ("unknown method", "S24", request("FROB /hooks/open HTTP/1.1")),
        ("lower case method", "RFC 9110 9.1", request("post /hooks/open HTTP/1.1")),
        ("HTTP/2", "RFC 9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("chunks of HTTP/1.0", "RFC 9112 6.1: faulty framing, the connection is closed", smuggled("Connection: keep-alive", "Transfer-Encoding: chunked", body=chunked(b"x") + INNER).replace(b"HTTP/1.1", b"HTTP/1.0", 1)),
        ("HTTP/x", "RFC 9112 2.3", request("POST /hooks/open HTTP/x")),
        ("FTP/1.1", "RFC 9112 2.3", request("POST /hooks/open FTP/1.1")),
        ("TLS to a plain port", "a caller's mistake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"z" * 50),
        ("garbage", "S61", bytes(range(128, 256)) * 4 + b"\r\n\r\n"),
    ):
        yield Attack(name, source, sent, (400,))
    yield Attack("a second request in a refused body", "S22: 0 second requests parsed", request("POST /hooks/open HTTP/1.1", "Content-Length: 999999999", length=False, end=False) + INNER, (413,))
    yield Attack("HTTP/0.9", "RFC 9112 2.3", b"POST /hooks/open\r\n\r\n", (505,))
    for version in ("0.9", "1.2", "2.0", "3.0", "9.9"):
        yield Attack(f"HTTP/{version} written out", "RFC 9110 15.6.6; the connection is closed", request(f"POST /hooks/open HTTP/{version}", body=b"x", end=False), (505,))
    yield Attack("HTTP/1.0", "RFC 9112 2.3: it may come", request("POST /hooks/form HTTP/1.0", f"Authorization: Bearer {TOKEN}", "Content-Type: application/json", body=b'{"who":"old"}'), (200,), (("home/form/set", b'{"who":"old"}'),))
    yield Attack("long path", "S14, RFC 9110 15.5.15", request(f"POST /hooks/{'x' * 9_000} HTTP/1.1"), (414,))
    yield Attack("long header", "S14, RFC 6585 5", request("POST /hooks/open HTTP/1.1", "X: " + "y" * 9_000), (431,))
    yield Attack("1 MB header", "S14, RFC 6585 5", request("POST /hooks/open HTTP/1.1", "X: " + "y" * 1_000_000), (431,))
    yield Attack("many headers", "S14, RFC 6585 5", request("POST /hooks/open HTTP/1.1", *(f"X-{n}: y" for n in range(500))), (431,))
    for line, status in (
        ("GET /hooks/light HTTP/1.1", 405),
        ("TRACE /hooks/light HTTP/1.1", 405),
        ("DELETE /hooks/light HTTP/1.1", 405),
        ("OPTIONS * HTTP/1.1", 404),
        ("POST / HTTP/1.1", 404),
        ("POST //hooks/light HTTP/1.1", 404),
        ("POST /hooks//light HTTP/1.1", 404),
        ("POST /hooks/light/ HTTP/1.1", 404),
        ("POST /hooks/./light HTTP/1.1", 404),
        ("POST /%2e%2e/hooks/light HTTP/1.1", 404),
        ("POST /hooks%2Flight HTTP/1.1", 404),
        ("POST /hooks/light;x=1 HTTP/1.1", 404),
        ("POST /hooks/light%00 HTTP/1.1", 404),
        ("POST /hooks/%FF HTTP/1.1", 400),
        ("POST /hooks\\light HTTP/1.1", 404),
        ("GET /metrics HTTP/1.1", 404),
        ("POST http://evil.example/hooks/light HTTP/1.1", 401),  # RFC 9112 3.2.2: it has to be taken; the hook is met and wants its signature
    ):
        yield Attack(line, "S24", request(line), (status,))
    yield Attack("CONNECT", "S24, RFC 9110 9.3.6", b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\nConnection: close\r\n\r\n", (404,))
    yield Attack("websocket", "RFC 6455 4.1", request("GET /hooks/light HTTP/1.1", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13").replace(b"Connection: close", b"Connection: Upgrade, close"), (405,))
    yield Attack("pipelined", "S23: bounded, order kept", b"".join(request("GET /hooks/light HTTP/1.1", end=n == 2_999) for n in range(3_000)), (405,) * 3_000)


def on_logs() -> Iterator[Attack]:
    """Yield what tries to write a line of its own into the log."""
    forged = "2026-01-01T00:00:00.000Z info    all is well"
    yield Attack("line ends in the path", "S38", request("POST /hooks/x%0a" + forged.replace(" ", "%20") + " HTTP/1.1"), (404,))
    yield Attack("line ends in a signed id", "S38", signed(id="msg_1").replace(b"msg_1", b"msg_1\x1b[31m"), (400,))
    yield Attack("line ends in an id that is not", "S38, RFC 9110 5.5", signed(id="msg_1").replace(b"msg_1", b"msg_1\xc2\x85x"), (401,))
    yield Attack("a line separator in a value", "S38: U+2028", to("device", json.dumps({"name": f"\u2028{forged}"}).encode()), (200,), ((f"home/\u2028{forged}/set", b"on"),))
    yield Attack("fields of the journal", "S38: MESSAGE=", to("device", b'{"name":"a\\nMESSAGE=forged/"}'), (422,))


def on_time() -> Iterator[Attack]:
    """Yield what takes its time; each is ended by a limit."""
    yield Attack("slow headers", "S19: closed within 15 s", b"POST /hooks/open HTTP/1.1\r\nX: ", (), drip=b"x", within_s=16)
    yield Attack("nothing at all", "S19", b"", (), within_s=16)
    yield Attack("slow body", "S20: closed within 10 s", request("POST /hooks/open HTTP/1.1", "Content-Length: 1000", length=False), (408,), drip=b"x")
    yield Attack("slow chunks", "S20", request("POST /hooks/open HTTP/1.1", "Transfer-Encoding: chunked", length=False), (408,), drip=chunked(b"x", last=b""))
    yield Attack("body without its end", "S20", request("POST /hooks/open HTTP/1.1", "Content-Length: 5", length=False) + b"abc", (408,))
    yield Attack("idle after a good one", "keep-alive", request("GET /hooks/light HTTP/1.1", end=False), (405,), within_s=16)


ATTACKS: tuple[Callable[[], Iterator[Attack]], ...] = (on_forging, on_levels, on_bodies, on_http, on_logs)


def test_each_attack_gets_its_answer_and_nothing_is_published_but_what_has_to_be(tmp_path: Path, broker: Mosquitto) -> None:
    attacks = [attack for group in ATTACKS for attack in group()]
    assert len(attacks) > 150
    http = f'max_body = "{MAX_BODY}B"'
    with device(broker.port, "#") as everything, Daemon(tmp_path / "bridge", broker=broker.url, mappings=HOOKS, http=http) as bridge:
        wrong = asyncio.run(all_of(bridge.hooks_port, attacks))
        assert not wrong, "\n".join(f"{name}: expected {expected}, got {got}" for name, (expected, got) in wrong.items())
        expected = sorted(published for attack in attacks for published in attack.published)
        assert_nothing_else(bridge, everything, expected)


async def all_of(port: int, attacks: list[Attack]) -> dict[str, tuple[object, object]]:
    """Carry out all attacks and return those with other answers than expected: what was, and what came."""
    addresses = (f"127.0.{n // 250}.{n % 250 + 1}" for n in itertools.count(2_500))
    gate = asyncio.Semaphore(AT_ONCE)
    wrong: dict[str, tuple[object, object]] = {}

    async def one(attack: Attack) -> None:
        came = await statuses(port, next(addresses), attack)
        if came != attack.expected:
            wrong[attack.name] = (attack.expected[:3], came[:3] if isinstance(came, tuple) else came)

    async def one_of_many(attack: Attack) -> None:
        async with gate:
            await one(attack)

    slow = list(on_time())
    await asyncio.gather(*(one(attack) for attack in slow), *(one_of_many(attack) for attack in attacks))
    return wrong


async def statuses(port: int, address: str, attack: Attack) -> tuple[int, ...] | str:
    """Return the statuses of all answers until the connection ended, or what else became of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    coming = asyncio.create_task(whole(reader))
    try:
        async with asyncio.timeout(attack.within_s * UNIT_S):
            with suppress(ConnectionError):
                writer.write(attack.sent)
                await writer.drain()
                while attack.drip and not coming.done():
                    writer.write(attack.drip)
                    await writer.drain()
                    await asyncio.wait([coming], timeout=0.1)
            return tuple([status async for status in answers(await coming)])
    except TimeoutError:
        return f"not ended within {attack.within_s:g} s"
    finally:
        coming.cancel()
        writer.transport.abort()


async def whole(reader: asyncio.StreamReader) -> bytes:
    came = b""
    with suppress(ConnectionError):
        while more := await reader.read(65_536):
            came += more
    return came


async def answers(came: bytes) -> AsyncIterator[int]:
    """Yield the status of each answer; an error has to be a problem document, and no answer tells of versions."""
    while came:
        head, _, came = came.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        body, came = came[: int(headers["content-length"])], came[int(headers["content-length"]) :]
        status = int(line.split()[1])
        assert headers["server"] == "mqtthook"
        assert "date" in headers
        assert ("allow" in headers) is (status == 405)
        assert ("retry-after" in headers) is (status == 429)
        if status >= 400:
            assert headers["content-type"] == "application/problem+json", line
            assert json.loads(body)["status"] == status
        yield status


def assert_nothing_else(bridge: Daemon, everything: Device, expected: list[tuple[str, bytes]]) -> None:
    good = bridge.post("/hooks/device", b'{"name":"last"}', Authorization=f"Bearer {TOKEN}")
    assert good[0] == 200
    until(lambda: everything.payloads("home/last/set"), "the good request to be published")
    heard = sorted((one.topic, one.payload) for one in everything.heard if not one.topic.startswith("mqtthook/") and one.topic != "home/last/set")
    assert heard == expected
    assert not [one.topic for one in everything.heard if one.retained]
    assert bridge.get("/readyz")[0] == 200
    assert "Traceback" not in bridge.log
    assert " error " not in bridge.log
    assert all(line[:4].isdigit() and "T" in line[:11] for line in bridge.log.splitlines()), "each line is one of its own"
    assert "all is well" not in [line[33:] for line in bridge.log.splitlines()]
    assert TOKEN not in bridge.log
    assert SECRET not in bridge.log
    assert len(bridge.log) < 100_000


def test_a_repeated_request_is_carried_out_once(tmp_path: Path, broker: Mosquitto) -> None:
    """FAULTS S10: now, and after a restart; 32 at once, too."""
    again = signed(id="msg_replayed")
    with device(broker.port, "home/#") as lamp, Daemon(tmp_path / "bridge", broker=broker.url, mappings=HOOKS) as bridge:

        async def all_at_once() -> list[tuple[int, ...] | str]:
            attack = Attack("replay", "S10", again, (200,))
            return await asyncio.gather(*(statuses(bridge.hooks_port, "127.0.0.1", attack) for _ in range(32)))

        assert set(asyncio.run(all_at_once())) == {(200,)}
        bridge.kill()
        bridge.start()
        assert set(asyncio.run(all_at_once())) == {(200,)}
        until(lambda: lamp.payloads("home/light/set"), "the command")
        assert bridge.post("/hooks/device", b'{"name":"last"}', Authorization=f"Bearer {TOKEN}")[0] == 200
        until(lambda: lamp.payloads("home/last/set"), "what comes after it")
        assert [json.loads(payload) for payload in lamp.payloads("home/light/set")] == [{"state": "on"}]


def test_a_captured_request_is_not_carried_out_again_under_another_id(tmp_path: Path, broker: Mosquitto) -> None:
    """Slack signs a time but no id: who captured a request could invent one. Several at once, and after a kill, too."""
    hooks = f"""
[inbound.bell]
verify = "slack"
secret = "{TOKEN}"
topic = "home/bell/set"
"""
    body, stamp = b"command=/ring", str(int(time.time()))
    mac = hmac.digest(TOKEN.encode(), f"v0:{stamp}:".encode() + body, "sha256").hex()
    captured = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={mac}", "Content-Type": "text/plain"}
    with device(broker.port, "home/#") as bell, Daemon(tmp_path / "bridge", broker=broker.url, mappings=hooks) as bridge:

        async def under(*ids: str | None) -> list[tuple[int, ...] | str]:
            def copy(id: str | None) -> bytes:
                return request("POST /hooks/bell HTTP/1.1", *(f"{name}: {value}" for name, value in captured.items()), *([f"webhook-id: {id}"] if id else []), body=body)

            return await asyncio.gather(*(statuses(bridge.hooks_port, "127.0.0.1", Attack("copy", "S10", copy(id), ())) for id in ids))

        assert sorted(asyncio.run(under("first", "second", "third"))) == [(200,), (401,), (401,)]
        bridge.kill()
        bridge.start()
        assert asyncio.run(under("fourth", None)) == [(401,), (401,)]
        assert sorted(asyncio.run(under("first", "second", "third"))) == [(200,), (401,), (401,)]  # and who repeats his own gets his answer
        assert "reason=it is a copy of a request that came before, under another id" in bridge.log
        until(lambda: bell.payloads("home/bell/set"), "the command")
        assert bridge.metrics()["mqtthook_ledger_imbalance"] == 0
        assert bell.payloads("home/bell/set") == [body]
