"""Every scheme that a hook knows: what signs, verifies; whatever comes, it returns or raises SignatureError; and each sender's own ways."""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from bridge.errors import SignatureError
from bridge.rules.signing import MAX_SIGNATURES, SCHEMES, Evidence, Signing, Verify, keys, new_secret, seal, sign, signing_keys, verify
from bridge.rules.signing.ed25519 import public_of
from bridge.rules.signing.urls import address, body_hash

ID, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1764000000, b'{"state": "on"}'
SEED = b"k" * 32
PUBLIC_URL = "https://hooks.example.com"
PATH, QUERY = "/hooks/hall", "room=1"
URL = f"{PUBLIC_URL}{PATH}?{QUERY}"

DECODED = ("standard-webhooks", "svix")
WITH_URL = ("twilio", "hubspot")

# Each scheme as a hook writes it, with what it must be given.
WAYS: dict[str, Any] = {
    **{name: {"scheme": name} for name in SCHEMES},
    **{name: {"scheme": name, "public_url": PUBLIC_URL} for name in WITH_URL},
    "header": {"scheme": "header", "header": "X-Api-Key"},
    "query": {"scheme": "query", "param": "token"},
}
SIGNING = [name for name, row in SCHEMES.items() if row.sign is not None and name != "none"]
TIMED = [name for name in SIGNING if "tolerance" in SCHEMES[name].options and name != "gitlab"]
SIGNED_BODIES = [name for name in SIGNING if name not in ("bearer", "basic", "header", "gitlab")]
SIGNED_IDS = ["svix", "standard-webhooks", "standard-webhooks-v1a"]

SEEDS = st.binary(min_size=32, max_size=32)
BODIES = st.one_of(st.binary(), st.text().map(str.encode))


def secrets_of(scheme: str, seed: bytes) -> tuple[str, str]:
    """Return the sender's secret and the hook's, made of 32 bytes."""
    match scheme:
        case "standard-webhooks-v1a":
            return "whsk_" + base64.b64encode(seed).decode(), "whpk_" + base64.b64encode(public_of(seed)).decode()
        case "discord":
            return seed.hex(), public_of(seed).hex()
        case "basic":
            return (f"hall:{seed.hex()}",) * 2
        case name if name in DECODED:
            return (new_secret(seed),) * 2
    return (seed.hex(),) * 2


def body_for(scheme: str, body: bytes, at: int) -> bytes:
    """Return a body that the sender would send, which says the same."""
    if scheme == "linear":
        return json.dumps({"data": body.hex(), "webhookTimestamp": at * 1000}).encode()
    return body


def signed(scheme: str, seed: bytes = SEED, *, body: bytes = BODY, at: int = AT, url: str = URL, method: str = "POST", id: str = ID) -> dict[str, tuple[str, ...]]:
    way = Signing.model_validate({name: value for name, value in WAYS[scheme].items() if name in ("scheme", "header")})
    headers = sign(way, signing_keys(scheme, [secrets_of(scheme, seed)[0]]), id=id, now=at, body=body, method=method, url=url)
    return {name.lower(): (value,) for name, value in headers}


def came(scheme: str, headers: Mapping[str, Sequence[str]], *, body: bytes = BODY, seeds: Sequence[bytes] = (SEED,), now: float = AT, method: str = "POST", path: str = PATH, query: str = QUERY, **more: Any) -> Evidence:
    how = TypeAdapter(Verify).validate_python(WAYS[scheme] | more)
    return Evidence(how=how, keys=keys(scheme, [secrets_of(scheme, seed)[1] for seed in seeds]), method=method, path=path, query=query, headers=headers, body=body, now=now)


def twilio_url(url: str, body: bytes) -> str:
    """Return the URL that Twilio calls with a body that is no form."""
    return f"{url}&bodySHA256={body_hash(body)}"


def sent(scheme: str, seed: bytes, *, body: bytes, at: int = AT) -> tuple[dict[str, tuple[str, ...]], bytes, str]:
    """Return the headers, the body and the query that a sender sends."""
    whole = body_for(scheme, body, at)
    url = twilio_url(URL, whole) if scheme == "twilio" else URL
    return signed(scheme, seed, body=whole, at=at, url=url), whole, url.partition("?")[2]


# --- what is true of all of them ---


