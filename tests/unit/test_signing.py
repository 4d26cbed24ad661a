"""Signatures: ours and the official libraries' agree, and whatever comes, verifying returns or raises SignatureError."""

import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from gidgethub.sansio import validate_event
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from slack_sdk.signature import SignatureVerifier
from standardwebhooks.webhooks import Webhook

from bridge.config.load import load
from bridge.errors import ConfigError, SignatureError, UnusableId
from bridge.rules.outbound import Destination
from bridge.rules.signing import (
    MAX_SIGNATURES,
    OWN_HEADERS,
    SCHEMES,
    Evidence,
    Sign,
    Signing,
    Verify,
    keys,
    new_secret,
    sign,
    signing_keys,
    standard_key,
    verify,
    written_headers,
)
from bridge.rules.signing.ed25519 import public_of
from bridge.rules.vectors import NAMES, hook_of, request_of

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # Standard Webhooks' own tests
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
ID, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

VECTORS_FILE = Path(__file__).parents[2].parent / "shared" / "data" / "signature-vectors.json"
VECTORS = [case for case in json.loads(VECTORS_FILE.read_text()) if case["valid"]] if VECTORS_FILE.exists() else []

DECODED = {"standard-webhooks", "standard-webhooks-v1a"}  # they sign id and time too

KEYS = st.binary(min_size=24, max_size=64)
IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=256)
BODIES = st.one_of(st.binary(), st.text().map(str.encode))


SIGN_WAYS: list[Any] = [
    "standard-webhooks",
    "standard-webhooks-v1a",
    "github",
    "stripe",
    "slack",
    "hmac",
    {"scheme": "hmac", "header": "X-Example-Mac", "hash": "sha512", "encoding": "base64", "prefix": "v2 "},
    {"scheme": "hmac", "hash": "sha1", "prefix": "sha1="},
]
FOR_EACH_KEY = {"standard-webhooks", "standard-webhooks-v1a", "stripe"}  # formats that hold several signatures
SEEDS = st.binary(min_size=32, max_size=32)


def scheme_of(how: Any) -> str:
    return str(how if isinstance(how, str) else how["scheme"])


def secrets_of(how: Any, seed: bytes) -> tuple[str, str]:
    """Return the sender's secret and the receiver's, made of 32 bytes."""
    match scheme_of(how):
        case "standard-webhooks":
            return new_secret(seed), new_secret(seed)
        case "standard-webhooks-v1a":
            return "whsk_" + base64.b64encode(seed).decode(), "whpk_" + base64.b64encode(public_of(seed)).decode()
    return seed.decode("latin-1"), seed.decode("latin-1")


def signed_by(how: Any, seeds: Sequence[bytes], *, id: str = ID, now: float = AT, body: bytes = BODY) -> dict[str, list[str]]:
    """Return the headers, as a receiver sees them, of what one secret from each seed has signed."""
    way = TypeAdapter(Sign).validate_python(how)
    return given_headers(sign(way, signing_keys(way.scheme, [secrets_of(how, seed)[0] for seed in seeds]), id=id, now=now, body=body))


def evidence(headers: Mapping[str, Sequence[str]], *, how: Any = "standard-webhooks", secrets: Sequence[str] = (SECRET,), body: bytes = BODY, now: float = AT) -> Evidence:
    rule = TypeAdapter(Verify).validate_python(how)
    return Evidence(how=rule, keys=keys(rule.scheme, secrets), method="POST", path="/hooks/in", query="", headers=headers, body=body, now=now)


def signed(*, id: str = ID, at: str = str(AT), signature: str = SIGNATURE) -> dict[str, list[str]]:
    return {"webhook-id": [id], "webhook-timestamp": [at], "webhook-signature": [signature]}


