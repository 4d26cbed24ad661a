"""Tokens: how one is asked for and what the answer says, by OAuth 2.0's client credentials (RFC 6749 section 4.4).

Pure. No sentence holds anything that the token endpoint wrote, except a code that the RFC knows: it may repeat our secret.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode

from pydantic import SecretStr
from pydantic_core import from_json

from bridge.model import Event, Headers, Reply
from bridge.rules.access import OAuth2, basic_header, bearer_header

MAX_ANSWER = 64 * 1024  # bytes that the outlet reads of any answer: one as long as this is not whole
ASSUMED_S = 3_600.0  # where the answer doesn't say how long a token is good for: RFC 6749's example, and most servers' default
MAX_LIFE_S = 366 * 86_400.0  # of a token that says it is good for longer; keeps a float from overflowing
USED = 0.9  # the share of its life after which a token is renewed: what is under way by then still arrives in time

_ERRORS = {  # RFC 6749 section 5.2
    "invalid_request": "it finds the request malformed",
    "invalid_client": "it doesn't know this `client_id`, or the `client_secret` is wrong",
    "invalid_grant": "it finds the grant invalid",
    "unauthorized_client": "this client may not fetch tokens by itself",
    "unsupported_grant_type": "it doesn't do client credentials",
    "invalid_scope": "it refuses the `scope`",
}
_TOKEN = re.compile(r"[\x21-\x7e]+")  # RFC 6749 appendix A.12, less the blank, which no header's token can hold
_WHOLE = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token, and when it is to be renewed, in the seconds of the clock that was given."""

    text: SecretStr
    renew_at: float

    def header(self) -> Headers:
        """Return the header that shows it."""
        return (bearer_header(self.text),)


def token_request(oauth2: OAuth2) -> Event:
    """Return the request for a token; the client shows itself by HTTP Basic, RFC 6749 section 2.3.1."""
    asked = {"grant_type": "client_credentials"} | ({"scope": oauth2.scope} if oauth2.scope else {})
    who = basic_header(quote_plus(oauth2.client_id), quote_plus(oauth2.client_secret.get_secret_value()))
    headers = (who, ("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "application/json"))
    return Event(method="POST", url=oauth2.token_url, headers=headers, body=urlencode(asked).encode())


def token_of(answer: Reply, *, now: float) -> Token | Reply:
    """Return the token in an answer, or a Reply that says in one sentence why there is none."""
    document = _document(answer.body)
    problem = _problem_of_answer(answer, document) or _problem_of_document(document)
    if problem is not None:
        return Reply(error="oauth", detail=f"the token endpoint gave no token: {problem}", took_s=answer.took_s)
    return Token(text=SecretStr(document["access_token"]), renew_at=now + USED * _life_s(document.get("expires_in")))


def _problem_of_answer(answer: Reply, document: dict[str, Any]) -> str | None:
    if answer.status is None:
        return answer.detail
    if 300 <= answer.status < 400:
        return f"it answers {answer.status}, a redirect, which is not followed: set `token_url` to where it leads"
    if len(answer.body) >= MAX_ANSWER:
        return f"its answer is longer than {MAX_ANSWER // 1024} KiB"
    if not 200 <= answer.status < 300:
        known = _ERRORS.get(str(document.get("error")))
        return f"it answers {answer.status}" + (f" ({document['error']}): {known}" if known else "")
    return None


def _problem_of_document(document: dict[str, Any]) -> str | None:
    token = document.get("access_token")
    if not document:
        return "its answer is no JSON object: is `token_url` right?"
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        return "there is no usable `access_token` in its answer"
    if str(document.get("token_type", "bearer")).lower() != "bearer":  # RFC 6749 section 7.1: an unknown kind must not be used
        return "its token is of another kind than Bearer"
    return None


def _document(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body, or an empty one where there is none."""
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _life_s(told: object) -> float:
    """Return the seconds that `expires_in` tells; some servers write the number as text."""
    if isinstance(told, int | float) and not isinstance(told, bool):
        return float(min(max(told, 0), MAX_LIFE_S))
    return float(told) if isinstance(told, str) and _WHOLE.fullmatch(told) else ASSUMED_S
