"""What the benchmark's own parts reach when no daemon stands between them."""

import json
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict

from tests.bench.publisher import PAYLOAD, Order
from tests.bench.rig import ROOT, Rig

WAVE = 8  # requests under way at once, each on a connection of its own: as many as a destination has by default

_REQUEST = b"POST /hooks/sensors HTTP/1.1\r\nHost: 127.0.0.1\r\nwebhook-id: evt_1\r\nwebhook-timestamp: 1\r\nwebhook-signature: v1,x\r\nContent-Length: %d\r\n\r\n%b"


def receive_rate(port: int, count: int) -> float:
    """Return how many requests a second the receiver answers."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(WAVE)]
        began = time.monotonic()
        for number in range(0, count, WAVE):
            for n, connection in enumerate(sockets):
                body = b'{"id":%d,"t":%d,"pad":"%b"}' % (number + n, time.monotonic_ns(), b"x" * PAYLOAD)
                connection.sendall(_REQUEST % (len(body), body))
            for connection in sockets:
                connection.recv(4096)
        return count / (time.monotonic() - began)


def publish_rate(parts: Rig, count: int) -> float:
    """Return how many events a second the publisher gets confirmed by a broker without subscribers."""
    order = Order(port=parts.mqtt_port, count=count, rate=0, ahead=0, progress=str(parts.receiver.progress))
    done = subprocess.run([sys.executable, "-m", "tests.bench.publisher", json.dumps(asdict(order))], cwd=ROOT, check=True, capture_output=True)
    return float(json.loads(done.stdout)["rate"])