@pytest.mark.parametrize("scheme", SIGNING)
@settings(max_examples=50)
@given(seed=SEEDS, other=SEEDS, body=BODIES, at=st.integers(10**9, 10**11))
def test_what_is_signed_is_verified_by_whoever_holds_the_secret_among_others(scheme: str, seed: bytes, other: bytes, body: bytes, at: int) -> None:
    headers, whole, query = sent(scheme, seed, body=body, at=at)
    assert verify(came(scheme, headers, body=whole, seeds=[other, seed], now=at, query=query)) == ID


@pytest.mark.parametrize("scheme", SIGNING)
@settings(max_examples=25)
@given(seed=SEEDS, other=SEEDS, body=BODIES)
def test_another_secret_is_refused(scheme: str, seed: bytes, other: bytes, body: bytes) -> None:
    headers, whole, query = sent(scheme, seed, body=body)
    if seed != other:
        with pytest.raises(SignatureError, match="agrees with"):
            verify(came(scheme, headers, body=whole, seeds=[other], query=query))


@pytest.mark.parametrize("scheme", SIGNED_BODIES)
@settings(max_examples=25)
@given(body=BODIES, place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_body_with_a_flipped_bit_is_refused(scheme: str, body: bytes, place: int, bit: int) -> None:
    headers, whole, query = sent(scheme, SEED, body=body + b"x")
    flipped = bytearray(whole)
    flipped[place % len(whole)] ^= 1 << bit
    with pytest.raises(SignatureError):
        verify(came(scheme, headers, body=bytes(flipped), query=query))


@pytest.mark.parametrize("scheme", SIGNING)
def test_each_header_has_to_come_once(scheme: str) -> None:
    headers, whole, query = sent(scheme, SEED, body=BODY)
    for name in {written.lower() for written in (SCHEMES[scheme].writes or ("X-Api-Key",))} & headers.keys():
        with pytest.raises(SignatureError, match=f"{name} came 2 times, expected once"):
            verify(came(scheme, headers | {name: headers[name] * 2}, body=whole, query=query))
    with pytest.raises(SignatureError, match=r"came 0 times, expected once"):
        verify(came(scheme, {}, body=whole, query=query))


@pytest.mark.parametrize("scheme", TIMED)
def test_a_signature_is_as_old_or_as_early_as_the_tolerance_at_most(scheme: str) -> None:
    usual = 60 if scheme == "linear" else 300  # linear.app/developers/webhooks: "within a minute"
    headers, whole, query = sent(scheme, SEED, body=BODY)
    for skew_s in (-usual, usual):
        assert verify(came(scheme, headers, body=whole, query=query, now=AT + skew_s)) == ID
        beyond = came(scheme, headers, body=whole, query=query, now=AT + skew_s * 1.01)
        with pytest.raises(SignatureError, match="s away from the clock here"):
            verify(beyond)
        assert verify(came(scheme, headers, body=whole, query=query, now=beyond.now, tolerance="6m")) == ID


ANY_TEXT = st.one_of(
    st.text(st.characters()),  # surrogates too: that is how a server hands over bytes that are no UTF-8
    st.sampled_from([str(AT), f"{AT}000", ID, "v1,", "v1,é", "\udcff", "\ud800", "1_0", "９" * 9, "9" * 5000, "", "Basic \udcff", "Basic aGFsbDprZXk=", "Bearer ", "basic é", "v1", "v2", "v3", "a" * 128, "0" * 128]),
    st.lists(st.sampled_from([f"t={AT}", "t=", "t", "v1=" + "0" * 64, "v1=é", "v1=\udcff", "v0=x", "=", "", "v1,AAAA"]), max_size=12).map(",".join),
    st.sampled_from(["sha256=" + "0" * 64, "sha256=é", "v0=" + "0" * 64, "v0=\ud800"]),
)
NAMES = sorted({name.lower() for row in SCHEMES.values() for name in row.writes} | {"x-api-key", "host", "content-type", "webhook-id", "webhook-timestamp", "idempotency-key", "x-hub-signature", "x-hubspot-signature", "x-hubspot-signature-version", "shopify-hmac-sha256", "x-gogs-signature", "x-twilio-webhooks-signature-settings"})
ANY_HEADERS = st.dictionaries(st.sampled_from(NAMES), st.lists(ANY_TEXT, min_size=1, max_size=2).map(tuple))
JSON_VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([AT, AT * 1000, 10**400, "9" * 400]), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["signature", "timestamp", "token", "webhookTimestamp", "id", "event", "event_id"]), inner, max_size=4))
ANY_BODY = st.one_of(
    st.binary(),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({"signature": st.fixed_dictionaries({"timestamp": JSON_VALUES, "token": JSON_VALUES, "signature": JSON_VALUES})}).map(lambda value: json.dumps(value).encode()),
    st.lists(st.tuples(st.sampled_from(["timestamp", "token", "signature", "a", "%ff", "é"]), st.text(st.characters(exclude_categories=["Cs"])))).map(lambda pairs: urlencode(pairs).encode()),
    st.sampled_from([b"{", b"[" * 5000, b"9" * 5000, b'{"webhookTimestamp": ' + b"9" * 5000 + b"}", b'{"webhookTimestamp": 1e400}', b"&" * 500, b"a&" * 500]),
)


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=2 * settings.default.max_examples)  # type: ignore[union-attr]  # with the profile "wild" 24,000 over all
@given(headers=ANY_HEADERS, body=ANY_BODY, now=st.floats(0, 1e12), method=ANY_TEXT, path=ANY_TEXT, query=ANY_TEXT, public=st.booleans(), right=st.booleans(), form=st.booleans())
def test_verifying_is_total(scheme: str, headers: dict[str, tuple[str, ...]], body: bytes, now: float, method: str, path: str, query: str, public: bool, right: bool, form: bool) -> None:
    more: dict[str, Any] = {"public_url": None} if scheme in WITH_URL and not public else {}
    if form:
        headers = headers | {"content-type": ("application/x-www-form-urlencoded",)}
    try:
        if right and scheme in SIGNING:  # some headers are right: what comes behind them is reached too
            headers = signed(scheme, body=body, url=PUBLIC_URL) | headers
        found = verify(came(scheme, headers, body=body, now=now, method=method, path=path, query=query, **more))
    except SignatureError as exc:
        assert str(exc)
        assert SEED.hex() not in str(exc)
    else:
        assert found is None or re.fullmatch(r"[\x21-\x7e]{1,256}", found)


