"""Makes workers wait for each other, with a timeout, before TensorFlow starts its servers.

TensorFlow's servers would wait forever for a missing worker.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Sequence

_LOG = logging.getLogger("keras_ssl")
_GREETING = b"keras_ssl worker "
_LOG_INTERVAL = 30.0  # seconds
_RETRY_INTERVAL = 0.1  # seconds


def meet(addresses: Sequence[str], own: int, timeout: float) -> None:
    """Blocks until this worker has met every other worker.

    Each worker listens on its own port, which TensorFlow's server uses afterwards, and connects to
    the others. Two workers have met when each has connected to the other, so neither leaves too
    early.

    Args:
        addresses: "host:port" of each worker.
        own: number of this worker.
        timeout: seconds to wait.

    Raises:
        TimeoutError: if a worker is still missing. The message names the missing workers.
        OSError: if this worker's port is not free.
    """
    to_reach = set(range(len(addresses))) - {own}
    to_hear = set(to_reach)
    start = logged = time.monotonic()
    with _listener(addresses[own]) as listener:
        heard: set[int] = set()
        answering = threading.Thread(
            target=_answer_workers, args=(listener, to_hear, heard), daemon=True
        )
        answering.start()
        while missing := to_reach | (to_hear - heard):
            to_reach = {number for number in to_reach if not _greet(addresses[number], own)}
            names = ", ".join(f"{number} ({addresses[number]})" for number in sorted(missing))
            now = time.monotonic()
            if now - start > timeout:
                raise TimeoutError(
                    f"All {len(addresses)} workers must start within {timeout:g} seconds of each "
                    f"other. Received: worker {own} did not reach {names}"
                )
            if now - logged > _LOG_INTERVAL:
                _LOG.warning("Worker %d is waiting for %s", own, names)
                logged = now
            time.sleep(_RETRY_INTERVAL)
        answering.join()


def _listener(address: str) -> socket.socket:
    host, port = _host_and_port(address)
    family = socket.AF_INET6 if socket.has_ipv6 and socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        listener = socket.create_server(
            ("", port), family=family, dualstack_ipv6=family == socket.AF_INET6
        )
    except OSError as error:
        raise OSError(
            f"The port of this worker must be free. Received: {address!r} on {host!r}: {error}"
        ) from error
    return listener


def _greet(address: str, own: int) -> bool:
    """Connects to another worker; returns whether it has answered."""
    try:
        with socket.create_connection(_host_and_port(address), timeout=1.0) as connection:
            connection.sendall(_GREETING + str(own).encode() + b"\n")
            return connection.recv(1) == b"\n"  # an answer from a worker, not from another program
    except OSError:
        return False  # not started yet


def _answer_workers(listener: socket.socket, expected: set[int], heard: set[int]) -> None:
    """Answers connecting workers until all expected ones have connected."""
    while not expected <= heard:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # closed after a timeout
        # Errors mean that another program has connected, or that the connection was closed.
        with connection, contextlib.suppress(OSError, ValueError):
            connection.settimeout(1.0)
            line = connection.recv(64)
            if line.startswith(_GREETING) and line.endswith(b"\n"):
                connection.sendall(b"\n")
                heard.add(int(line[len(_GREETING) :]))


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
