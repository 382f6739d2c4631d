"""The route table of the HTTP API: the one place that knows what can be asked.

The server dispatches by it, the client takes method, path and types from it, and the API's description is made from it.
Whatever only looks is a GET, whatever changes something is a POST whose parameters are a JSON object.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from msgspec import Struct

from weft.api.facade import Facade
from weft.api.messages import (
    AddWireguard,
    ChangePorts,
    Connect,
    Disconnect,
    Done,
    Nothing,
    PeerReply,
    Ping,
    RestartTask,
    StartInterface,
    TaskList,
    TaskReply,
)
from weft.engine.status import Info, Interface, PeerList, Pong, Ports, Status

P = TypeVar("P", bound=Struct)
R = TypeVar("R", bound=Struct)


@dataclass(frozen=True, slots=True)
class Route(Generic[P, R]):
    """One thing that can be asked of a node."""

    method: str
    path: str
    parameters: type[P]
    result: type[R]
    handler: Callable[[Facade, P], Awaitable[R]]
    summary: str


async def _info(node: Facade, _: Nothing) -> Info:
    return node.info()


async def _status(node: Facade, _: Nothing) -> Status:
    return node.status()


async def _stop(node: Facade, _: Nothing) -> Done:
    node.request_stop()
    return Done()


async def _peer_list(node: Facade, _: Nothing) -> PeerList:
    return node.peers()


async def _peer_connect(node: Facade, asked: Connect) -> PeerReply:
    return PeerReply(peer=await node.connect(asked.multiaddr, asked.timeout_s))


async def _peer_disconnect(node: Facade, asked: Disconnect) -> Done:
    await node.disconnect(asked.peer)
    return Done()


async def _peer_add_wireguard(node: Facade, asked: AddWireguard) -> PeerReply:
    peer = await node.add_wireguard(
        asked.public_key,
        name=asked.name,
        allowed_ips=asked.allowed_ips,
        endpoint=asked.endpoint,
        preshared_key=asked.preshared_key,
        keepalive_s=asked.keepalive_s,
    )
    return PeerReply(peer=peer)


async def _peer_ping(node: Facade, asked: Ping) -> Pong:
    return await node.ping(asked.peer, timeout_s=asked.timeout_s, size=asked.size)


async def _fc00_status(node: Facade, _: Nothing) -> Interface:
    return node.fc00_status()


async def _fc00_start(node: Facade, asked: StartInterface) -> Interface:
    return await node.fc00_start(asked.ifname)


async def _fc00_stop(node: Facade, _: Nothing) -> Interface:
    await node.fc00_stop()
    return node.fc00_status()


async def _fc00_ports(node: Facade, _: Nothing) -> Ports:
    return node.fc00_ports()


async def _fc00_allow(node: Facade, asked: ChangePorts) -> Ports:
    return await node.fc00_allow(asked.rules)


async def _fc00_deny(node: Facade, asked: ChangePorts) -> Ports:
    return await node.fc00_deny(asked.rules)


async def _task_list(node: Facade, _: Nothing) -> TaskList:
    return TaskList(tasks=node.tasks())


async def _task_restart(node: Facade, asked: RestartTask) -> TaskReply:
    return TaskReply(task=await node.restart_task(asked.name))


INFO = Route("GET", "/v0/info", Nothing, Info, _info, "Who this node is and where it can be reached")
STATUS = Route("GET", "/v0/status", Nothing, Status, _status, "Everything at one glance")
STOP = Route("POST", "/v0/stop", Nothing, Done, _stop, "Ask the node to end; answers before it does")
PEER_LIST = Route("GET", "/v0/peer/list", Nothing, PeerList, _peer_list, "All peers")
PEER_CONNECT = Route(
    "POST", "/v0/peer/connect", Connect, PeerReply, _peer_connect, "Call a weft node; answers when the tunnel is up"
)
PEER_DISCONNECT = Route("POST", "/v0/peer/disconnect", Disconnect, Done, _peer_disconnect, "Forget a peer")
PEER_ADD_WIREGUARD = Route(
    "POST",
    "/v0/peer/add-wireguard",
    AddWireguard,
    PeerReply,
    _peer_add_wireguard,
    "Take a stock WireGuard device as a peer",
)
PEER_PING = Route("POST", "/v0/peer/ping", Ping, Pong, _peer_ping, "Probe a peer once; answers with what came back")
FC00_STATUS = Route("GET", "/v0/fc00/status", Nothing, Interface, _fc00_status, "The fc00::/8 interface")
FC00_START = Route(
    "POST", "/v0/fc00/start", StartInterface, Interface, _fc00_start, "Make the interface; answers when it is usable"
)
FC00_STOP = Route("POST", "/v0/fc00/stop", Nothing, Interface, _fc00_stop, "Remove the interface")
FC00_PORTS = Route("GET", "/v0/fc00/ports", Nothing, Ports, _fc00_ports, "What the firewall lets in")
FC00_ALLOW = Route("POST", "/v0/fc00/allow", ChangePorts, Ports, _fc00_allow, "Let these in from the overlay")
FC00_DENY = Route("POST", "/v0/fc00/deny", ChangePorts, Ports, _fc00_deny, "Take rules back")
TASK_LIST = Route("GET", "/v0/task/list", Nothing, TaskList, _task_list, "The tasks of the node")
TASK_RESTART = Route("POST", "/v0/task/restart", RestartTask, TaskReply, _task_restart, "Restart one task")

ROUTES: tuple[Route[Any, Any], ...] = (
    INFO,
    STATUS,
    STOP,
    PEER_LIST,
    PEER_CONNECT,
    PEER_DISCONNECT,
    PEER_ADD_WIREGUARD,
    PEER_PING,
    FC00_STATUS,
    FC00_START,
    FC00_STOP,
    FC00_PORTS,
    FC00_ALLOW,
    FC00_DENY,
    TASK_LIST,
    TASK_RESTART,
)