@pytest.mark.parametrize("scheme", ["linear", "stripe", "slack", "typeform", "pagerduty", "discord"])
@settings(max_examples=100)
@given(body=ANY_BODY)
def test_a_body_that_is_signed_may_be_anything(scheme: str, body: bytes) -> None:
    """What is read in a body only after its signature: with the signature right."""
    try:
        found = verify(came(scheme, signed(scheme, body=body), body=body))
    except SignatureError as exc:
        assert "webhookTimestamp" in str(exc) or "away from the clock" in str(exc)
    else:
        assert found is not None


# --- ids: what a repeat is known by ---

IDS: list[tuple[str, bytes, dict[str, str], str | None]] = [
    ("gitea", BODY, {"x-gitea-delivery": "d-1"}, "d-1"),
    ("gitea", BODY, {"x-forgejo-delivery": "d-2"}, "d-2"),
    ("shopify", BODY, {"x-shopify-webhook-id": "s-1"}, "s-1"),
    ("linear", b'{"webhookTimestamp": 1764000000000}', {"linear-delivery": "l-1"}, "l-1"),
    ("twilio", b"", {"i-twilio-idempotency-token": "t-1"}, "t-1"),
    ("gitlab", BODY, {"idempotency-key": "g-1"}, "g-1"),
    ("stripe", b'{"id": "evt_1", "object": "event"}', {"webhook-id": "w-1"}, "evt_1"),  # the one that is signed counts
    ("stripe", b'{"id": "plug-7", "state": "on"}', {"webhook-id": "w-1"}, "w-1"),  # a device's, not an event's
    ("slack", b'{"type": "event_callback", "event_id": "Ev0PV52K25"}', {}, "Ev0PV52K25"),
    ("pagerduty", b'{"event": {"id": "01BWDWL3NYY7LUFPZCC28QUCMK"}}', {}, "01BWDWL3NYY7LUFPZCC28QUCMK"),
    ("typeform", b'{"event_id": "01H"}', {"idempotency-key": "k-1"}, "01H"),
    ("discord", b'{"id": "787053080478613555", "type": 2}', {}, "787053080478613555"),
    ("gitea", BODY, {}, None),
    ("zoom", BODY, {"webhook-id": "w-1"}, "w-1"),
    ("meta", BODY, {}, None),
    ("basic", BODY, {"idempotency-key": "k-1"}, "k-1"),
]


