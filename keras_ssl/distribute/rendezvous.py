"""Workers wait for each other before TensorFlow starts its servers, which would wait for ever."""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Sequence

_LOG = logging.getLogger("keras_ssl")
_WORD = b"keras_ssl worker "
_TELL_AFTER = 30.0  # seconds
_PAUSE = 0.1  # seconds between attempts


def meet(addresses: Sequence[str], own: int, timeout: float) -> None:
    """Returns when every worker has reached every other one.

    Each listens on its own port, on which TensorFlow's server listens afterwards, and connects to the
    others. Two workers have met when both connections were made, so that neither leaves before the
    other has seen it.

    Args:
        addresses: "host:port" of each worker.
        own: this worker's number.
        timeout: seconds to wait.

    Raises:
        TimeoutError: naming the workers that did not come.
        OSError: if the own port cannot be listened on.
    """
    to_reach = set(range(len(addresses))) - {own}
    to_hear = set(to_reach)
    start = told = time.monotonic()
    with _listener(addresses[own]) as listener:
        heard: set[int] = set()
        answering = threading.Thread(target=_answer, args=(listener, to_hear, heard), daemon=True)
        answering.start()
        while missing := to_reach | (to_hear - heard):
            to_reach = {number for number in to_reach if not _greet(addresses[number], own)}
            names = ", ".join(f"{number} ({addresses[number]})" for number in sorted(missing))
            now = time.monotonic()
            if now - start > timeout:
                raise TimeoutError(
                    f"All {len(addresses)} workers must start within {timeout:g} seconds of each "
                    f"other. Received: worker {own} has waited in vain for {names}"
                )
            if now - told > _TELL_AFTER:
                _LOG.warning("Worker %d waits for %s", own, names)
                told = now
            time.sleep(_PAUSE)
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
    try:
        with socket.create_connection(_host_and_port(address), timeout=1.0) as connection:
            connection.sendall(_WORD + str(own).encode() + b"\n")
            return connection.recv(1) == b"\n"  # heard, and not by something else
    except OSError:
        return False  # not there yet


def _answer(listener: socket.socket, expected: set[int], heard: set[int]) -> None:
    """Answers the workers that connect, until all expected ones have."""
    while not expected <= heard:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # given up
        with connection, contextlib.suppress(OSError, ValueError):  # something else, or gone
            connection.settimeout(1.0)
            line = connection.recv(64)
            if line.startswith(_WORD) and line.endswith(b"\n"):
                connection.sendall(b"\n")
                heard.add(int(line[len(_WORD) :]))


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
