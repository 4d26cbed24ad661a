"""Signatures: ours and the official library's agree, and whatever comes, verifying returns or raises SignatureError."""

import base64
import json
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from standardwebhooks.webhooks import Webhook

from bridge.errors import SignatureError
from bridge.rules.signing import MAX_SIGNATURES, Evidence, Verification, Verify, keys, new_secret, sign, standard_key, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # Standard Webhooks' own tests
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
ID, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

VECTORS_FILE = Path(__file__).parents[2].parent / "shared" / "data" / "signature-vectors.json"
SCHEMES_THERE = {"standard-webhooks": "standard-webhooks", "bearer": "bearer", "header-token": "header"}  # the file's names, and ours
VECTORS = [case for case in json.loads(VECTORS_FILE.read_text()) if case["scheme"] in SCHEMES_THERE] if VECTORS_FILE.exists() else []

KEYS = st.binary(min_size=24, max_size=64)
IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=256)
BODIES = st.one_of(st.binary(), st.text().map(str.encode))


def evidence(headers: Mapping[str, Sequence[str]], *, how: Any = "standard-webhooks", secrets: Sequence[str] = (SECRET,), body: bytes = BODY, now: float = AT) -> Evidence:
    rule = TypeAdapter(Verify).validate_python(how)
    return Evidence(how=rule, keys=keys(rule.scheme, secrets), headers=headers, body=body, now=now)


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


@given(st.lists(KEYS, min_size=1, max_size=3), IDS, st.integers(0, 10**11), BODIES, st.floats(-300, 300))
def test_what_we_sign_we_verify_with_any_one_of_the_secrets(secret_keys: list[bytes], id: str, at: int, body: bytes, skew_s: float) -> None:
    headers = given_headers(sign("standard-webhooks", secret_keys, id=id, now=at, body=body))
    for key in secret_keys:
        assert verify(evidence(headers, secrets=[new_secret(key)], body=body, now=at + skew_s)) == id


@given(KEYS, KEYS, IDS, BODIES)
def test_another_key_body_or_id_is_refused(key: bytes, another: bytes, id: str, body: bytes) -> None:
    headers = given_headers(sign("standard-webhooks", [key], id=id, now=AT, body=body))
    wrong = [evidence(headers, secrets=[new_secret(key)], body=body + b" "), evidence(headers | {"webhook-id": [id + "x"]}, secrets=[new_secret(key)], body=body)]
    wrong += [evidence(headers, secrets=[new_secret(another)], body=body)] if another != key else []
    wrong += [evidence(headers | {"webhook-timestamp": [str(AT + 1)]}, secrets=[new_secret(key)], body=body)]
    for one in wrong:
        with pytest.raises(SignatureError):
            verify(one)


# The official library


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


@pytest.mark.skipif(not VECTORS_FILE.exists(), reason="the shared vectors are not beside this project")
@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["id"])
def test_a_published_vector_is_accepted_or_refused_as_it_says(case: dict[str, Any]) -> None:
    scheme = SCHEMES_THERE[case["scheme"]]
    options = {"tolerance": f"{case['tolerance']}s"} if case["tolerance"] else {}
    how = Verification.model_validate({"scheme": scheme, **case.get("options", {}), **options})
    key = standard_key(case["secret"]) if scheme == "standard-webhooks" else case["secret"].encode()
    headers = {name.lower(): [value] for name, value in case["headers"].items()}
    came = Evidence(how=how, keys=[key], headers=headers, body=case["body"].encode(), now=case["now"] or 0)
    if case["valid"]:
        verify(came)
        return
    with pytest.raises(SignatureError):
        verify(came)


# Verifying

REFUSED = [  # headers, the reason in the log, source
    (signed(id="a b"), "webhook-id is not 1 to 256 printable characters", "Standard Webhooks 1.0.0, webhook-id"),
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
        ("none", {"webhook-id": ["a\nb"]}, "webhook-id is not 1 to 256 printable characters"),
        ("none", {"idempotency-key": ["a", "b"]}, "idempotency-key came 2 times"),
    ],
)
def test_a_wrong_token_or_a_bad_id_is_refused(how: Any, headers: dict[str, list[str]], reason: str) -> None:
    with pytest.raises(SignatureError, match=reason):
        verify(evidence(headers, how=how, secrets=["0123456789"]))


ANY_TEXT = st.one_of(
    st.text(st.characters()),  # surrogates too: that is how a server hands over bytes that are no UTF-8
    st.sampled_from([SIGNATURE, str(AT), ID, "Bearer 0123456789", "v1,", "v1,é", "v1,\udcff", "\udcff", "1_0", "９" * 9, "9" * 5000]),
    st.lists(st.sampled_from([SIGNATURE, "v1,", "v1a,x", "", "\ud800"]), max_size=12).map(" ".join),
)
ANY_HEADERS = st.dictionaries(st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "authorization", "x-api-key", "idempotency-key"]), st.lists(ANY_TEXT, max_size=2))


@pytest.mark.parametrize("how", ["standard-webhooks", "bearer", {"scheme": "header", "header": "X-Api-Key"}, "none"], ids=str)
@given(headers=ANY_HEADERS, body=st.binary(), now=st.floats(0, 1e12))
def test_verifying_is_total(how: Any, headers: dict[str, list[str]], body: bytes, now: float) -> None:
    try:
        found = verify(evidence(headers, how=how, body=body, now=now))
    except SignatureError as exc:
        assert str(exc)
        assert SECRET not in str(exc)
    else:
        assert found is None or re.fullmatch(r"[\x21-\x7e]{1,256}", found)


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
        ("bearer", "hello", "this secret has 5 bytes, expected at least 8"),
        ("bearer", "1234567", "this secret has 7 bytes, expected at least 8"),
        ("header", "", "this secret has 0 bytes, expected at least 8"),
    ],
)
def test_a_secret_that_is_unfit_is_refused_without_being_shown(scheme: str, secret: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        keys(scheme, [secret])
    assert "make one with `mqtthook secret new`" in str(caught.value)
    assert not secret.removeprefix("whsec_") or secret not in str(caught.value)


def test_a_scheme_without_its_secret_is_refused_and_none_needs_none() -> None:
    with pytest.raises(ValueError, match='standard-webhooks needs a secret: make one with `mqtthook secret new`, or write out "none"'):
        keys("standard-webhooks", [])
    assert keys("none", ["ignored"]) == ()
    assert keys("bearer", ["12345678"]) == (b"12345678",)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"scheme": "header"}, "expected the name of the header"),
        ({"scheme": "header", "header": "X Api"}, "expected the name of the header"),
        ({"scheme": "header", "header": ""}, "expected the name of the header"),
        ({"scheme": "bearer", "header": "X-Api-Key"}, '`header` goes with scheme = "header" only'),
        ("header", "expected the name of the header"),
        ("gitlub", "Input should be"),
    ],
)
def test_a_way_to_verify_that_doesnt_fit_together_is_refused(written: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(Verify).validate_python(written)