@pytest.mark.parametrize(("scheme", "body", "own", "id"), IDS, ids=lambda value: str(value)[:30])
def test_each_sender_is_known_by_its_own_id(scheme: str, body: bytes, own: dict[str, str], id: str | None) -> None:
    ids = {"webhook-id", "webhook-timestamp", "x-gitea-delivery", "x-shopify-webhook-id", "linear-delivery", "i-twilio-idempotency-token"}
    headers = {name: value for name, value in signed(scheme, body=body).items() if name not in ids}
    assert verify(came(scheme, headers | {name: (value,) for name, value in own.items()}, body=body)) == id


@pytest.mark.parametrize("scheme", ["stripe", "slack", "zoom", "hubspot", "discord"])
def test_a_copy_of_a_request_whose_time_is_signed_has_the_same_id(scheme: str) -> None:
    def id(at: int, body: bytes) -> str | None:
        headers = {name: value for name, value in signed(scheme, body=body, at=at).items() if not name.startswith("webhook-")}
        return verify(came(scheme, headers, body=body))

    first = id(AT, BODY)
    assert first == id(AT, BODY)
    assert re.fullmatch("sig_[0-9a-f]{32}", str(first))
    assert len({first, id(AT + 1, BODY), id(AT, BODY + b" ")}) == 3


SEALS: list[tuple[str, bytes, bool]] = [  # scheme, body, whether a copy under another id is known by a seal
    ("stripe", BODY, True),
    ("stripe", b'{"id": "evt_1"}', False),  # its id is signed
    ("slack", BODY, True),
    ("slack", b'{"event_id": "Ev0PV52K25"}', False),
    ("zoom", BODY, True),
    ("hubspot", BODY, True),
    ("linear", b'{"webhookTimestamp": 1764000000000}', True),
    ("discord", BODY, True),
    ("discord", b'{"id": "787053080478613555"}', False),
    ("standard-webhooks", BODY, False),
    ("svix", BODY, False),
    ("github", BODY, False),  # signs no time: two requests may be alike
    ("hmac", BODY, False),
    ("bearer", BODY, False),
]


@pytest.mark.parametrize(("scheme", "body", "has_seal"), SEALS, ids=lambda value: str(value)[:30])
def test_a_copy_under_another_id_is_known_where_a_time_is_signed_but_no_id(scheme: str, body: bytes, has_seal: bool) -> None:
    first = came(scheme, signed(scheme, body=body), body=body)
    verify(first)
    assert (seal(first) is not None) is has_seal
    if has_seal:
        copy = came(scheme, signed(scheme, body=body) | {"webhook-id": ("msg_invented",), "linear-delivery": ("invented",)}, body=body)
        assert verify(copy) != verify(first)
        assert seal(copy) == seal(first)
        assert seal(came(scheme, signed(scheme, body=body + b" ", at=AT + 1), body=body + b" ")) != seal(first)


def test_mailguns_id_is_its_token() -> None:
    assert verify(came("mailgun", {}, body=mailgun())) == "tok-1"


# --- senders with ways of their own ---


def mailgun(*, timestamp: Any = str(AT), token: Any = "tok-1", signature: str | None = None) -> bytes:
    right = hmac.digest(SEED.hex().encode(), f"{timestamp}{token}".encode(), "sha256").hex()
    return json.dumps({"signature": {"timestamp": timestamp, "token": token, "signature": signature or right}, "event-data": {}}).encode()