def given_headers(headers: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    return {name.lower(): [value] for name, value in headers}


# Signing


def test_a_signature_is_the_specifications_own() -> None:
    # standard-webhooks, libraries/python/tests/test_webhooks.py, test_sign_function
    assert sign("standard-webhooks", keys("standard-webhooks", [SECRET]), id=ID, now=AT + 0.9, body=BODY) == (
        ("webhook-id", ID),
        ("webhook-timestamp", str(AT)),
        ("webhook-signature", SIGNATURE),
    )


def test_a_rotation_signs_with_every_secret_in_one_header() -> None:
    # Standard Webhooks 1.0.0, "Webhook headers": space delimited
    both = dict(sign("standard-webhooks", keys("standard-webhooks", [SECRET, OTHER]), id=ID, now=AT, body=BODY))["webhook-signature"]
    one, other = both.split(" ")
    assert one == SIGNATURE
    assert re.fullmatch(r"v1,[A-Za-z0-9+/]{43}=", other)
    assert one != other


def test_unsigned_requests_still_bear_their_id_and_time() -> None:
    assert sign("none", (), id=ID, now=AT, body=BODY) == (("webhook-id", ID), ("webhook-timestamp", str(AT)))


@pytest.mark.parametrize("how", SIGN_WAYS, ids=str)
@settings(max_examples=40)
@given(seeds=st.lists(SEEDS, min_size=1, max_size=2, unique=True), id=IDS, at=st.integers(0, 10**11), body=BODIES, skew_s=st.floats(-300, 300))
def test_what_we_sign_we_verify(how: Any, seeds: list[bytes], id: str, at: int, body: bytes, skew_s: float) -> None:
    headers = signed_by(how, seeds, id=id, now=at, body=body)
    for seed in seeds if scheme_of(how) in FOR_EACH_KEY else seeds[:1]:
        assert verify(evidence(headers, how=how, secrets=[secrets_of(how, seed)[1]], body=body, now=at + skew_s)) == id


@pytest.mark.parametrize("how", SIGN_WAYS, ids=str)
@settings(max_examples=20)
@given(old=SEEDS, new=SEEDS)
def test_a_receiver_that_holds_either_secret_or_both_follows_a_rotation(how: Any, old: bytes, new: bytes) -> None:
    both = [secrets_of(how, seed)[1] for seed in (old, new)]
    for seeds in ([old], [new, old], [new]):
        assert verify(evidence(signed_by(how, seeds), how=how, secrets=both)) == ID
    in_between = signed_by(how, [new, old])
    for secret in both if scheme_of(how) in FOR_EACH_KEY else both[1:]:
        assert verify(evidence(in_between, how=how, secrets=[secret])) == ID


@pytest.mark.parametrize("how", SIGN_WAYS, ids=str)
@settings(max_examples=20)
@given(seed=SEEDS, another=SEEDS, body=BODIES)
def test_another_key_or_body_is_refused(how: Any, seed: bytes, another: bytes, body: bytes) -> None:
    headers = signed_by(how, [seed], body=body)
    secret = secrets_of(how, seed)[1]
    wrong = [evidence(headers, how=how, secrets=[secret], body=body + b" ")]
    wrong += [evidence(headers, how=how, secrets=[secrets_of(how, another)[1]], body=body)] if another != seed else []
    for one in wrong:
        with pytest.raises(SignatureError, match="no signature agrees with a secret"):
            verify(one)


@pytest.mark.parametrize("how", SIGN_WAYS, ids=str)
def test_each_header_has_to_come_once(how: Any) -> None:
    headers, secret = signed_by(how, [b"k" * 32]), secrets_of(how, b"k" * 32)[1]
    unsigned = {"webhook-id", "webhook-timestamp", "x-github-delivery"} if scheme_of(how) not in DECODED else set()
    for name in headers.keys() - unsigned:
        for values in ([], headers[name] * 2):
            with pytest.raises(SignatureError, match=f"{name} came {len(values)} times, expected once"):
                verify(evidence(headers | {name: values}, how=how, secrets=[secret]))


@pytest.mark.parametrize("how", [how for how in SIGN_WAYS if "tolerance" in SCHEMES[scheme_of(how)].options], ids=str)
@pytest.mark.parametrize(("skew_s", "accepts"), [(300, True), (-300, True), (301, False), (-301, False)])
def test_a_signature_is_as_old_or_as_early_as_the_tolerance_at_most(how: str, skew_s: float, accepts: bool) -> None:
    headers, secret = signed_by(how, [b"k" * 32]), secrets_of(how, b"k" * 32)[1]
    came = evidence(headers, how=how, secrets=[secret], now=AT + skew_s)
    if accepts:
        assert verify(came) == ID
        return
    with pytest.raises(SignatureError, match=re.escape(f"is {skew_s:+} s away from the clock here")):
        verify(came)
    assert verify(evidence(headers, how={"scheme": how, "tolerance": "6m"}, secrets=[secret], now=AT + skew_s)) == ID


@pytest.mark.parametrize("how", SIGN_WAYS, ids=str)
def test_id_and_time_stand_in_every_request_and_each_header_is_reserved(how: Any) -> None:
    way = TypeAdapter(Sign).validate_python(how)
    headers = signed_by(how, [b"k" * 32])
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ([ID], [str(AT)])
    assert written_headers(way) == OWN_HEADERS | headers.keys()


@given(KEYS, IDS, BODIES)
def test_standard_webhooks_signs_id_and_time_too(key: bytes, id: str, body: bytes) -> None:
    headers = given_headers(sign("standard-webhooks", [key], id=id, now=AT, body=body))
    for wrong in ({"webhook-id": [id + "x"]}, {"webhook-timestamp": [str(AT + 1)]}):
        with pytest.raises(SignatureError, match="no signature agrees with a secret"):
            verify(evidence(headers | wrong, secrets=[new_secret(key)], body=body))


# What the senders themselves have published: the way, the secret, the body, the headers

SVIX_PRIVATE = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
SVIX_PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
    b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
PUBLISHED: list[tuple[Any, str, int, bytes, dict[str, str]]] = [
    # svix-webhooks, server/svix-server/src/core/webhook_http_client.rs and cryptography.rs, test_asymmetric_key_signing
    ("standard-webhooks-v1a", SVIX_PRIVATE, AT, BODY, {"webhook-signature": "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="}),
    # docs.github.com, "Validating webhook deliveries", "Testing the webhook payload validation"
    ("github", "It's a Secret to Everybody", AT, b"Hello, World!", {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", "x-github-delivery": ID}),
    # docs.slack.dev, "Verifying requests from Slack"
    ("slack", "8f742231b10e8888abcd99yyyzzz85a5", 1531420618, SLACK_BODY, {"x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503", "x-slack-request-timestamp": "1531420618"}),
    # go-github, github/messages_test.go, TestValidatePayload
    ({"scheme": "hmac", "hash": "sha512", "prefix": "sha512="}, "0123456789abcdef", AT, b'{"yo":true}', {"x-signature": "sha512=8456767023c1195682e182a23b3f5d19150ecea598fde8cb85918f7281b16079471b1329f92b912c4d8bd7455cb159777db8f29608b20c7c87323ba65ae62e1f"}),
    ({"scheme": "hmac", "header": "X-Hub-Signature", "hash": "sha1", "prefix": "sha1="}, "0123456789abcdef", AT, b'{"yo":true}', {"x-hub-signature": "sha1=126f2c800419c60137ce748d7672e77b65cf16d6"}),
]


@pytest.mark.parametrize(("how", "secret", "at", "body", "headers"), PUBLISHED, ids=lambda value: str(value)[:30])
def test_we_sign_as_the_senders_themselves_do(how: Any, secret: str, at: int, body: bytes, headers: dict[str, str]) -> None:
    way = TypeAdapter(Sign).validate_python(how)
    found = sign(way, signing_keys(way.scheme, [secret]), id=ID, now=at, body=body)
    assert {name.lower(): value for name, value in found} == {"webhook-id": ID, "webhook-timestamp": str(at), **headers}


# The official libraries: standardwebhooks, slack_sdk; gidgethub stands for GitHub, which has none in Python


@given(KEYS, IDS, st.text().map(str.encode))
def test_the_official_library_accepts_what_we_sign(key: bytes, id: str, body: bytes) -> None:
    headers = dict(sign("standard-webhooks", [key], id=id, now=time.time(), body=body))
    Webhook(new_secret(key)).verify(body, headers, json_parse=False)


@given(KEYS, KEYS, IDS, st.text().map(str.encode))
def test_the_official_library_accepts_a_rotation(key: bytes, another: bytes, id: str, body: bytes) -> None:
    headers = dict(sign("standard-webhooks", [another, key], id=id, now=time.time(), body=body))
    Webhook(new_secret(key)).verify(body, headers, json_parse=False)


@given(KEYS, IDS, st.integers(0, 10**11), st.text())
def test_we_accept_what_the_official_library_signs(key: bytes, id: str, at: int, body: str) -> None:
    signature = Webhook(new_secret(key)).sign(id, datetime.fromtimestamp(at, UTC), body)
    assert verify(evidence(signed(id=id, at=str(at), signature=signature), secrets=[new_secret(key)], body=body.encode(), now=at)) == id


@settings(max_examples=40)
@given(SEEDS, IDS, BODIES)
def test_gidgethub_accepts_what_we_sign(seed: bytes, id: str, body: bytes) -> None:
    headers = signed_by("github", [seed], id=id, body=body)
    validate_event(body, signature=headers["x-hub-signature-256"][0], secret=secrets_of("github", seed)[1])


@settings(max_examples=40)
@given(st.text(st.characters(min_codepoint=0x21, exclude_categories=["Cs"]), min_size=8), IDS, st.text().map(str.encode))
def test_slacks_own_library_accepts_what_we_sign(secret: str, id: str, body: bytes) -> None:
    headers = dict(sign("slack", signing_keys("slack", [secret]), id=id, now=time.time(), body=body))
    assert SignatureVerifier(secret).is_valid_request(body, headers)


# The schemes that write a signature of the first key into a header, as its sender would: what a published vector holds, we write too.
WRITTEN_BY_VECTORS = {"github", "stripe", "slack", "hmac", "shopify", "typeform", "linear", "zoom", "svix", "twilio", "hubspot"}


OTHERWISE = {"svix-unbranded-headers", "twilio-pub-port-added-http", "twilio-pub-port-added-https", "hubspot-v1-pub", "hubspot-v2-pub-get", "hubspot-v2-pub-post"}


@pytest.mark.skipif(not VECTORS, reason="the shared vectors are not beside this project")
@pytest.mark.parametrize("case", [case for case in VECTORS if case["scheme"] in WRITTEN_BY_VECTORS and case["id"] not in OTHERWISE and "X-Hub-Signature" not in case["headers"]], ids=lambda case: case["id"])
def test_we_sign_as_a_published_vector_does(case: dict[str, Any]) -> None:
    hook, request = hook_of(case, NAMES.get(case["scheme"], case["scheme"])), request_of(case)
    came = {name.lower(): value for name, value in case["headers"].items()}
    stamps = [value for name, value in came.items() if name.endswith("timestamp")] + re.findall(r"t=(\d+)", came.get("stripe-signature", ""))
    at = int((stamps or [str(AT)])[0][:10]) if case["scheme"] != "linear" else AT
    way = Signing.model_validate(hook.verify.model_dump(include={"scheme", "header", "hash", "encoding", "prefix"}))
    id = came.get("svix-id", ID)
    name, value = sign(way, hook.keys, id=id, now=at, body=request.body, method=case["method"], url=case["url"])[2 if case["scheme"] != "svix" else 4]
    signatures = {part.strip() for part in re.split("[, ]", came[name.lower()])}
    parts = re.split("[, ]", value)
    assert all(part in signatures or part.removeprefix(way.prefix) in signatures for part in parts)


# Verifying

REFUSED = [  # headers, the reason in the log, source
    (signed(id="a b"), "webhook-id is not 1 to 256 printable ASCII characters without a blank", "Standard Webhooks 1.0.0, webhook-id"),
    (signed(id=""), "webhook-id is not", "Standard Webhooks 1.0.0, webhook-id"),
    (signed(id="x" * 257), "webhook-id is not", "a bound of our own"),
    (signed(at="1_614_265_330"), "webhook-timestamp is not a number", "int() would take it"),
    (signed(at="１６１４２６５３３０"), "webhook-timestamp is not a number", "int() would take it"),
    (signed(at=" 1614265330"), "webhook-timestamp is not a number", "int() would take it"),
    (signed(at="1614265330.9"), "webhook-timestamp is not a number", "Standard Webhooks 1.0.0: integer"),
    (signed(at="-1614265330"), "webhook-timestamp is not a number", "Standard Webhooks 1.0.0: since epoch"),
    (signed(at="nan"), "webhook-timestamp is not a number", "float() would take it"),
    (signed(at="1" * 13), "webhook-timestamp is not a number", "a bound of our own"),
    (signed(signature=""), "no signature agrees", "Standard Webhooks 1.0.0, webhook-signature"),
    (signed(signature=SIGNATURE.removeprefix("v1,")), "no signature agrees", "Standard Webhooks 1.0.0, webhook-signature"),
    (signed(signature="v2" + SIGNATURE[2:]), "no signature agrees", "Standard Webhooks 1.0.0: other versions"),
    (signed(signature="v1,abc"), "no signature agrees", "binascii.Error in the official library"),
    (signed(signature=SIGNATURE[:10] + "!" + SIGNATURE[10:]), "no signature agrees", "RFC 4648 3.3: what is not of the alphabet"),
    (signed(signature="v1,é"), "no signature agrees", "compare_digest raises on non-ASCII text"),
    (signed(signature=" ".join([SIGNATURE] * (MAX_SIGNATURES + 1))), "more than 8 signatures", "a bound of our own"),
    ({}, "webhook-id came 0 times, expected once", "Standard Webhooks 1.0.0"),
    (signed() | {"webhook-timestamp": []}, "webhook-timestamp came 0 times", "Standard Webhooks 1.0.0"),
    (signed() | {"webhook-signature": [SIGNATURE, SIGNATURE]}, "webhook-signature came 2 times", "RFC 9110 5.3: a list must be announced"),
]


@pytest.mark.parametrize(("headers", "reason", "source"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_request_that_cant_be_trusted_is_refused_with_a_reason_for_the_log(headers: dict[str, list[str]], reason: str, source: str) -> None:
    with pytest.raises(SignatureError, match=re.escape(reason)):
        verify(evidence(headers))


@pytest.mark.parametrize("signature", [SIGNATURE, f"v1,AAAA {SIGNATURE}", f"v1a,AAAA {SIGNATURE} v2,x", " ".join(["v1,x"] * (MAX_SIGNATURES - 1) + [SIGNATURE])])
def test_one_right_signature_among_others_is_enough(signature: str) -> None:
    assert verify(evidence(signed(signature=signature), secrets=[OTHER, SECRET])) == ID


@pytest.mark.parametrize(("skew_s", "tolerance", "accepted"), [(300, "5m", True), (-300, "5m", True), (301, "5m", False), (-301, "5m", False), (301, "10m", True), (2, "1s", False)])
def test_a_request_is_taken_within_the_tolerance_to_both_sides(skew_s: int, tolerance: str, accepted: bool) -> None:
    # Standard Webhooks 1.0.0, "Verifying webhook authenticity": in the past and in the future
    came = evidence(signed(), how={"scheme": "standard-webhooks", "tolerance": tolerance}, now=AT + skew_s)
    if accepted:
        assert verify(came) == ID
        return
    with pytest.raises(SignatureError, match=re.escape(f"webhook-timestamp is {skew_s:+d} s away from the clock here")):
        verify(came)


@pytest.mark.parametrize(
    ("how", "headers", "id"),
    [
        ("bearer", {"authorization": ["Bearer 0123456789"]}, None),
        ("bearer", {"authorization": ["bearer  0123456789 "]}, None),
        ("bearer", {"authorization": ["BEARER 0123456789"], "webhook-id": ["evt_1"]}, "evt_1"),
        ({"scheme": "header", "header": "X-Api-Key"}, {"x-api-key": ["0123456789"], "idempotency-key": ["k-1"]}, "k-1"),
        ({"scheme": "header", "header": "X-Api-Key"}, {"x-api-key": ["0123456789"], "idempotency-key": ["k-1"], "webhook-id": ["evt_1"]}, "evt_1"),
        ("none", {}, None),
        ("none", {"idempotency-key": ["k-1"]}, "k-1"),
    ],
)
def test_a_token_lets_in_and_the_senders_own_id_is_kept(how: Any, headers: dict[str, list[str]], id: str | None) -> None:
    # RFC 6750 section 2.1 and RFC 9110 section 11.1: the scheme's case doesn't matter
    assert verify(evidence(headers, how=how, secrets=["0123456789", "another-token"])) == id


@pytest.mark.parametrize(
    ("how", "headers", "reason"),
    [
        ("bearer", {"authorization": ["Bearer 012345678"]}, "the token agrees with no secret"),
        ("bearer", {"authorization": ["Bearer 0123456789\n"]}, "the token agrees with no secret"),
        ("bearer", {"authorization": ["Bearer"]}, "the token agrees with no secret"),
        ("bearer", {"authorization": ["Basic 0123456789"]}, "authorization is not a bearer token"),
        ("bearer", {"authorization": ["0123456789"]}, "authorization is not a bearer token"),
        ("bearer", {}, "authorization came 0 times"),
        ("bearer", {"authorization": ["Bearer 0123456789"] * 2}, "authorization came 2 times"),
        ({"scheme": "header", "header": "X-Api-Key"}, {"x-api-key": [""]}, "the token agrees with no secret"),
        ({"scheme": "header", "header": "X-Api-Key"}, {}, "x-api-key came 0 times"),
    ],
)
def test_a_wrong_token_is_refused(how: Any, headers: dict[str, list[str]], reason: str) -> None:
    with pytest.raises(SignatureError, match=reason) as refused:
        verify(evidence(headers, how=how, secrets=["0123456789"]))
    assert not isinstance(refused.value, UnusableId)


@pytest.mark.parametrize("how", ["bearer", "none"])
@pytest.mark.parametrize("name", ["webhook-id", "idempotency-key"])
@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (["a\nb"], "is not 1 to 256 printable ASCII characters without a blank"),
        (["a b"], "is not 1 to 256 printable ASCII characters without a blank"),
        ([""], "is not 1 to 256 printable ASCII characters without a blank"),
        (["é"], "is not 1 to 256 printable ASCII characters without a blank"),
        (["x" * 257], "is not 1 to 256 printable ASCII characters without a blank"),
        (["a", "b"], "came 2 times, expected once"),
    ],
)
def test_an_id_that_cant_be_used_is_told_to_who_is_verified(how: str, name: str, ids: list[str], reason: str) -> None:
    right = {"authorization": ["Bearer 0123456789"], name: ids}
    with pytest.raises(UnusableId, match=f"^{name} {reason}$"):
        verify(evidence(right, how=how, secrets=["0123456789"]))


def test_to_who_is_not_verified_nothing_is_told_of_his_id() -> None:
    with pytest.raises(SignatureError) as refused:
        verify(evidence({"authorization": ["Bearer 012345678"], "idempotency-key": ["a b"]}, how="bearer", secrets=["0123456789"]))
    assert not isinstance(refused.value, UnusableId)


STRIPE_V1 = "2" * 64
HMAC_OF_MANY = ",".join(["0" * 64] * (MAX_SIGNATURES + 1))
REFUSED_MACS: list[tuple[Any, dict[str, str], str]] = [
    ("github", {"x-hub-signature-256": "5" * 64}, "no signature agrees"),
    ("github", {"x-hub-signature-256": "sha256=" + "é" * 64}, "no signature agrees"),
    ("github", {"x-hub-signature-256": "sha256=", "x-hub-signature": "RIGHT"}, "no signature agrees"),  # no way down to SHA-1
    ("stripe", {"stripe-signature": ""}, "stripe-signature holds 0 times, expected one"),
    ("stripe", {"stripe-signature": f"t={AT},t={AT},v1={STRIPE_V1}"}, "stripe-signature holds 2 times, expected one"),
    ("stripe", {"stripe-signature": f"t={AT}.0,v1={STRIPE_V1}"}, "the time in stripe-signature is not a number of seconds"),
    ("stripe", {"stripe-signature": f"t= {AT},v1={STRIPE_V1}"}, "the time in stripe-signature is not a number of seconds"),
    ("stripe", {"stripe-signature": f"t={AT}"}, "no signature agrees"),
    ("stripe", {"stripe-signature": f"t={AT},v0={STRIPE_V1},v1,v1=\udcff"}, "no signature agrees"),
    ("stripe", {"stripe-signature": f"t={AT}" + f",v1={STRIPE_V1}" * (MAX_SIGNATURES + 1)}, "stripe-signature holds more than 8 signatures"),
    ("slack", {"x-slack-signature": "v0=" + "0" * 64, "x-slack-request-timestamp": "１" * 9}, "x-slack-request-timestamp is not a number of seconds"),
    ("slack", {"x-slack-signature": "v0=\ud800", "x-slack-request-timestamp": str(AT)}, "no signature agrees"),
    ("hmac", {"x-signature": HMAC_OF_MANY}, "x-signature holds more than 8 signatures"),
    ({"scheme": "hmac", "header": "X-Mac"}, {"x-signature": "0" * 64}, "x-mac came 0 times"),
]


@pytest.mark.parametrize(("how", "headers", "reason"), REFUSED_MACS, ids=lambda value: str(value)[:40])
def test_a_mac_that_cant_be_trusted_is_refused_with_a_reason_for_the_log(how: Any, headers: dict[str, str], reason: str) -> None:
    right = given_headers(sign(Signing(scheme="hmac", hash="sha1", prefix="sha1="), [b"0123456789"], id=ID, now=AT, body=BODY))["x-signature"]
    came = {name: right if value == "RIGHT" else [value] for name, value in headers.items()}
    with pytest.raises(SignatureError, match=re.escape(reason)):
        verify(evidence(came, how=how, secrets=["0123456789"]))


@pytest.mark.parametrize(
    ("headers", "id"),
    [({}, None), ({"x-github-delivery": ["d-1"]}, "d-1"), ({"webhook-id": ["w-1"]}, "w-1"), ({"x-github-delivery": ["d-1"], "webhook-id": ["w-1"]}, "d-1")],
)
def test_a_delivery_of_github_is_known_by_its_own_id(headers: dict[str, list[str]], id: str | None) -> None:
    signature = signed_by("github", [b"k" * 32])["x-hub-signature-256"]
    assert verify(evidence(headers | {"x-hub-signature-256": signature}, how="github", secrets=["k" * 32])) == id


ANY_TEXT = st.one_of(
    st.text(st.characters()),  # surrogates too: that is how a server hands over bytes that are no UTF-8
    st.sampled_from([SIGNATURE, str(AT), ID, "Bearer 0123456789", "v1,", "v1,é", "v1,\udcff", "\udcff", "1_0", "９" * 9, "9" * 5000]),
    st.lists(st.sampled_from([SIGNATURE, "v1,", "v1a,x", "", "\ud800"]), max_size=12).map(" ".join),
    st.lists(st.sampled_from([f"t={AT}", "t=", "t", "v1=" + "0" * 64, "v1=é", "v1=\udcff", "v0=x", "=", ""]), max_size=12).map(",".join),
    st.sampled_from(["sha256=" + "0" * 64, "sha256=é", "v0=" + "0" * 64, "v0=\ud800"]),
)
ANY_NAME = st.sampled_from(
    ["webhook-id", "webhook-timestamp", "webhook-signature", "authorization", "x-api-key", "idempotency-key", "x-hub-signature-256", "x-hub-signature", "x-github-delivery", "stripe-signature", "x-slack-signature", "x-slack-request-timestamp", "x-signature"]
)
ANY_HEADERS = st.dictionaries(ANY_NAME, st.lists(ANY_TEXT, min_size=1, max_size=2))
VERIFY_WAYS = [*(how for how in SIGN_WAYS if how != "standard-webhooks-v1a"), "bearer", {"scheme": "header", "header": "X-Api-Key"}, "none"]


@pytest.mark.parametrize("how", VERIFY_WAYS, ids=str)
@given(headers=ANY_HEADERS, body=st.binary(), now=st.floats(0, 1e12))
def test_verifying_is_total(how: Any, headers: dict[str, list[str]], body: bytes, now: float) -> None:
    try:
        found = verify(evidence(headers, how=how, body=body, now=now))
    except SignatureError as exc:
        assert str(exc)
        assert SECRET not in str(exc)
    else:
        assert found is None or re.fullmatch(r"[\x21-\x7e]{1,256}", found)


@settings(max_examples=50)
@given(signature=st.one_of(ANY_TEXT, st.binary(max_size=80).map(lambda raw: "v1a," + base64.b64encode(raw).decode())), public=SEEDS)
def test_verifying_with_any_public_key_is_total(signature: str, public: bytes) -> None:
    secret = "whpk_" + base64.b64encode(public).decode()
    with pytest.raises(SignatureError, match=r"no signature agrees with a secret|holds more than"):
        verify(evidence(signed(signature=signature), how="standard-webhooks-v1a", secrets=[secret]))


@given(signed_at=ANY_TEXT, signature=ANY_TEXT)
def test_verifying_is_total_where_the_id_is_right(signed_at: str, signature: str) -> None:
    for came in (signed(at=signed_at), signed(signature=signature), signed(at=signed_at, signature=signature)):
        try:
            assert verify(evidence(came)) == ID
        except SignatureError:
            assert came != signed()


# Secrets


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_new_secret_is_one_that_the_specification_takes(size: int) -> None:
    # Standard Webhooks 1.0.0, "Signature scheme": 24 to 64 bytes, base64, whsec_ before it
    secret = new_secret(bytes(range(size)))
    assert secret.startswith("whsec_")
    assert standard_key(secret) == standard_key(secret.removeprefix("whsec_")) == standard_key(secret.rstrip("=")) == bytes(range(size))


@pytest.mark.parametrize(
    ("scheme", "secret", "words"),
    [
        ("standard-webhooks", "whsec_" + base64.b64encode(b"hello").decode(), "this secret has 5 bytes, expected 24 to 64"),
        ("standard-webhooks", new_secret(b"x" * 23), "this secret has 23 bytes"),
        ("standard-webhooks", new_secret(b"x" * 65), "this secret has 65 bytes"),
        ("standard-webhooks", "whsec_", "this secret has 0 bytes"),
        ("standard-webhooks", "correct horse battery staple", "expected whsec_ and base64 after it"),
        ("standard-webhooks", SECRET[:10] + "!" + SECRET[10:], "expected whsec_ and base64 after it"),
        ("standard-webhooks", "whsec_é", "expected whsec_ and base64 after it"),
        ("bearer", "", "this secret is empty"),
        ("header", "", "this secret is empty"),
    ],
)
def test_a_secret_that_is_unfit_is_refused_without_being_shown(scheme: str, secret: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        keys(scheme, [secret])
    assert "make one with `mqtthook secret new`" in str(caught.value)
    assert not secret.removeprefix("whsec_") or secret not in str(caught.value)


def test_a_scheme_without_its_secret_is_refused_and_none_needs_none() -> None:
    with pytest.raises(ValueError, match='standard-webhooks needs a secret: make one with `mqtthook secret new`, or write out sign = "none"'):
        keys("standard-webhooks", [])
    assert keys("none", ["ignored"]) == ()
    assert keys("bearer", ["12345678"]) == (b"12345678",)


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("whsk_" + base64.b64encode(bytes(33)).decode(), r"this key has 33 bytes, expected 32 \(the seed\) or 64"),
        ("whsk_", "this key has 0 bytes"),
        ("whsk_!", "expected whsk_ and base64 after it: an ed25519 private key, 32 or 64 bytes"),
        (SVIX_PRIVATE.removeprefix("whsk_"), "expected whsk_ and base64 after it"),
        (SVIX_PRIVATE.replace("X0dRqSKJ", "aaaaaaaa"), "the second half of this key is not the public key of the first"),  # svix-webhooks, types/mod.rs
        (SVIX_PUBLIC, "expected whsk_ and base64 after it"),
        (SECRET, "expected whsk_ and base64 after it"),
    ],
)
def test_a_private_key_that_is_unfit_is_refused_without_being_shown(secret: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        signing_keys("standard-webhooks-v1a", [secret])
    assert secret[5:20] not in str(caught.value) or len(secret) < 20


@pytest.mark.parametrize(("secret", "words"), [(SVIX_PRIVATE, "expected whpk_ and base64 after it: the sender's ed25519 public key, 32 bytes"), ("whpk_AAAA", "this key has 3 bytes, expected 32")])
def test_a_public_key_that_is_unfit_is_refused(secret: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        keys("standard-webhooks-v1a", [secret])


def test_a_seed_alone_is_the_same_private_key_as_seed_and_public_key() -> None:
    seed = base64.b64decode(SVIX_PRIVATE.removeprefix("whsk_"))[:32]
    assert signing_keys("standard-webhooks-v1a", [SVIX_PRIVATE, "whsk_" + base64.b64encode(seed).decode()]) == (seed, seed)
    assert keys("standard-webhooks-v1a", [SVIX_PUBLIC]) == (public_of(seed),)


def test_stripes_secret_is_text_though_it_begins_like_a_standard_one() -> None:
    # stripe-python, stripe/_webhook.py, WebhookSignature._compute_signature: the key is the whole text, whsec_ included
    assert signing_keys("stripe", [SECRET]) == keys("stripe", [SECRET]) == (SECRET.encode(),)


# What the config may say


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"scheme": "header"}, "expected the name of the header, as in verify = "),
        ({"scheme": "header", "header": "X Api"}, "expected the name of a header"),
        ({"scheme": "header", "header": ""}, "expected the name of a header"),
        ({"scheme": "bearer", "header": "X-Api-Key"}, 'header: it doesn\'t go with scheme = "bearer"; did you mean scheme = "hmac" or "header"?'),
        ({"scheme": "github", "tolerance": "5m"}, 'tolerance: it doesn\'t go with scheme = "github"; did you mean scheme = "standard-webhooks" or "standard-webhooks-v1a" or "svix" or "gitlab" or "stripe"'),
        ("header", "expected the name of the header, as in verify = "),
        ("githup", 'there is no scheme "githup"; did you mean "github"?'),
        (SECRET, "there is no such scheme; known here: standard-webhooks, "),
        (True, "Input should be a valid string"),
    ],
)
def test_a_way_to_verify_that_doesnt_fit_together_is_refused(written: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)) as caught:
        TypeAdapter(Verify).validate_python(written)
    assert SECRET not in str(caught.value.errors(include_input=False))


