"""Reaching receivers that are there, that are not, and that misbehave; real sockets, and TLS by real certificates."""

import ssl
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from bridge.edges.reach import Receiver, reached
from bridge.rules.access import TlsSettings
from bridge.rules.diagnosis import Reached
from tests.rig.certificates import certificate
from tests.rig.misbehaving import Behaviour, Misbehaving, answers_anything, answers_once, never_speaks
from tests.rig.ports import free_port
from tests.rig.wait import until

LONG_S, SHORT_S = 10.0, 0.3


def look(url: str, *, tls: TlsSettings | None = None, within_s: float = LONG_S, network: Any = "lan", head: bool = False) -> Reached:
    return reached(Receiver(url=url, network=network, tls=tls or TlsSettings()), within_s=within_s, head=head)


def secure(directory: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / f"{name}.pem", directory / f"{name}.key")
    return context


def dated(skew_s: float) -> Behaviour:
    return answers_once(f"HTTP/1.1 405 Method Not Allowed\r\nDate: {formatdate(time.time() + skew_s, usegmt=True)}\r\nContent-Length: 0\r\n\r\n".encode())


def test_one_that_is_there_gets_no_request() -> None:
    with Misbehaving(never_speaks) as server:
        assert look(f"{server.url}/hooks/TOKEN") == Reached()
        until(lambda: server.connections, "the connection to be taken")
    assert server.requests == []


def test_a_closed_port_is_named() -> None:
    port = free_port()
    found = look(f"http://127.0.0.1:{port}/hooks/TOKEN")
    assert found.problem == f"no connection to 127.0.0.1:{port}: Connection refused"
    assert found.do == f"nc -vz 127.0.0.1 {port}"


def test_a_network_that_is_not_allowed_is_not_tried() -> None:
    found = look("http://169.254.169.254/latest")
    assert found.problem is not None
    assert "169.254.169.254" in found.problem
    assert "network" in found.do


@pytest.mark.parametrize(("days", "left_days"), [(3.0, 3), (200.0, 200)])
def test_its_certificate_tells_when_it_ends(tmp_path: Path, days: float, left_days: int) -> None:
    certificate(tmp_path, "own", ends_in_days=days)
    with Misbehaving(never_speaks, tls=secure(tmp_path, "own")) as server:
        for tls in (TlsSettings(ca=str(tmp_path / "own.pem")), TlsSettings(verify=False)):
            found = look(server.url, tls=tls)
            assert found.problem is None
            assert found.certificate_ends_at is not None
            assert abs(found.certificate_ends_at - time.time() - left_days * 86_400) < 3_600
    assert server.requests == []


def test_a_certificate_that_has_ended_is_said_with_its_end(tmp_path: Path) -> None:
    certificate(tmp_path, "old", begins_in_days=-9, ends_in_days=-2)
    with Misbehaving(never_speaks, tls=secure(tmp_path, "old")) as server:
        found = look(server.url, tls=TlsSettings(ca=str(tmp_path / "old.pem")))
    assert found.problem is not None
    assert "certificate has expired" in found.problem
    assert found.certificate_ends_at is not None
    assert found.certificate_ends_at < time.time()
    assert found.do.startswith("openssl s_client")


def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    certificate(tmp_path, "own")
    with Misbehaving(never_speaks, tls=secure(tmp_path, "own")) as server:
        found = look(server.url)
    assert found.problem is not None
    assert "can't be trusted" in found.problem


def test_one_that_speaks_no_tls() -> None:
    with Misbehaving(answers_anything(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        found = look(f"https://localhost:{server.port}")
    assert found.problem is not None
    assert "no secure connection" in found.problem


def test_one_that_says_nothing_is_not_waited_for_long() -> None:
    with Misbehaving(never_speaks) as server:
        found = look(f"https://localhost:{server.port}", within_s=SHORT_S)
    assert found.problem == f"no answer from localhost:{server.port} within 0.3 s"


@pytest.mark.parametrize("skew_s", [-600.0, 0.0, 600.0])
def test_asked_for_its_clock_it_gets_one_request_beside_the_webhooks_path(skew_s: float) -> None:
    with Misbehaving(dated(skew_s)) as server:
        found = look(f"{server.url}/hooks/TOKEN", head=True)
    assert found.skew_s is not None
    assert abs(found.skew_s - skew_s) < 30
    (request,) = server.requests
    assert request.startswith(b"HEAD / HTTP/1.1\r\n")
    assert b"TOKEN" not in request


@pytest.mark.parametrize("answer", [b"", b"nonsense", b"HTTP/1.1 200 OK\r\nDate: yesterday\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_one_that_does_not_tell_its_clock_is_there_all_the_same(answer: bytes) -> None:
    with Misbehaving(answers_once(answer)) as server:
        assert look(server.url, head=True) == Reached()
