"""Why a signature is refused, for a person: what was tried, and under which it would be right.

Every guess is one that people make, and their number is bounded. It is for whoever holds the secret already; nothing of this
is ever said to a caller. No hint holds a secret or a right signature.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from bridge.errors import SignatureError, UnusableId
from bridge.rules.signing.macs import Mac
from bridge.rules.signing.reading import from_base64, json_in, text_key
from bridge.rules.signing.standard import standard_key
from bridge.rules.signing.table import SCHEMES, keys, verify
from bridge.rules.signing.urls import BODY_HASH, HUBSPOT
from bridge.rules.signing.ways import Evidence, Verification
from bridge.rules.units import MAX_DURATION_S, duration_text

MAX_GUESSED_BODY = 1 << 20  # bytes; a larger one is taken as it is: guessing over it would take seconds

MAX_PREFIX = 32  # what the config takes

_TOKENS = ("bearer", "basic", "header", "query", "gitlab")
_SECONDS_AWAY = re.compile(r"(.+) is ([+-]\d+) s away from the clock here")
_CAME = re.compile(r"(\S+) came (\d+) times, expected once")


def hints(evidence: Evidence, secrets: Sequence[str]) -> list[str]:
    """Return what may be wrong with a refused request, the likeliest first; *secrets* are the hook's, as they are written."""
    whenever, refusal = _without_time(evidence), _refusal(evidence)
    if refusal is None:
        return []
    reason = str(refusal)
    if isinstance(refusal, UnusableId):
        return ["the signature is right, but the id that came with it can't be used, and is answered 400: send another, or none"]
    if _accepts(whenever):
        return list(_of_time(reason))
    found = [*_of_headers(evidence, reason), *_of_secrets(whenever, secrets), *_of_bodies(whenever), *_of_tokens(evidence, secrets)]
    found += [*_of_macs(evidence, secrets), *_of_schemes(whenever, secrets), *_of_addresses(whenever)]
    return list(dict.fromkeys(found)) or [f"none of the usual things: another secret, or another body than these {len(evidence.body)} bytes was signed"]


def _without_time(evidence: Evidence) -> Evidence:
    """Return the same request where its time doesn't count."""
    how = evidence.how
    timeless = "tolerance" not in SCHEMES[how.scheme].options or (how.scheme == "hubspot" and HUBSPOT.lower() not in evidence.headers)
    return evidence if timeless else replace(evidence, how=how.model_copy(update={"tolerance": MAX_DURATION_S}))


def _refusal(evidence: Evidence) -> SignatureError | ValueError | None:
    try:
        verify(evidence)
    except (SignatureError, ValueError) as exc:  # a guessed key may be none
        return exc
    return None


def _accepts(evidence: Evidence) -> bool:
    return _refusal(evidence) is None


# --- time ---


def _of_time(reason: str) -> Iterator[str]:
    if found := _SECONDS_AWAY.fullmatch(reason):
        age_s = int(found[2])
        which = f"{duration_text(age_s)} old" if age_s > 0 else f"{duration_text(-age_s)} ahead of the clock here"
        yield f"the signature is right, but {found[1]} is {which}: a clock is wrong, here or there (`timedatectl`), or it is an old request; of a log, give its time with --at"


# --- headers ---


def _of_headers(evidence: Evidence, reason: str) -> Iterator[str]:
    if (found := _CAME.fullmatch(reason)) is None:
        return
    name, times = found[1], int(found[2])
    if times > 1:
        yield f"{name} came {times} times: one of them was added on the way, by a proxy"
        return
    others = [scheme for scheme, row in SCHEMES.items() if scheme != evidence.how.scheme and row.writes and row.writes[0].lower() in evidence.headers]
    for scheme in others:
        yield f'the header {SCHEMES[scheme].writes[0]} came: that is how verify = "{scheme}" signs'
    if not others:
        came = ", ".join(sorted(evidence.headers)) or "none at all"
        yield f"no header {name} came: the sender doesn't sign, or a proxy took it away; these came: {came[:400]}"


# --- secrets ---


def _of_secrets(evidence: Evidence, secrets: Sequence[str]) -> Iterator[str]:
    for what, key in _other_keys(evidence.how.scheme, secrets):
        if _accepts(replace(evidence, keys=[key])):
            yield f"the signature is right {what}"


