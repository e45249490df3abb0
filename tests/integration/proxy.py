"""A TCP proxy that can be told to misbehave: the network between a client and its broker."""

import contextlib
import socket
import threading
from typing import Self

_SECONDS = 0.05


class Proxy:
    """Passes connections on to `port` of this machine, until it is told to cut or to stall them."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(_SECONDS)
        self.port: int = self._server.getsockname()[1]
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._flowing, self._closing = threading.Event(), threading.Event()
        self._flowing.set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self.cut()
        for thread in self._threads:
            thread.join()
        for pair in self._pairs:
            for wire in pair:
                wire.close()
        self._server.close()

    @property
    def connections(self) -> int:
        """Since the start."""
        return len(self._pairs)

    def cut(self) -> None:
        """Ends every connection; new ones are let through."""
        for pair in self._pairs:
            for wire in pair:
                with contextlib.suppress(OSError):
                    wire.shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        """From now on nothing passes, in either direction, and nobody is told."""
        self._flowing.clear()

    def flow(self) -> None:
        """What was held back passes, and everything after it."""
        self._flowing.set()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                here, _ = self._server.accept()
                there = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                continue
            self._pairs.append((here, there))
            for source, sink in ((here, there), (there, here)):
                thread = threading.Thread(target=self._pass, args=(source, sink), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        source.settimeout(_SECONDS)
        while not self._closing.is_set():
            try:
                data = source.recv(65_536)
                while not self._flowing.wait(_SECONDS) and not self._closing.is_set():
                    pass
                if data:
                    sink.sendall(data)
                else:
                    sink.shutdown(socket.SHUT_RDWR)
                    return
            except TimeoutError:
                continue
            except OSError:
                return
