"""Datagrams played again and garbage: dropped and counted, while a stock device's session goes on."""

import random
import struct

import pytest

from tests.interop.initiations import initiations
from tests.interop.meeting import Meeting, Role, meet, prepare
from tests.interop.pinging import Pinging
from tests.interop.sender import send
from tests.interop.tap import tapped
from tests.system.lab import Lab
from tests.system.node import PORT
from tests.system.waiting import until
from weft.api.v0 import node as node_api

pytestmark = [pytest.mark.system, pytest.mark.interop("wireguard-go", "wg")]

DATA, BURST = 4, 5


@pytest.mark.parametrize("caller", ["weft", "stock"])
def test_everything_played_again_is_dropped_and_moves_nothing(lab: Lab, caller: Role) -> None:
    meeting = prepare(lab)
    mallory = lab.host("mallory")
    target = lab.veth(meeting.weft_host, mallory).left
    with tapped(meeting.cable.right) as tap:
        meeting.introduce(caller)
        meeting.wait_until_up()
        assert meeting.loses_nothing(from_stock=True, count=20)
        until(meeting.counters_agree, "nothing is on its way", 2)
        sent = tap.sent()
        state, before = meeting.node.peer(), drops(meeting)
        assert tap.send_again() == len(sent) > 20
    until(lambda: drops(meeting) - before == len(sent), "all are counted")
    send(mallory, target.ip4, PORT, sent)
    until(lambda: drops(meeting) - before == 2 * len(sent), "all are counted again")
    after = meeting.node.peer()
    assert (after.tx_bytes, after.rx_bytes, after.endpoint) == (state.tx_bytes, state.rx_bytes, state.endpoint)
    assert meeting.crosses()


def test_garbage_is_counted_and_a_running_ping_loses_nothing(lab: Lab) -> None:
    meeting = meet(lab)
    node = meeting.node
    mallory = lab.host("mallory")
    target = lab.veth(meeting.weft_host, mallory).left
    pinging = Pinging(meeting.stock_host, node.address)
    with tapped(meeting.cable.right) as tap:
        pinging.wait_for_more(10)
        genuine = tap.sent()[0]
    datagrams = garbage(genuine, node.info.wireguard_public_key)
    before = drops(meeting)
    send(mallory, target.ip4, PORT, datagrams)
    send(meeting.stock_host, meeting.cable.left.ip4, PORT, datagrams)
    until(lambda: drops(meeting) - before == 2 * len(datagrams), "all are counted")
    pinging.wait_for_more(50)
    ping = pinging.stop()
    assert ping.received == ping.sent
    status = node.client.call(node_api.STATUS)
    assert {task.restarts for task in status.tasks} == {0}
    assert status.session_restarts == 0
    assert node.peer().endpoint == meeting.stock_endpoint()


def garbage(genuine: bytes, responder: str) -> list[bytes]:
    """Random datagrams, ones that begin as genuine ones do, and a genuine data message that was changed."""
    source = random.Random(0)
    _, index, counter = struct.unpack_from("<IIQ", genuine)
    made = [source.randbytes(source.randint(1, 1400)) for _ in range(200)]
    for kind in range(1, 6):
        made += [struct.pack("<I", kind) + source.randbytes(source.randint(0, 1400)) for _ in range(50)]
    made += [genuine[:length] for length in range(1, len(genuine))]
    for place in range(0, len(genuine), 3):
        made.append(genuine[:place] + bytes([genuine[place] ^ 0x80]) + genuine[place + 1 :])
    for ahead in (0, 1, 1 << 20, (1 << 64) - 1 - counter):
        made.append(struct.pack("<IIQ", DATA, index, counter + ahead) + source.randbytes(32))
        made.append(struct.pack("<IIQHBB", BURST, index, counter + ahead, 32, 0, 1) + source.randbytes(32))
    made += [initiation[:-1] for initiation in initiations(responder, 5)]
    return made


def drops(meeting: Meeting) -> int:
    """What the node has dropped, for whatever reason."""
    return sum(meeting.node.client.call(node_api.STATUS).drops.values())