def test_mailgun_may_send_a_number_or_a_form() -> None:
    assert verify(came("mailgun", {}, body=mailgun(timestamp=AT))) == "tok-1"
    fields = json.loads(mailgun())["signature"]
    form = {"content-type": ("application/x-www-form-urlencoded; charset=utf-8",)}
    assert verify(came("mailgun", form, body=urlencode(fields).encode())) == "tok-1"
    with pytest.raises(SignatureError, match="a field came twice in the form"):
        verify(came("mailgun", form, body=urlencode(fields).encode() + b"&token=x"))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{}", "the body holds no signature"),
        (b'{"signature": "x"}', "the body holds no signature"),
        (b"\xff", "the body holds no signature"),
        (mailgun(timestamp=None), "the timestamp in the body is not a number of seconds"),
        (mailgun(timestamp=True), "the timestamp in the body is not a number of seconds"),
        (mailgun(timestamp=-1), "the timestamp in the body is not a number of seconds"),
        (mailgun(timestamp="1e9"), "the timestamp in the body is not a number of seconds"),
        (mailgun(token=["tok-1"]), "the token in the body is not 1 to 256 printable ASCII characters without a blank"),
        (mailgun(token="tok 1"), "the token in the body is not 1 to 256 printable ASCII characters without a blank"),
        (mailgun(signature="0" * 64), "no signature agrees with a secret"),
        (mailgun(signature="é"), "no signature agrees with a secret"),
        (mailgun(timestamp=AT - 301), "the timestamp in the body is +301 s away from the clock here"),
    ],
)
def test_mailguns_signature_is_read_strictly(body: bytes, reason: str) -> None:
    with pytest.raises(SignatureError, match=re.escape(reason)):
        verify(came("mailgun", {}, body=body))


@pytest.mark.parametrize("at_ms", [None, True, "1764000000000", 1764000000000.0, -1, 10**15, [], 10**300])
def test_linears_time_is_a_whole_number_in_the_body(at_ms: Any) -> None:
    body = json.dumps({"webhookTimestamp": at_ms}).encode()
    with pytest.raises(SignatureError, match="webhookTimestamp in the body is not a number of milliseconds"):
        verify(came("linear", signed("linear", body=body), body=body))


FORM: dict[str, tuple[str, ...]] = {"content-type": ("application/x-www-form-urlencoded",)}


@pytest.mark.parametrize("public_url", [PUBLIC_URL, PUBLIC_URL + "/", URL, f"{PUBLIC_URL}{PATH}", "https://hooks.example.com:443", None])
@pytest.mark.parametrize("scheme", WITH_URL)
def test_an_address_may_be_written_as_a_host_or_whole_or_not_at_all(scheme: str, public_url: str | None) -> None:
    headers = signed(scheme, url=URL.replace(".com/", ".com:443/") if public_url and ":443" in public_url else URL, body=b"a=1") | FORM | {"host": ("hooks.example.com",)}
    assert verify(came(scheme, headers, body=b"a=1", public_url=public_url)) == ID


ELSEWHERE = [("/hooks/other", QUERY, "POST"), (PATH, "room=2", "POST"), (PATH, "", "POST")]


@pytest.mark.parametrize(("scheme", "path", "query", "method"), [*((scheme, *way) for scheme in WITH_URL for way in ELSEWHERE), ("hubspot", PATH, QUERY, "PUT")])
def test_a_signature_counts_for_its_own_address(scheme: str, path: str, query: str, method: str) -> None:
    with pytest.raises(SignatureError, match="no signature agrees with a secret"):
        verify(came(scheme, signed(scheme, body=b"a=1") | FORM, body=b"a=1", path=path, query=query, method=method))


@pytest.mark.parametrize("scheme", WITH_URL)
@pytest.mark.parametrize(("host", "reason"), [(("a b",), "host is not the name of a host"), (("",), "host is not"), ((), "host came 0 times"), (("a.example", "b.example"), "host came 2 times"), (("[::1",), "host is not")])
def test_without_a_public_url_there_has_to_be_one_host(scheme: str, host: tuple[str, ...], reason: str) -> None:
    with pytest.raises(SignatureError, match=reason):
        verify(came(scheme, signed(scheme, body=b"") | {"host": host}, body=b"", public_url=None))


ADDRESSES = [  # public_url, the hook's path, the address
    ("https://a.example", "/hooks/x", "https://a.example/hooks/x"),
    ("https://a.example/", "/hooks/x", "https://a.example/hooks/x"),
    ("https://a.example?x=1", "/hooks/x", "https://a.example/hooks/x"),
    ("https://a.example/mqtt/", "/hooks/x", "https://a.example/mqtt/hooks/x"),
    ("https://a.example/mqtt/x", "/hooks/x", "https://a.example/mqtt/x"),
    ("https://a.example/mqtt/x?y=1", "/hooks/x", "https://a.example/mqtt/x"),
    ("http://[::1]:8080", "/", "http://[::1]:8080/"),
]


