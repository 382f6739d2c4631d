"""`/v0/sockets`: the network for a program, by way of a node with the stack; see api/lent/."""

from __future__ import annotations

from weft.api.lent.messages import PROTOCOL
from weft.api.v0.route import Channel

SOCKETS = Channel("/v0/sockets", PROTOCOL, "Sockets in the network, of a node with the stack; by the Unix socket only")

CHANNELS = (SOCKETS,)
