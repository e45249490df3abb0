"""Links: TCP connections through our hands, which can be cut, stalled, or robbed of what goes one way.

Here: forwarding, and reporting to the witness what tocsin and the broker say to each other. Not here: when a link is
cut (`troubles`), what the bytes mean (`wire`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol, Self

from tocsin.chaos.wire import PUBACK, PUBLISH, SUBACK, Packets, acknowledged, delivered
from tocsin.chaos.witness import Witness

_CHUNK = 64 * 1024
_GREETING_SECONDS = 2.0


class Tap(Protocol):
    """Hears what passes on one connection."""

    def from_client(self, data: bytes) -> None: ...
    def from_broker(self, data: bytes) -> None: ...


class DeafTap:
    """Hears nothing."""

    def from_client(self, data: bytes) -> None:
        pass

    def from_broker(self, data: bytes) -> None:
        pass


class SessionTap:
    """Tells the witness which messages tocsin was given, and which it has acknowledged."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._up, self._down = Packets(), Packets()
        self._open: dict[int, tuple[str, bytes]] = {}

    def from_broker(self, data: bytes) -> None:
        for packet in self._down.feed(data):
            if packet.kind == PUBLISH and (message := delivered(packet)) is not None:
                self._open[message.packet_id] = message.topic, message.payload
                self._witness.note_delivered(message.topic, message.payload)
            elif packet.kind == SUBACK:
                self._witness.note_subscribed()

    def from_client(self, data: bytes) -> None:
        for packet in self._up.feed(data):
            if packet.kind == PUBACK and (packet_id := acknowledged(packet)) is not None:
                message = self._open.pop(packet_id, None)
                if message is not None:
                    self._witness.note_acknowledged(*message)


class Link:
    """A way to the broker. `mend` after each of `cut`, `stall` and `rob`; call them from any thread."""

    def __init__(self, network: Network, port: int, tap: Callable[[], Tap]) -> None:
        self._network, self._target, self._tap = network, port, tap
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = self._robbing = False
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def drop(self) -> None:
        """End every connection; new ones are welcome."""
        self._network.do(self._drop())

    def cut(self) -> None:
        """End every connection, and let no new one through."""
        self._refusing = True
        self.drop()

    def stall(self) -> None:
        """Connections stay, and nothing passes."""
        self._network.do(self._set_flowing(flowing=False))

    def rob(self) -> None:
        """What the client sends is lost, acknowledgements with it; what the broker sends passes."""
        self._robbing = True

    def mend(self) -> None:
        """All is well again; connections that have been robbed are cut, since their streams have holes."""
        robbed, self._robbing, self._refusing = self._robbing, False, False
        self._network.do(self._set_flowing(flowing=True))
        if robbed:
            self.drop()

    async def serve(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._drop()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _set_flowing(self, *, flowing: bool) -> None:
        if flowing:
            self._flowing.set()
        else:
            self._flowing.clear()

    async def _drop(self) -> None:
        for task in list(self._open):
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self._refusing:
            writer.close()
            return
        self._open.add(task)
        try:
            with suppress(OSError):
                await self._join(reader, writer)
        except asyncio.CancelledError:
            pass  # cut
        finally:
            self._open.discard(task)
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self._target)
        tap, greeted = self._tap(), asyncio.Event()
        up = asyncio.create_task(self._pump(reader, broker_writer, tap.from_client, up=True))
        down = asyncio.create_task(self._pump(broker_reader, writer, tap.from_broker, greeted=greeted))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            if not greeted.is_set():
                # The embedded broker stops for good if a client leaves before it was answered and comes again
                # (bytebeamio/rumqtt issue 1062).
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(greeted.wait()), _GREETING_SECONDS)
            down.cancel()
            broker_writer.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        hear: Callable[[bytes], None],
        *,
        up: bool = False,
        greeted: asyncio.Event | None = None,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if greeted is not None:
                    greeted.set()
                await self._flowing.wait()
                hear(data)
                if not (up and self._robbing):
                    writer.write(data)
                    await writer.drain()


class Network:
    """The thread in which all links live. Use it as a context."""

    def __init__(self) -> None:
        self._links: list[Link] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="chaos-network", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for link in self._links:
            self.do(link.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def link(self, port: int, tap: Callable[[], Tap] = DeafTap) -> Link:
        """A new way to the broker at that port."""
        link = Link(self, port, tap)
        self.do(link.serve())
        self._links.append(link)
        return link

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it in the network's thread; returns when it is done."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()