D = "config.toml:4: destination.d."
REFUSED_SETTINGS = [  # the lines after the url, what is said
    ('sign = "gitub"', D + 'sign: there is no scheme "gitub"; did you mean "github"?'),
    ('sign = "bearer"', D + "sign: there is no such scheme; known here: standard-webhooks, standard-webhooks-v1a, github, stripe, slack, hmac, none"),
    ("sign = false", D + "sign.scheme: False: expected text in quotes"),
    ('sign = ["github"]', D + "sign: expected a table, not a list"),
    ('sign = { header = "X-Signature" }', D + "sign.scheme is missing"),
    ('sign = { scheme = "hmac", headr = "X" }', D + "sign.headr: there is no such key; did you mean `header`?"),
    ('sign = { scheme = "hmac", header = "Host" }', D + "sign.header: 'Host' is written by the bridge itself; choose another, such as 'X-Signature'"),
    ('sign = { scheme = "hmac", header = "Webhook-Id" }', D + "sign.header: 'Webhook-Id' is written by the bridge itself; choose another, such as 'X-Signature'"),
    ('sign = { scheme = "hmac", header = "Content-Type" }', D + "sign.header: 'Content-Type' is written by the bridge itself; choose another, such as 'X-Signature'"),
    ('sign = { scheme = "hmac", header = "X Mac" }', D + 'sign.header: \'X Mac\': expected the name of a header, such as "X-Signature"'),
    ('sign = { scheme = "hmac", hash = "md5" }', D + "sign.hash: 'md5': expected 'sha256', 'sha1' or 'sha512'"),
    ('sign = { scheme = "hmac", encoding = "HEX" }', D + "sign.encoding: 'HEX': expected 'hex' or 'base64'"),
    ('sign = { scheme = "hmac", prefix = "a," }', D + 'sign.prefix: \'a,\': expected at most 32 printable ASCII characters without a comma, such as "sha256="'),
    ('sign = { scheme = "hmac", prefix = "a\\n" }', D + 'sign.prefix: \'a\\n\': expected at most 32 printable ASCII characters without a comma, such as "sha256="'),
    ('sign = { scheme = "github", header = "X-Signature" }', D + 'sign.header: it doesn\'t go with scheme = "github"; did you mean scheme = "hmac"?'),
    ('sign = { scheme = "stripe", tolerance = "5m" }', D + "sign.tolerance: there is no such key; known here: encoding, hash, header, prefix, scheme"),
    ('headers = { x-hub-signature-256 = "a" }\nsign = "github"', D + "headers: the header 'x-hub-signature-256' is written by the bridge itself: it goes with the signature"),
    ('headers = { X-Mac = "a" }\nsign = { scheme = "hmac", header = "x-mac" }', D + "headers: the header 'x-mac' is written by the bridge itself: it goes with the signature"),
    ('secret = ""\nsign = "stripe"', D + "secret: this secret is empty: make one with `mqtthook secret new`"),
    (f'secret = "{SECRET}"\nsign = "standard-webhooks-v1a"', D + "secret: expected whsk_ and base64 after it: an ed25519 private key, 32 or 64 bytes"),
    ('sign = "slack"', "config.toml:2: destination.d.secret: slack needs a secret: make one with `mqtthook secret new`, or write out sign = \"none\" (of a hook: verify = \"none\")"),
    ('sign = "standard-webhooks-v1a"', "config.toml:2: destination.d.secret: standard-webhooks-v1a needs a secret: whsk_ and base64 to sign, whpk_ and base64 to verify"),
]


