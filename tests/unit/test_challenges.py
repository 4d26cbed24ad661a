"""Challenges: who may ask is answered as the sender's documents say, and nobody else is echoed."""

import hmac
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import HookError, SignatureError
from bridge.rules.answers import Response
from bridge.rules.challenges import MAX_ECHO, challenged, greeted
from bridge.rules.inbound import Hook, Inbound, evidence_of
from bridge.rules.requests import Request
from bridge.rules.signing import Signing, sign, verify
from bridge.rules.signing.ed25519 import public_of
from tests.unit.test_schemes import ANY_BODY, ANY_HEADERS, ANY_TEXT

AT = 1764000000.0
SECRET, OTHER, TOKEN = "correct-horse-battery", "another-secret", "hub-token-1"


def hook(**rule: Any) -> Hook:
    found = Inbound.model_validate({"verify": "none", "topic": "cmnd/gong/POWER", "secret": [OTHER, SECRET], **rule})
    return Hook(name="gong", rule=found, pattern=found.pattern("gong"), keys=found.verifying_keys())


def request(*, query: str = "", body: Any = b"", headers: dict[str, tuple[str, ...]] | None = None) -> Request:
    return Request(path="/hooks/gong", query=query, headers=headers or {}, body=body if isinstance(body, bytes) else json.dumps(body).encode(), received_at=AT)


def signed(scheme: str, body: Any, key: bytes = SECRET.encode()) -> Request:
    raw = json.dumps(body).encode()
    return request(body=body, headers={name.lower(): (value,) for name, value in sign(Signing(scheme=scheme), [key], id="evt_1", now=AT, body=raw)})


def answered(at: Hook, asked: Request) -> Response | None:
    """Return what a verified request gets as a challenge."""
    evidence = evidence_of(at, "POST", asked, now=AT)
    verify(evidence)
    return challenged(evidence, at.rule.challenge)


# --- signed ones ---


def test_slacks_challenge_is_echoed_as_text() -> None:
    # docs.slack.dev, url_verification
    answer = answered(hook(verify="slack"), signed("slack", {"token": "x", "challenge": "3eZbrw1aBm2rZ<script>", "type": "url_verification"}))
    assert answer == Response(status=200, body=b"3eZbrw1aBm2rZ<script>", content_type="text/plain; charset=utf-8", headers={"X-Content-Type-Options": "nosniff"})