def _other_keys(scheme: str, secrets: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the keys that others make of the same secrets, each with what is different."""
    for secret in secrets:
        for ending, name in (("\n", "a newline"), ("\r\n", "a carriage return and newline"), (" ", "a blank")):
            yield f"for the secret with {name} at its end: the sender has that in its secret too", text_key(secret + ending)
        if secret != secret.strip():
            yield "for the secret without the blanks around it: take them away", text_key(secret.strip())
        for quote in "\"'":
            if secret[:1] == secret[-1:] == quote:
                yield "for the secret without the quotes around it: take them away", text_key(secret[1:-1])
        plain = secret.removeprefix("whsec_")
        if SCHEMES[scheme].key is standard_key:
            yield "for the secret's text: the sender doesn't decode the base64 in it", text_key(secret)
            yield "for the secret's text without whsec_: the sender doesn't decode the base64 in it", text_key(plain)
        if SCHEMES[scheme].key is not text_key:
            continue
        if plain != secret:
            yield "for the secret without whsec_: the sender takes only what is behind it", text_key(plain)
        yield from ((f"for what the secret is in {letters}: the sender decodes it", key) for letters, key in _decoded(plain))


def _decoded(text: str) -> Iterator[tuple[str, bytes]]:
    if key := from_base64(text):
        yield "base64", key
    with suppress(ValueError):
        yield "hexadecimal", bytes.fromhex(text)


# --- bodies ---


def _of_bodies(evidence: Evidence) -> Iterator[str]:
    for what, body in _other_bodies(evidence.body):
        if body != evidence.body and _accepts(replace(evidence, body=body)):
            yield f"the signature is right for {what}: something changed the body on the way (a proxy, or how it was copied)"
            return


def _other_bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what the body may have been, each with its difference."""
    if len(body) > MAX_GUESSED_BODY:
        return
    yield "these bytes with the newline at the end removed", body.removesuffix(b"\n").removesuffix(b"\r")
    yield "these bytes without the blanks around them", body.strip()
    yield "these bytes with a newline at the end", body + b"\n"
    yield "these bytes with a carriage return and newline at the end", body + b"\r\n"
    yield "these bytes with plain newlines (\\n instead of \\r\\n)", body.replace(b"\r\n", b"\n")
    yield "these bytes with \\r\\n instead of \\n", body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    yield "these bytes without the byte order mark", body.removeprefix(b"\xef\xbb\xbf")
    yield "an empty body", b""
    value = json_in(body)
    if value is not None:
        for ascii in (False, True):
            for what, separators, indent in (("compact", (",", ":"), None), ("spaced", (", ", ": "), None), ("indented", (",", ": "), 2)):
                for order in (False, True):
                    text = json.dumps(value, ensure_ascii=ascii, separators=separators, indent=indent, sort_keys=order)
                    yield f"the same JSON written otherwise ({what}{', keys sorted' if order else ''}{', as ASCII' if ascii else ''})", text.encode()


# --- other ways to sign ---


def _of_tokens(evidence: Evidence, secrets: Sequence[str]) -> Iterator[str]:
    """Yield where a secret stands in the request as it is."""
    if evidence.how.scheme not in _TOKENS:
        return
    for secret in filter(None, secrets):
        for name in (name for name, values in evidence.headers.items() if any(secret in value for value in values)):
            yield f"the secret stands in the header {name}, not as verify = \"{evidence.how.scheme}\" expects it"
        if secret in evidence.query:
            yield "the secret stands in the query: verify = { scheme = \"query\", param = \"...\" }"


def _of_macs(evidence: Evidence, secrets: Sequence[str]) -> Iterator[str]:
    """Yield where in the headers any plain MAC of the body stands."""
    if evidence.how.scheme in _TOKENS or len(evidence.body) > MAX_GUESSED_BODY:
        return
    for secret in secrets:
        for hash in ("sha256", "sha1", "sha512"):
            for encoding in ("hex", "base64"):
                right = Mac(header="", hash=hash, encoding=encoding).of(text_key(secret), evidence.body)
                yield from _holding(evidence, right, hash, encoding)


def _holding(evidence: Evidence, right: str, hash: str, encoding: str) -> Iterator[str]:
    for name, values in evidence.headers.items():
        for value in values:
            folded = value.lower() if encoding == "hex" else value
            if right not in folded:
                continue
            prefix = value.removesuffix(right)
            if value.endswith(right) and len(prefix) <= MAX_PREFIX:
                yield (
                    f'the header {name} holds the {hash} of the body, made with this secret, in {encoding}: '
                    f'verify = {{ scheme = "hmac", header = "{name}", hash = "{hash}", encoding = "{encoding}", prefix = {json.dumps(prefix)} }}'
                )
            else:
                oddity = "in capital letters" if right not in value else "among others"
                yield f"the header {name} holds the {hash} of the body, made with this secret, in {encoding}, but {oddity}"


def _of_schemes(evidence: Evidence, secrets: Sequence[str]) -> Iterator[str]:
    for scheme, row in SCHEMES.items():
        if scheme in (evidence.how.scheme, "none", "hmac") or row.needs or (row.available is not None):
            continue
        try:
            other = keys(scheme, secrets)
        except ValueError:
            continue
        tolerance = MAX_DURATION_S if "tolerance" in row.options and scheme != "hubspot" else None
        way = Verification(scheme=scheme).model_copy(update={"tolerance": tolerance, "public_url": evidence.how.public_url})
        if _accepts(replace(evidence, how=way, keys=other)):
            yield f'the request is right for verify = "{scheme}"'


def _of_addresses(evidence: Evidence) -> Iterator[str]:
    if "public_url" not in SCHEMES[evidence.how.scheme].options:
        return
    hosts = evidence.headers.get("host", ())
    for url in dict.fromkeys((evidence.how.public_url, *(f"{kind}://{host}" for host in hosts for kind in ("https", "http")))):
        for query in (evidence.query, ""):
            for path in (evidence.path, evidence.path + "/", evidence.path.rstrip("/")):
                way = evidence.how.model_copy(update={"public_url": url})
                if _accepts(replace(evidence, how=way, path=path, query=query)):
                    yield f"the signature is right for {url or 'the host'}{path}{'?…' if query else ''}: write the address as the sender has it, public_url = \"https://...\""
                    return
    if evidence.how.scheme == "twilio" and evidence.body and BODY_HASH not in evidence.query:
        yield "Twilio signs the URL and a form's fields: is the Content-Type given, and is public_url the address in Twilio's console?"