@pytest.mark.parametrize(("lines", "said"), REFUSED_SETTINGS, ids=lambda value: str(value)[-60:])
def test_a_way_to_sign_that_doesnt_fit_together_is_refused(lines: str, said: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'version = 1\n[destination.d]\nurl = "https://example.com/"\n{lines}\n')
    with pytest.raises(ConfigError) as caught:
        load(config, {})
    problems = [problem.replace(str(config), "config.toml") for problem in caught.value.problems]
    assert [problem for problem in problems if problem == said or "needs a secret" not in problem] == [said]


@pytest.mark.parametrize("scheme", [name for name, scheme in SCHEMES.items() if scheme.outbound])
def test_a_scheme_may_be_written_as_a_name_or_as_a_table(scheme: str) -> None:
    destination = Destination(url="https://example.com/", sign=scheme)  # type: ignore[arg-type]
    assert destination.signing == TypeAdapter(Sign).validate_python({"scheme": scheme}) == Signing(scheme=scheme)
    assert destination.sign == scheme


def test_a_hash_may_be_written_in_capital_letters() -> None:
    for side in (Sign, Verify):
        way = TypeAdapter(side).validate_python({"scheme": "hmac", "hash": "SHA512"})
        assert way == TypeAdapter(side).validate_python({"scheme": "hmac", "hash": "sha512"})


def test_the_headers_of_another_scheme_are_nobodys() -> None:
    headers = {"X-Signature": "a", "Stripe-Signature": "b", "X-GitHub-Event": "ping"}
    assert Destination(url="https://example.com/", sign="github", headers=headers).headers  # type: ignore[arg-type]


def test_without_its_extra_v1a_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    for way in (Sign, Verify):
        with pytest.raises(ValidationError, match=re.escape('ed25519 signatures need an extra: pip install "mqtthook[ed25519]"')):
            TypeAdapter(way).validate_python("standard-webhooks-v1a")


def test_the_library_of_the_extra_is_loaded_only_where_it_is_asked_for() -> None:
    script = "import sys, bridge.config.settings; sys.exit('cryptography' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], timeout=60, check=True)