@pytest.mark.parametrize(("public_url", "path", "whole"), ADDRESSES)
def test_a_host_alone_stands_before_the_hooks_own_path(public_url: str, path: str, whole: str) -> None:
    assert address(public_url, path) == whole


def test_a_body_that_twilio_did_not_sign_is_refused() -> None:
    """A signature over the URL alone must not let in any body that is put beside it."""
    headers = signed("twilio", body=b"")
    assert verify(came("twilio", headers, body=b"")) == ID
    with pytest.raises(SignatureError, match="bodySHA256 came 0 times in the query"):
        verify(came("twilio", headers, body=BODY))
    query = twilio_url(URL, BODY).partition("?")[2]
    headers = signed("twilio", url=f"{PUBLIC_URL}{PATH}?{query}")
    assert verify(came("twilio", headers, query=query)) == ID
    assert verify(came("twilio", headers | FORM, query=query)) == ID
    for body in (b"", b"x", BODY + b" "):
        with pytest.raises(SignatureError, match="no signature agrees"):
            verify(came("twilio", headers | FORM, query=query, body=body))
    with pytest.raises(SignatureError, match="bodySHA256 came 2 times"):
        verify(came("twilio", headers, query=f"{query}&bodySHA256=x"))


def test_twilios_fields_are_sorted_and_each_pair_counts_once() -> None:
    """twilio-python, request_validator.py: sorted names, then the sorted set of each one's values."""
    right = base64.b64encode(hmac.digest(SEED.hex().encode(), f"{URL}A1A2BxÜé".encode(), "sha1")).decode()
    headers = {"x-twilio-signature": (right,)} | FORM
    for body in ("B=x&A=2&A=1&%C3%9C=%C3%A9", "A=1&A=2&A=1&B=x&Ü=é"):
        assert verify(came("twilio", headers, body=body.encode())) is None
    with pytest.raises(SignatureError, match="the form can't be read, or holds more than 200 fields"):
        verify(came("twilio", headers, body=b"a=1&" * 201))


def test_twilios_shared_keys_may_sign_with_sha256() -> None:
    # twilio-python 9.13, request_validator.py, get_signature_algorithm
    right = base64.b64encode(hmac.digest(SEED.hex().encode(), URL.encode(), "sha256")).decode()
    settings_header = "x-twilio-webhooks-signature-settings"
    assert verify(came("twilio", {"x-twilio-signature": (right,), settings_header: ("key=k1, algorithm=HMAC_SHA256",)}, body=b"")) is None
    for value in ("key=k1", "algorithm=HMAC_SHA1", "algorithm=none", ""):
        with pytest.raises(SignatureError, match="no signature agrees"):
            verify(came("twilio", {"x-twilio-signature": (right,), settings_header: (value,)}, body=b""))


def hubspot_old(version: str, *, method: str = "POST", url: str = URL, body: bytes = BODY) -> dict[str, tuple[str, ...]]:
    start = b"" if version == "v1" else (method + url).encode()
    return {"x-hubspot-signature": (hashlib.sha256(SEED.hex().encode() + start + body).hexdigest(),), "x-hubspot-signature-version": (version,)}


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_hubspots_older_versions_are_taken_where_no_tolerance_is_asked_for(version: str) -> None:
    assert verify(came("hubspot", hubspot_old(version))) is None
    with pytest.raises(SignatureError, match="no signature agrees"):
        verify(came("hubspot", hubspot_old(version), body=BODY + b" "))
    with pytest.raises(SignatureError, match="x-hubspot-request-timestamp came 0 times"):
        verify(came("hubspot", hubspot_old(version), tolerance="5m"))


def test_hubspots_newest_version_counts_where_it_came() -> None:
    bad = signed("hubspot", b"x" * 32)
    with pytest.raises(SignatureError, match="no signature agrees"):
        verify(came("hubspot", bad | hubspot_old("v1")))
    for version in ("v4", "", "é"):
        with pytest.raises(SignatureError, match="x-hubspot-signature-version is neither v1 nor v2"):
            verify(came("hubspot", hubspot_old("v1") | {"x-hubspot-signature-version": (version,)}))


