"""The outlet's TLS: whom it trusts, who it is, and what it says of a certificate that it refuses."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.edges.outlet import Outlet
from bridge.model import Reply
from tests.rig.certificates import certificate
from tests.rig.misbehaving import OK, Misbehaving, answers, answers_anything, answers_once, never_speaks
from tests.rig.sending import PATH, SECRETS, SHORT_S, access, event, run, seconds, sent


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """How a server's certificate is made."""

    host: str = "localhost"
    by: str | None = "authority"
    begins_in_days: int = -1
    ends_in_days: int = 2


CERTIFICATES = {
    "good": Certificate(),
    "expired": Certificate(begins_in_days=-3, ends_in_days=-1),
    "not yet valid": Certificate(begins_in_days=1),
    "wrong host": Certificate(host="elsewhere.example"),
    "self-signed": Certificate(by=None),
    "stranger's": Certificate(by="stranger"),
}

CAN_NOT_BE_TRUSTED = "the certificate can't be trusted: "

TOLD = {  # OpenSSL's own sentence, X509_verify_cert_error_string(3), and what to do
    "expired": "certificate has expired; it has to be renewed there, unless this machine's clock is wrong",
    "not yet valid": "certificate is not yet valid; it will be valid later, unless this machine's clock is wrong",
    "wrong host": "Hostname mismatch, certificate is not valid for 'localhost'",
    "self-signed": "self-signed certificate; it vouches for itself; if it is meant, name it in `tls.ca`",
    "stranger's": "unable to get local issuer certificate; its authority is unknown here; if it is meant, name it in `tls.ca`",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory with two authorities, the servers' certificates, and two of ours."""
    directory = tmp_path_factory.mktemp("certificates")
    for authority in ("authority", "stranger"):
        certificate(directory, authority, host=f"{authority}.example")
    for name, made in CERTIFICATES.items():
        certificate(directory, name, **vars(made))
    certificate(directory, "me", host="mqtthook.example", by="authority")
    certificate(directory, "somebody", host="somebody.example", by="stranger")
    return directory


def asking(files: Path, name: str, *, clients_of: str | None = None) -> ssl.SSLContext:
    """Return a server's context, which asks for a client's certificate if it says whose."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / f"{name}.pem", files / f"{name}.key")
    if clients_of is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files / f"{clients_of}.pem")
    return context


@pytest.fixture(scope="module")
def servers(files: Path) -> Iterator[dict[str, Misbehaving]]:
    """Give a server for each certificate."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Misbehaving(answers(OK), tls=asking(files, name))) for name in CERTIFICATES}


def tls(files: Path, **keys: str | bool) -> dict[str, str | bool]:
    return {key: str(files / value) if isinstance(value, str) else value for key, value in keys.items()}


# --- whom it trusts ---


def test_a_certificate_of_an_authority_that_is_named_is_trusted(servers: dict[str, Misbehaving], files: Path) -> None:
    """Without this one, the refusals below would prove nothing."""
    [reply] = sent(event(servers["good"].url + PATH, body=b"the body"), tls=tls(files, ca="authority.pem"))
    assert (reply.status, reply.error) == (200, None)
    assert servers["good"].requests[-1].endswith(b"the body")


@pytest.mark.parametrize("name", TOLD)
def test_a_certificate_that_can_not_be_trusted_gets_not_one_byte(servers: dict[str, Misbehaving], files: Path, name: str) -> None:
    [reply] = sent(event(servers[name].url + PATH), tls=tls(files, ca="authority.pem"))
    assert (reply.status, reply.error, reply.detail) == (None, "tls", CAN_NOT_BE_TRUSTED + TOLD[name])
    assert servers[name].requests == []


@pytest.mark.parametrize("name", ["self-signed", "good"])
def test_a_servers_own_certificate_can_be_named_instead_of_an_authority(servers: dict[str, Misbehaving], files: Path, name: str) -> None:
    [reply] = sent(event(servers[name].url), tls=tls(files, ca=f"{name}.pem"))
    assert reply.status == 200


def test_a_certificate_that_expires_meanwhile_is_refused_from_then_on_and_a_new_one_needs_no_restart(files: Path) -> None:
    certificate(files, "ending", by="authority", ends_in_days=3 / 86_400)
    context = asking(files, "ending")

    async def work(server: Misbehaving) -> list[Reply]:
        async with Outlet() as outlet:
            channel = outlet.channel(access(tls=tls(files, ca="authority.pem")))
            replies = [await channel.send(event(server.url), ())]
            while replies[-1].status == 200:
                await asyncio.sleep(0.05)
                replies.append(await channel.send(event(server.url), ()))
            certificate(files, "ending", by="authority")
            context.load_cert_chain(files / "ending.pem", files / "ending.key")
            return [replies[0], replies[-1], await channel.send(event(server.url), ())]

    with Misbehaving(answers_once(OK), tls=context) as server:
        good, ended, renewed = run(work(server))
    assert (good.status, renewed.status) == (200, 200)
    assert (ended.error, ended.detail) == ("tls", CAN_NOT_BE_TRUSTED + TOLD["expired"])


def test_a_certificate_is_not_checked_where_that_is_written_out(files: Path) -> None:
    with Misbehaving(answers(OK), tls=asking(files, "expired")) as server:
        [reply] = sent(event(server.url.replace("localhost", "127.0.0.1")), tls={"verify": False})
        assert reply.status == 200


SEND = """
import asyncio, json, sys
from bridge.edges.outlet import Outlet
from bridge.model import Event
from bridge.rules.access import Access

async def main():
    url, ca = sys.argv[1:]
    async with Outlet() as outlet:
        for access in (Access(), Access(tls={"ca": ca})):
            reply = await outlet.channel(access).send(Event(method="POST", url=url, headers=(), body=b""), ())
            print(json.dumps([reply.status, reply.error]))

asyncio.run(main())
"""


def test_the_systems_authorities_are_trusted_until_another_is_named(files: Path) -> None:
    """In a process of its own, as OpenSSL reads the system's only once."""
    with Misbehaving(answers(OK), tls=asking(files, "good")) as server:
        environment = {**os.environ, "SSL_CERT_FILE": str(files / "authority.pem"), "SSL_CERT_DIR": str(files / "nothing")}
        run = subprocess.run([sys.executable, "-c", SEND, server.url, str(files / "stranger.pem")], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert [json.loads(line) for line in run.stdout.splitlines()] == [[200, None], [None, "tls"]]


# --- who it is ---


@pytest.fixture
def strict(files: Path) -> Iterator[Misbehaving]:
    """Give a server that takes clients of the authority only."""
    with Misbehaving(answers(OK), tls=asking(files, "good", clients_of="authority")) as server:
        yield server


def test_a_server_that_asks_who_we_are_is_shown_the_certificate(strict: Misbehaving, files: Path) -> None:
    [reply] = sent(event(strict.url), tls=tls(files, ca="authority.pem", cert="me.pem", key="me.key"))
    assert reply.status == 200


def test_the_key_may_stand_in_the_certificates_file(strict: Misbehaving, files: Path) -> None:
    (files / "both.pem").write_bytes((files / "me.key").read_bytes() + (files / "me.pem").read_bytes())
    [reply] = sent(event(strict.url), tls=tls(files, ca="authority.pem", cert="both.pem"))
    assert reply.status == 200


SOMEBODY = {"cert": "somebody.pem", "key": "somebody.key"}

OTHERS = [  # the newest TLS that the server speaks, who we are, what is told
    (ssl.TLSVersion.TLSv1_3, {}, "the receiver asks who we are: give it a `tls.cert` and `tls.key`"),
    (ssl.TLSVersion.TLSv1_3, SOMEBODY, "the receiver doesn't trust the certificate in `tls.cert`"),
    (ssl.TLSVersion.TLSv1_2, {}, "the receiver refuses the handshake; perhaps it asks who we are: give it a `tls.cert` and `tls.key`"),
    (ssl.TLSVersion.TLSv1_2, SOMEBODY, "the receiver doesn't trust the certificate in `tls.cert`"),
]


@pytest.mark.parametrize(("newest", "me", "told"), OTHERS)
def test_a_server_that_wants_another_certificate_is_told_so(files: Path, newest: ssl.TLSVersion, me: dict[str, str], told: str) -> None:
    """RFC 8446 section 4.4.2.4: in TLS 1.3 the server's alert comes after our handshake is done, with the answer."""
    context = asking(files, "good", clients_of="authority")
    context.maximum_version = newest
    with Misbehaving(answers(OK), tls=context) as server:
        [reply] = sent(event(server.url), tls=tls(files, ca="authority.pem", **me))
    assert (reply.status, reply.error, reply.detail) == (None, "tls", f"no secure connection: {told}")


def test_destinations_with_different_certificates_share_no_connection(strict: Misbehaving, files: Path) -> None:
    """Else one would speak with the other's credentials, or to a server that it does not trust."""

    async def work() -> list[Reply]:
        async with Outlet() as outlet:
            ours = outlet.channel(access(tls=tls(files, ca="authority.pem", cert="me.pem", key="me.key")))
            others = outlet.channel(access(tls=tls(files, ca="authority.pem")))
            return [await channel.send(event(strict.url), ()) for channel in (ours, others, ours)]

    assert [(reply.status, reply.error) for reply in run(work())] == [(200, None), (None, "tls"), (200, None)]


def test_a_file_that_changed_counts_from_the_next_channel_on(servers: dict[str, Misbehaving], files: Path, tmp_path: Path) -> None:
    async def work() -> list[Reply]:
        async with Outlet() as outlet:
            replies = []
            for authority in ("stranger", "authority"):
                (tmp_path / "ca.pem").write_bytes((files / f"{authority}.pem").read_bytes())
                replies.append(await outlet.channel(access(tls={"ca": str(tmp_path / "ca.pem")})).send(event(servers["good"].url), ()))
            return replies

    assert [(reply.status, reply.error) for reply in run(work())] == [(None, "tls"), (200, None)]


# --- other ends ---


def test_a_server_without_tls_is_told_as_such() -> None:
    with Misbehaving(answers_anything(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")) as server:
        [reply] = sent(event(server.url.replace("http:", "https:") + PATH))
    assert (reply.status, reply.error, server.requests) == (None, "tls", [])
    assert reply.detail == "no secure connection: the other side does not speak TLS there (WRONG_VERSION_NUMBER)"


def test_a_server_that_ends_the_handshake_is_a_reply_too() -> None:
    with Misbehaving(lambda connection: connection.reset()) as server:
        [reply] = sent(event(server.url.replace("http:", "https:") + PATH))
    assert (reply.status, reply.error) == (None, "connect")


def test_no_sentence_about_tls_holds_anything_of_the_url(servers: dict[str, Misbehaving], files: Path) -> None:
    replies = [sent(event(server.url + PATH), tls=tls(files, ca="stranger.pem"))[0] for server in servers.values()]
    assert not [reply for reply in replies for secret in SECRETS if secret in f"{reply.error}{reply.detail}"]


def test_a_handshake_that_never_comes_ends_in_time() -> None:
    with Misbehaving(never_speaks) as server:
        [reply] = sent(event(server.url.replace("http:", "https:") + PATH), timeout=seconds(SHORT_S))
    assert (reply.status, reply.error) == (None, "timeout")
