"""Being told when descriptors can be read and written, on every event loop.

Most loops do it themselves. The one that is usual on Windows (`ProactorEventLoop`) does not: there a thread waits for
the sockets and calls into the loop. It looks at a socket again when the loop has dealt with what was told of it, so
that nothing is told twice and a loop that is busy is not flooded.

Source: `asyncio.loop.add_reader`, whose methods these are.
Not done here: reading and writing.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol
from weakref import WeakKeyDictionary, ref

Callback = Callable[[], object]


class Descriptor(Protocol):
    """Something that has a descriptor."""

    def fileno(self) -> int:
        """Its number."""


class Watch(Protocol):
    """Tells when descriptors can be read or written, again and again while that is so."""

    def add_reader(self, fd: Descriptor, callback: Callback) -> None:
        """Tell when it can be read."""

    def remove_reader(self, fd: Descriptor) -> object:
        """Tell that no more."""

    def add_writer(self, fd: Descriptor, callback: Callback) -> None:
        """Tell when it can be written."""

    def remove_writer(self, fd: Descriptor) -> object:
        """Tell that no more."""


_threads: WeakKeyDictionary[asyncio.AbstractEventLoop, ThreadWatch | None] = WeakKeyDictionary()
"""Of each loop that was asked; None if it watches by itself."""


def watch_of(loop: asyncio.AbstractEventLoop) -> Watch:
    """What watches descriptors for a loop: the loop itself, or a thread if it can't."""
    if loop not in _threads:
        _threads[loop] = None if _watches_itself(loop) else ThreadWatch(loop)
    return _threads[loop] or loop


def _watches_itself(loop: asyncio.AbstractEventLoop) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            loop.add_reader(probe, lambda: None)
        except NotImplementedError:
            return False
        loop.remove_reader(probe)
    return True


class ThreadWatch:
    """A thread that waits for sockets, for one loop; it runs while somebody wants to be told something.

    Args:
        loop: on which everybody is told, and from whose thread the methods are called.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)
        self._callbacks: dict[int, dict[int, Callback]] = {}
        """By number of the descriptor, and EVENT_READ or EVENT_WRITE; changed by the loop's thread alone."""
        self._lock = threading.Lock()
        self._wanted: dict[int, int] = {}
        """What the thread is to wait for; with the lock, as what follows."""
        self._waker: socket.socket | None = None
        """Wakes the thread; None while there is none."""

    def add_reader(self, fd: Descriptor, callback: Callback) -> None:
        """Tell when it can be read."""
        self._add(fd.fileno(), selectors.EVENT_READ, callback)

    def remove_reader(self, fd: Descriptor) -> None:
        """Tell that no more."""
        self._remove(fd.fileno(), selectors.EVENT_READ)

    def add_writer(self, fd: Descriptor, callback: Callback) -> None:
        """Tell when it can be written."""
        self._add(fd.fileno(), selectors.EVENT_WRITE, callback)

    def remove_writer(self, fd: Descriptor) -> None:
        """Tell that no more."""
        self._remove(fd.fileno(), selectors.EVENT_WRITE)

    def _add(self, number: int, event: int, callback: Callback) -> None:
        self._callbacks.setdefault(number, {})[event] = callback
        self._want(number)

    def _remove(self, number: int, event: int) -> None:
        callbacks = self._callbacks.get(number, {})
        if callbacks.pop(event, None) is not None:
            if not callbacks:
                del self._callbacks[number]
            self._want(number)

    def _want(self, number: int) -> None:
        """Let the thread wait for all that is asked for of a descriptor, and for nothing else."""
        events = sum(self._callbacks.get(number, ()))
        with self._lock:
            if events:
                self._wanted[number] = events
            else:
                self._wanted.pop(number, None)
            if self._waker is None:
                woken, self._waker = socket.socketpair()
                woken.setblocking(False)
                self._waker.setblocking(False)
                threading.Thread(target=self._run, args=(woken,), name="weft sockets", daemon=True).start()
            with suppress(BlockingIOError):
                self._waker.send(b"\0")

    def _deliver(self, number: int, events: int) -> None:
        """A descriptor is ready; called on the loop."""
        for event, callback in list(self._callbacks.get(number, {}).items()):
            if event & events and self._callbacks.get(number, {}).get(event) is callback:
                callback()
        if number in self._callbacks:
            self._want(number)

    def _run(self, woken: socket.socket) -> None:
        """Wait, in the thread, as long as anything is to be told."""
        with woken, selectors.DefaultSelector() as selector:
            selector.register(woken, selectors.EVENT_READ)
            while self._update(selector, woken):
                try:
                    ready = selector.select()
                except (OSError, ValueError):
                    # On some systems a socket that is closed meanwhile is no socket; it is wanted no more.
                    continue
                for key, events in ready:
                    if key.fileobj is not woken:
                        self._tell(key.fd, events)
                        continue
                    with suppress(BlockingIOError):
                        woken.recv(4096)

    def _tell(self, number: int, events: int) -> None:
        with self._lock:
            # Until the loop has dealt with it.
            self._wanted.pop(number, None)
        loop = self._loop()
        # A loop that is closed wants to hear nothing.
        with suppress(RuntimeError):
            if loop is not None:
                loop.call_soon_threadsafe(self._deliver, number, events)

    def _update(self, selector: selectors.BaseSelector, woken: socket.socket) -> bool:
        """Let a selector look at what is wanted; returns whether the thread is to go on."""
        loop = self._loop()
        with self._lock:
            if not self._callbacks or loop is None or loop.is_closed():
                if self._waker is not None:
                    self._waker.close()
                self._waker = None
                return False
            wanted = dict(self._wanted)
        for key in list(selector.get_map().values()):
            if key.fileobj is not woken and wanted.get(key.fd) != key.events:
                selector.unregister(key.fileobj)
        for number in wanted.keys() - {key.fd for key in selector.get_map().values()}:
            # One that was closed meanwhile is wanted no more.
            with suppress(OSError, ValueError):
                selector.register(number, wanted[number])
        return True