@pytest.mark.parametrize("key", [SECRET, OTHER])
def test_zooms_token_is_answered_with_the_key_that_signed(key: str) -> None:
    # developers.zoom.us, "Validate your webhook endpoint"
    answer = answered(hook(verify="zoom"), signed("zoom", {"payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}, "event": "endpoint.url_validation"}, key.encode()))
    assert answer is not None
    right = hmac.digest(key.encode(), b"qgg8vlvZRS6UYooatFL8Aw", "sha256").hex()
    assert (answer.status, json.loads(answer.body)) == (200, {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": right})


@pytest.mark.parametrize("token", ["v0:1764000000:{}", "", "a" * 257, "a.b", None, 1, "é"])
def test_zooms_token_can_never_be_the_message_of_a_signature(token: Any) -> None:
    with pytest.raises(HookError, match="expected a plainToken of letters and digits") as caught:
        answered(hook(verify="zoom"), signed("zoom", {"payload": {"plainToken": token}, "event": "endpoint.url_validation"}))
    assert caught.value.status == 400


@pytest.mark.parametrize(("body", "status", "answer"), [({"type": 1, "id": "1"}, 200, {"type": 1}), ({"type": 0, "version": 1}, 204, None)])
def test_discords_pings_are_answered(body: Any, status: int, answer: Any) -> None:
    # Discord's developer docs, "Receiving Interactions" and "Webhook Events"
    discord = hook(verify="discord", secret=public_of(b"k" * 32).hex())
    found = answered(discord, signed("discord", body, b"k" * 32))
    assert found is not None
    assert (found.status, json.loads(found.body or b"null")) == (status, answer)
    with pytest.raises(SignatureError):
        answered(discord, signed("discord", body, b"x" * 32))


@pytest.mark.parametrize(
    ("scheme", "body"),
    [
        ("slack", {"type": "event_callback", "challenge": "x"}),
        ("slack", {"type": "url_verification"}),
        ("slack", ["url_verification"]),
        ("zoom", {"event": "meeting.started", "payload": {"plainToken": "x"}}),
        ("discord", {"type": 2}),
        ("discord", {"type": 1, "event": {"type": "APPLICATION_AUTHORIZED"}}),  # an event of Discord's, not a ping
        ("github", {"type": "url_verification", "challenge": "x"}),
    ],
)
def test_what_is_no_challenge_is_a_command(scheme: str, body: Any) -> None:
    discord = scheme == "discord"
    at = hook(verify=scheme, secret=public_of(b"k" * 32).hex() if discord else SECRET)
    assert answered(at, signed(scheme, body, b"k" * 32 if discord else SECRET.encode())) is None


@pytest.mark.parametrize("challenge", ["", "x" * (MAX_ECHO + 1)])
def test_an_echo_is_bounded(challenge: str) -> None:
    with pytest.raises(HookError, match=f"expected a challenge of 1 to {MAX_ECHO} characters"):
        answered(hook(verify="slack"), signed("slack", {"challenge": challenge, "type": "url_verification"}))


# --- those the config asks for ---

META = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="


def test_metas_greeting_is_answered_to_whoever_knows_the_token() -> None:
    # Meta for Developers, "Webhooks, Getting Started", "Verification Requests"
    meta = hook(verify="meta", verify_token=TOKEN)
    answer = greeted(meta, "GET", request(query=META + TOKEN))
    assert answer is not None
    assert (answer.status, answer.body, answer.content_type) == (200, b"1158201444", "text/plain; charset=utf-8")
    for query in (META, META + "x", META + TOKEN + "&hub.verify_token=x", META + "%ff"):
        with pytest.raises(SignatureError, match=r"hub.verify_token is not the verify_token") as caught:
            greeted(meta, "GET", request(query=query))
        assert caught.value.status == 403
        assert TOKEN not in str(caught.value)
    assert greeted(meta, "GET", request(query="hub.mode=unsubscribe")) is None
    assert greeted(meta, "POST", request(query=META + TOKEN)) is None
    assert greeted(hook(verify="meta"), "GET", request(query=META)) is None


def test_microsofts_token_is_echoed_decoded_where_it_is_asked_for() -> None:
    # learn.microsoft.com, "Change notifications", "Notification endpoint validation"
    asked = request(query="validationToken=Validation%3A+Testing+%3Cb%3E")
    answer = answered(hook(challenge="graph"), asked)
    assert answer is not None
    assert (answer.status, answer.body, answer.headers["X-Content-Type-Options"]) == (200, b"Validation: Testing <b>", "nosniff")
    assert answer.content_type.startswith("text/plain")
    assert answered(hook(), asked) is None
    assert answered(hook(challenge="graph"), request(query="validationToken=a&validationToken=b")) is None
    with pytest.raises(SignatureError):
        answered(hook(challenge="graph", verify={"scheme": "query", "param": "token"}), asked)


def test_microsofts_token_has_two_names_in_the_config() -> None:
    assert hook(challenge="msgraph") == hook(challenge="graph")


def test_a_challenge_that_a_scheme_answers_by_itself_may_be_written_out() -> None:
    asked = signed("slack", {"challenge": "3eZbrw1aBm2rZ", "type": "url_verification"})
    assert answered(hook(verify="slack", challenge="slack"), asked) == answered(hook(verify="slack"), asked) is not None
    meta = greeted(hook(verify="meta", verify_token=TOKEN, challenge="meta"), "GET", request(query=META + TOKEN))
    assert meta is not None
    assert meta.body == b"1158201444"
    assert hook(verify="zoom", challenge="zoom").rule.challenge == "zoom"
    assert hook(verify="discord", challenge="discord", secret=public_of(b"k" * 32).hex()).rule.challenge == "discord"


def test_cloudevents_sender_is_let_in_by_name() -> None:
    # cloudevents/spec, http-webhook.md, section 4.1 and 4.2
    at = hook(challenge="cloudevents", methods=["POST", "PUT"])
    answer = greeted(at, "OPTIONS", request(headers={"webhook-request-origin": ("eventgrid.azure.net",)}))
    assert answer is not None
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers == {"Allow": "POST, PUT", "WebHook-Allowed-Origin": "eventgrid.azure.net", "WebHook-Allowed-Rate": "*"}
    assert greeted(hook(), "OPTIONS", request(headers={"webhook-request-origin": ("eventgrid.azure.net",)})) is None
    for origins in ((), ("a", "b"), ("a b",), ("a\r\nX: y",), ("",), ("<script>",)):
        with pytest.raises(HookError, match="expected one WebHook-Request-Origin"):
            greeted(at, "OPTIONS", request(headers={"webhook-request-origin": origins}))


@pytest.mark.parametrize("rule", [{"verify": "slack"}, {"verify": "zoom"}, {"verify": "meta", "verify_token": TOKEN}, {"challenge": "graph"}, {"challenge": "cloudevents"}], ids=str)
@settings(max_examples=100)
@given(method=st.sampled_from(["GET", "OPTIONS", "POST"]), query=ANY_TEXT, token=ANY_TEXT, headers=ANY_HEADERS, body=ANY_BODY)
def test_answering_is_total(rule: dict[str, Any], method: str, query: str, token: str, headers: dict[str, tuple[str, ...]], body: bytes) -> None:
    at = hook(**rule)
    for asked in (query, f"{META}{TOKEN}&hub.challenge={query}", f"{META}{token}", f"validationToken={token}"):
        try:
            came = Request(path="/hooks/gong", query=asked, headers=headers | {"webhook-request-origin": (token,)}, body=body, received_at=AT)
            answer = greeted(at, method, came) or challenged(evidence_of(at, method, came, now=AT), rule.get("challenge"))
        except (SignatureError, HookError) as exc:
            assert str(exc)
        else:
            assert answer is None or len(answer.body) <= 4 * MAX_ECHO


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"verify_token": TOKEN}, 'verify_token: it goes with verify = "meta"'),
        ({"verify": "meta", "verify_token": ""}, "this secret is empty"),
        ({"challenge": "slack"}, 'challenge: "slack" goes with verify = "slack", which answers it by itself; here it is "none"'),
        ({"verify": "zoom", "challenge": "discord"}, 'challenge: "discord" goes with verify = "discord", which answers it by itself; here it is "zoom"'),
        ({"verify": "meta", "challenge": "meta"}, 'challenge: "meta" needs `verify_token`, by which Meta shows that it asks'),
        ({"challenge": "azure"}, "Input should be 'graph', 'cloudevents', 'slack', 'zoom', 'discord' or 'meta'"),
    ],
)
def test_what_doesnt_fit_is_a_config_error(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        hook(**rule)