def test_hubspot_signs_some_of_the_signs_in_a_url_decoded() -> None:
    # developers.hubspot.com, "Validating requests", v3, step 2
    headers = signed("hubspot", url=f"{PUBLIC_URL}{PATH}?a=b:c&d=%20")
    assert verify(came("hubspot", headers, query="a=b%3Ac&d=%20")) == ID
    assert verify(came("hubspot", headers, query="a=b%3ac&d=%20")) == ID


@pytest.mark.parametrize("name", ["X-Gitea-Signature", "X-Forgejo-Signature", "X-Gogs-Signature"])
def test_gitea_forgejo_and_gogs_are_one_scheme(name: str) -> None:
    signature = signed("gitea")["x-gitea-signature"]
    assert verify(came("gitea", {name.lower(): signature})) is None
    with pytest.raises(SignatureError, match="no signature agrees"):
        verify(came("gitea", {name.lower(): ("sha256=" + signature[0],)}))


def test_shopifys_newer_header_counts_too() -> None:
    assert verify(came("shopify", {"shopify-hmac-sha256": signed("shopify")["x-shopify-hmac-sha256"], "shopify-webhook-id": ("s-2",)})) == "s-2"


def test_meta_takes_no_sha1() -> None:
    sha1 = hmac.digest(SEED.hex().encode(), BODY, "sha1").hex()
    with pytest.raises(SignatureError, match="x-hub-signature-256 came 0 times"):
        verify(came("meta", {"x-hub-signature": (f"sha1={sha1}",)}))


def test_pagerduty_may_sign_with_several_keys() -> None:
    value = signed("pagerduty")["x-pagerduty-signature"][0]
    assert verify(came("pagerduty", {"x-pagerduty-signature": (f"v2=0,v1={'0' * 64}, {value}",)})) is None
    with pytest.raises(SignatureError, match="x-pagerduty-signature holds more than 8 signatures"):
        verify(came("pagerduty", {"x-pagerduty-signature": (",".join([value] * (MAX_SIGNATURES + 1)),)}))


def test_svix_may_name_its_headers_as_the_standard_does() -> None:
    own = signed("svix")
    standard = {name.replace("svix-", "webhook-"): value for name, value in own.items() if name.startswith("svix-")}
    assert verify(came("svix", standard)) == ID
    with pytest.raises(SignatureError, match="svix-id came 0 times"):
        verify(came("svix", standard | {"svix-signature": ("v1,AAAA",)}))


def gitlab(headers: Mapping[str, tuple[str, ...]], *secrets: str) -> str | None:
    how = TypeAdapter(Verify).validate_python("gitlab")
    return verify(Evidence(how=how, keys=keys("gitlab", secrets), method="POST", path="/", query="", headers=headers, body=BODY, now=AT))


def test_gitlabs_signing_token_asks_for_a_signature_and_its_secret_token_for_itself() -> None:
    signing, token = new_secret(SEED), "correct-horse-battery"
    signature = {name.lower(): (value,) for name, value in sign("gitlab", keys("gitlab", [signing]), id=ID, now=AT, body=BODY)}
    plain = {"x-gitlab-token": (token,)}
    assert gitlab(signature, signing) == gitlab(signature | plain, signing) == gitlab(signature, token, signing) == ID
    assert gitlab(plain, token) == gitlab(plain, signing, token) is None
    for headers, secrets in [(plain, [signing]), ({"x-gitlab-token": (signing,)}, [signing]), ({"x-gitlab-token": (signing,)}, [signing, token]), (signature, [token]), (signature | plain, [signing[:-3] + "AA=", token])]:
        with pytest.raises(SignatureError):
            gitlab(headers, *secrets)
    with pytest.raises(ValueError, match="this secret has 3 bytes, expected 24 to 64"):
        keys("gitlab", ["whsec_AAAA"])


def test_discords_signature_is_hexadecimal_without_blanks() -> None:
    headers = signed("discord")
    value = headers["x-signature-ed25519"][0]
    assert verify(came("discord", headers | {"x-signature-ed25519": (value.upper(),)})) == ID
    for other in (value + " ", " ".join(value[n : n + 2] for n in range(0, 128, 2)), value[:-1], "0" * 128, "é" * 128):
        with pytest.raises(SignatureError, match="no signature agrees"):
            verify(came("discord", headers | {"x-signature-ed25519": (other,)}))


# --- tokens ---


