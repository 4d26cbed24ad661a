"""The listener of the hooks as the outside sees it: who is let in, TLS, socket files, and a restart that refuses nobody."""

import http.client
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig.activation import handing_over
from tests.rig.certificates import certificate
from tests.rig.daemon import COMMAND, Daemon
from tests.rig.mosquitto import Mosquitto
from tests.rig.wait import until

TOKEN = "correct-horse-battery"

GATE = f"""
[inbound.gate]
verify = "bearer"
secret = "{TOKEN}"
topic = "home/gate/set"
text = "{{{{ body }}}}"
answer = "accepted"
"""


def posted(
    port: int, hook: str = "/hooks/gate", *, token: str = TOKEN, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the answer to a request from an address of loopback."""
    plain = http.client.HTTPConnection("127.0.0.1", port, timeout=15, source_address=(source, 0))
    caller = plain if tls is None else http.client.HTTPSConnection("localhost", port, timeout=15, context=tls)
    try:
        caller.request("POST", hook, b"open", {"Authorization": f"Bearer {token}", **{name.replace("_", "-"): value for name, value in headers.items()}})
        answer = caller.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        caller.close()


def test_twenty_wrong_tokens_lock_one_address_out_of_one_hook(tmp_path: Path, broker: Mosquitto) -> None:
    """The product: "after 20 wrong signatures within a minute one address gets 429 on that hook for a minute"; FAULTS S25."""
    with Daemon(tmp_path / "bridge", broker=broker.url, mappings=GATE + GATE.replace("gate", "door")) as bridge:
        port = bridge.hooks_port
        assert {posted(port, token="wrong-wrong-wrong")[0] for _ in range(20)} == {401}
        status, headers, body = posted(port)
        assert (status, headers["content-type"], 0 < int(headers["retry-after"]) <= 60) == (429, "application/problem+json", True)
        assert json.loads(body)["status"] == 429
        assert posted(port, source="127.0.0.2")[0] == 202, "a good sender elsewhere is not meant"
        assert posted(port, "/hooks/door")[0] == 202, "nor is another hook"
        assert bridge.metrics()["mqtthook_requests_refused_total"] == 21
        assert "locked out hook=gate client=127.0.0.1 for_s=60" in bridge.log


def test_an_id_that_cant_be_used_is_told_and_locks_nobody_out(tmp_path: Path, broker: Mosquitto) -> None:
    with Daemon(tmp_path / "bridge", broker=broker.url, mappings=GATE) as bridge:
        for _ in range(21):
            status, _, body = posted(bridge.hooks_port, Idempotency_Key="ring 7")
            detail = "idempotency-key is not 1 to 256 printable ASCII characters without a blank"
            assert (status, json.loads(body)) == (400, {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": detail})
        assert posted(bridge.hooks_port, Idempotency_Key="ring-7")[0] == 202
        assert f"refused hook=gate status=400 client=127.0.0.1 reason={detail}" in bridge.log
        figures = bridge.metrics()
        assert (figures["mqtthook_requests_refused_total"], figures["mqtthook_ledger_imbalance"]) == (21, 0)
        assert figures['mqtthook_ledger_out_total{mapping="gate",outcome="dropped"}'] == 21, "each was verified"


def test_rate_and_allow_from_are_of_one_hook(tmp_path: Path, broker: Mosquitto) -> None:
    mappings = GATE + 'rate = "3/min"\n' + GATE.replace("gate", "door") + 'allow_from = ["127.0.0.2", "192.168.0.0/16"]\n'
    with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings) as bridge:
        port = bridge.hooks_port
        assert [posted(port)[0] for _ in range(4)] == [202, 202, 202, 429]
        assert posted(port)[1]["retry-after"] == "20"
        assert posted(port, source="127.0.0.2")[0] == 202
        assert posted(port, "/hooks/door", source="127.0.0.2")[0] == 202
        status, _, body = posted(port, "/hooks/door")
        assert (status, json.loads(body)) == (403, {"type": "about:blank", "title": "Forbidden", "status": 403})


def test_a_trusted_proxy_tells_whose_mistakes_they_were(tmp_path: Path, broker: Mosquitto) -> None:
    with Daemon(tmp_path / "bridge", broker=broker.url, mappings=GATE, http='trusted_proxies = ["127.0.0.1"]') as bridge:
        port = bridge.hooks_port
        for _ in range(20):
            assert posted(port, token="wrong-wrong-wrong", X_Forwarded_For="198.51.100.1, 203.0.113.9")[0] == 401
        assert posted(port, X_Forwarded_For="203.0.113.9")[0] == 429
        assert posted(port, X_Forwarded_For="203.0.113.9, 203.0.113.10")[0] == 202
        assert posted(port, X_Forwarded_For="203.0.113.9", source="127.0.0.2")[0] == 202, "only a trusted one is believed"


# --- TLS ---


def trusting(directory: Path, **options: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(directory / "listener.pem"))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for name, value in options.items():
        setattr(context, name, value)
    return context


@contextmanager
def tls_bridge(directory: Path, broker: Mosquitto) -> Iterator[Daemon]:
    renew(directory)
    with Daemon(directory / "bridge", broker=broker.url, mappings=GATE, http=f'tls = {{ cert = "{directory}/listener.pem", key = "{directory}/listener.key" }}') as bridge:
        yield bridge


def renew(directory: Path) -> None:
    certificate(directory, "listener")
    (directory / "listener.key").chmod(0o600)


def test_hooks_listen_with_tls_from_version_1_2_on(tmp_path: Path, broker: Mosquitto) -> None:
    """RFC 8996; and plain HTTP on that port gets nothing."""
    with tls_bridge(tmp_path, broker) as bridge:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            assert posted(bridge.hooks_port, tls=trusting(tmp_path, minimum_version=version, maximum_version=version))[0] == 202
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old = trusting(tmp_path, minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1)
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            posted(bridge.hooks_port, tls=old)
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            posted(bridge.hooks_port)
        assert posted(bridge.hooks_port, tls=trusting(tmp_path))[0] == 202
        assert "Traceback" not in bridge.log


def test_a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_is_not(tmp_path: Path, broker: Mosquitto) -> None:
    with tls_bridge(tmp_path, broker) as bridge:
        first = trusting(tmp_path)
        kept = http.client.HTTPSConnection("localhost", bridge.hooks_port, timeout=15, context=first)
        kept.request("POST", "/hooks/gate", b"open", {"Authorization": f"Bearer {TOKEN}"})
        assert kept.getresponse().read()
        good = (tmp_path / "listener.key").read_bytes()
        (tmp_path / "listener.key").write_bytes(b"half a")
        assert [posted(bridge.hooks_port, tls=first)[0] for _ in range(3)] == [202] * 3
        assert bridge.log.count("the certificate from before is shown until then") == 1
        (tmp_path / "listener.key").write_bytes(good)
        renew(tmp_path)
        assert posted(bridge.hooks_port, tls=trusting(tmp_path))[0] == 202
        with pytest.raises(ssl.SSLCertVerificationError):
            posted(bridge.hooks_port, tls=first)
        kept.request("POST", "/hooks/gate", b"open", {"Authorization": f"Bearer {TOKEN}"})
        assert kept.getresponse().status == 202, "no connection was lost by it"
        kept.close()


def test_check_tells_of_a_key_that_can_not_be_used(tmp_path: Path) -> None:
    renew(tmp_path)
    (tmp_path / "listener.key").chmod(0o644)
    bridge = Daemon(tmp_path / "bridge", broker="mqtt://127.0.0.1:1", mappings=GATE, http=f'tls = {{ cert = "{tmp_path}/listener.pem", key = "{tmp_path}/listener.key" }}')
    assert "http.tls.key: " in (told := bridge.command("check", code=78))
    assert f"others can read this file, and it holds the key: chmod 600 {tmp_path}/listener.key" in told


# --- sockets ---


def test_hooks_may_listen_on_a_socket_file(tmp_path: Path, broker: Mosquitto) -> None:
    bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=GATE, http='trusted_proxies = ["unix"]')
    path = tmp_path / "hooks.sock"
    bridge.config.write_text(bridge.config.read_text().replace(f"127.0.0.1:{bridge.hooks_port}", f"unix://{path}"))
    with bridge.start(), socket.socket(socket.AF_UNIX) as caller:
        assert path.stat().st_mode & 0o777 == 0o666
        caller.connect(str(path))
        caller.sendall(f"POST /hooks/gate HTTP/1.1\r\nHost: hooks\r\nAuthorization: Bearer {TOKEN}\r\nX-Forwarded-For: 203.0.113.9\r\nContent-Length: 4\r\n\r\nopen".encode())
        assert caller.recv(1000).startswith(b"HTTP/1.1 202 ")
        assert f"hooks listening address=unix:{path}" in bridge.log


def test_a_socket_file_that_can_not_be_made_is_told(tmp_path: Path, broker: Mosquitto) -> None:
    bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=GATE)
    bridge.config.write_text(bridge.config.read_text().replace(f"127.0.0.1:{bridge.hooks_port}", f"unix:{tmp_path}/no/hooks.sock"))
    assert bridge.launch().process is not None
    assert bridge.process is not None
    assert bridge.process.wait(30) == 1
    assert f"http.listen: {tmp_path}/no/hooks.sock can't be made: No such file or directory" in bridge.log


def test_a_socket_file_in_use_is_told_and_stays_with_who_has_it(tmp_path: Path, broker: Mosquitto) -> None:
    path = tmp_path / "hooks.sock"
    first, second = (Daemon(tmp_path / name, broker=broker.url, mappings=GATE) for name in ("first", "second"))
    for bridge in (first, second):
        bridge.config.write_text(bridge.config.read_text().replace(f"127.0.0.1:{bridge.hooks_port}", f"unix:{path}"))
    with first.start(), socket.socket(socket.AF_UNIX) as caller:
        assert f"http.listen: unix:{path} can't be listened on: Address already in use; is another program using it?" in second.command("run", code=1)
        caller.connect(str(path))
        caller.sendall(f"POST /hooks/gate HTTP/1.1\r\nHost: hooks\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 4\r\n\r\nopen".encode())
        assert caller.recv(1000).startswith(b"HTTP/1.1 202 ")


def test_a_restart_behind_a_socket_of_systemds_refuses_nobody(tmp_path: Path, broker: Mosquitto) -> None:
    """Systemd holds the socket: what comes meanwhile waits, and what was let in is answered."""
    bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=GATE)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as held:
        held.set_inheritable(True)
        port = held.getsockname()[1]

        def launch() -> None:
            command = handing_over([held.fileno()], [*COMMAND, "run", "--config", str(bridge.config)], names="hooks")
            with (bridge.directory / "daemon.log").open("ab") as log:
                bridge.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=bridge.directory, env=bridge.environment, pass_fds=[held.fileno()])
            until(bridge.is_ready, "the daemon to be ready")

        launch()
        stop, statuses = threading.Event(), list[int | str]()

        def ask() -> None:
            while not stop.is_set():
                try:
                    statuses.append(posted(port)[0])
                except (OSError, http.client.HTTPException) as exc:
                    statuses.append(repr(exc))

        callers = [threading.Thread(target=ask) for _ in range(4)]
        for caller in callers:
            caller.start()
        try:
            for _ in range(3):
                asked = len(statuses)
                until(lambda asked=asked: len(statuses) > asked + 20, "requests to be answered")  # type: ignore[misc]
                assert bridge.stop() == 0
                launch()
            asked = len(statuses)
            until(lambda: len(statuses) > asked + 20, "requests to be answered again")
        finally:
            stop.set()
            for caller in callers:
                caller.join()
            bridge.kill()
    assert set(statuses) == {202}
    assert f"hooks listening address=127.0.0.1:{port} from=systemd" in bridge.log
