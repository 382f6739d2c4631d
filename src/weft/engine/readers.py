"""The tasks that hang the datapath into the event loop: they read descriptors, or a host, and end only by a fault."""

from __future__ import annotations

import asyncio

from weft.engine.driver import Driver, rest
from weft.engine.session import Session
from weft.io.device import Device
from weft.io.tun import Tun
from weft.io.udp import UdpSocket
from weft.io.watching import watch_of


async def read_socket(socket: UdpSocket, session: Session) -> None:
    """Deliver what a socket receives, and send what waited for it, until cancelled.

    Raises:
        Exception: whatever the datapath raised; the watcher of the task logs it and starts anew.
    """
    loop = asyncio.get_running_loop()
    watch = watch_of(loop)
    died: asyncio.Future[None] = loop.create_future()

    def read() -> None:
        try:
            session.inbound.drain(socket)
        except Exception as error:
            _fail(died, error)

    def write() -> None:
        try:
            if socket.flush():
                watch.remove_writer(socket)
        except OSError as error:
            _fail(died, error)

    socket.when_blocked = lambda: watch.add_writer(socket, write)
    watch.add_reader(socket, read)
    if socket.is_blocked:
        watch.add_writer(socket, write)
    try:
        await died
    finally:
        socket.when_blocked = None
        watch.remove_reader(socket)
        watch.remove_writer(socket)


async def read_tun(tun: Tun, session: Session) -> None:
    """Send what the interface gives, until cancelled.

    Raises:
        Exception: whatever the datapath raised; the watcher of the task logs it and starts anew.
    """
    loop = asyncio.get_running_loop()
    watch = watch_of(loop)
    died: asyncio.Future[None] = loop.create_future()

    def read() -> None:
        try:
            session.outbound.drain(tun)
        except Exception as error:
            _fail(died, error)

    session.delivery.device = tun
    watch.add_reader(tun, read)
    try:
        await died
    finally:
        watch.remove_reader(tun)


async def read_host(driver: Driver, device: Device, session: Session) -> None:
    """Send what a host has to send, until cancelled.

    Raises:
        Exception: whatever the datapath raised; the watcher of the task logs it and starts anew.
    """
    died: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def transmit() -> bool:
        try:
            return session.outbound.drain(device)
        except Exception as error:
            _fail(died, error)
            return False

    driver.transmit = transmit
    driver.wake()
    try:
        await died
    finally:
        driver.transmit = rest


def _fail(died: asyncio.Future[None], error: Exception) -> None:
    if not died.done():
        died.set_exception(error)