def judged(how: Any, secret: str, headers: Mapping[str, tuple[str, ...]], query: str = "") -> str | None:
    rule = TypeAdapter(Verify).validate_python(how)
    return verify(Evidence(how=rule, keys=keys(rule.scheme, [secret]), method="POST", path="/", query=query, headers=headers, body=b"", now=AT))


def basic(text: bytes, word: str = "Basic") -> dict[str, tuple[str, ...]]:
    return {"authorization": (f"{word} {base64.b64encode(text).decode()}",)}


def test_basic_takes_user_and_password() -> None:
    # RFC 7617 section 2: the password may hold colons
    for word in ("Basic", "basic", "BASIC"):
        assert judged("basic", "hall:correct:horse", basic(b"hall:correct:horse", word)) is None
    assert judged("basic", "hall:Tür-zu-ä", basic("hall:Tür-zu-ä".encode("latin-1"))) is None
    for headers in (basic(b"hall:correct"), basic(b"hall:correct:horse\n"), {"authorization": ("Basic hall:correct:horse",)}, {"authorization": ("Basic é",)}, {"authorization": ("Basic",)}):
        with pytest.raises(SignatureError, match="the token agrees with no secret"):
            judged("basic", "hall:correct:horse", headers)
    with pytest.raises(SignatureError, match="authorization is not user and password"):
        judged("basic", "hall:correct:horse", {"authorization": ("Bearer hall:correct:horse",)})


@pytest.mark.parametrize("secret", ["", "hall", ":correct-horse", "hall:"])
def test_user_and_password_have_to_be_both(secret: str) -> None:
    with pytest.raises(ValueError, match='expected user and password as "user:password"'):
        keys("basic", [secret])


def test_a_token_in_the_query_comes_once_and_is_decoded() -> None:
    how = {"scheme": "query", "param": "token"}
    assert judged(how, "correct horse&é", {}, "a=1&token=correct+horse%26%C3%A9&b") is None
    for query, reason in [
        ("", "the query holds token 0 times, expected once"),
        ("Token=correct-horse", "the query holds token 0 times"),
        ("token=correct-horse&token=correct-horse", "the query holds token 2 times, expected once"),
        ("token=", "the token agrees with no secret"),
        ("token=correct-horse%ff", "the token agrees with no secret"),
        ("a=1&" * 201, "the query can't be read, or holds more than 200 fields"),
    ]:
        with pytest.raises(SignatureError, match=reason):
            judged(how, "correct-horse", {}, query)


def test_a_token_that_is_not_ascii_may_come_in_either_encoding() -> None:
    """Some clients write headers in UTF-8, some in Latin-1, which a server hands over as surrogates."""
    header = {"scheme": "header", "header": "X-Api-Key"}
    for came_as in ("geheïm-geheïm", b"gehe\xefm-gehe\xefm".decode("utf-8", "surrogateescape")):
        assert judged(header, "geheïm-geheïm", {"x-api-key": (came_as,)}) is None
    for other in ("geheim-geheim", "gehe?m-gehe?m", "\ud800"):
        with pytest.raises(SignatureError):
            judged(header, "geheïm-geheïm", {"x-api-key": (other,)})
    assert judged(header, "密码-密码-密码", {"x-api-key": ("密码-密码-密码",)}) is None


# --- what the config may say ---


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("query", "expected the name of the parameter, as in verify = "),
        ({"scheme": "query", "param": ""}, "expected the name of a query parameter"),
        ({"scheme": "bearer", "param": "token"}, 'param: it doesn\'t go with scheme = "bearer"; did you mean scheme = "query"?'),
        ({"scheme": "slack", "public_url": PUBLIC_URL}, 'public_url: it doesn\'t go with scheme = "slack"; did you mean scheme = "twilio" or "hubspot"?'),
        *(({"scheme": "twilio", "public_url": url}, "expected the address under which the sender calls") for url in ("hooks.example.com", "ftp://a", "https://", "https://a b", "https://u:p@a", "https://a#b", "")),
    ],
)
def test_a_way_to_verify_that_doesnt_fit_together_is_refused(written: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        TypeAdapter(Verify).validate_python(written)


@pytest.mark.parametrize("key", ["0" * 63, "0" * 65, "g" * 64, "0 " * 32, "whsec_AAAA"])
def test_discords_key_is_hexadecimal(key: str) -> None:
    with pytest.raises(ValueError, match="expected the application's public key, 64 hexadecimal digits"):
        keys("discord", [key])
