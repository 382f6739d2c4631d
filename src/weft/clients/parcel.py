"""Files and folders from one peer to another: sent by one, received by the other, and gone on with where it broke off.

    report = await send(node, "bob", [Path("photos")])  # on alice

    async with await open_inbox(node, Path("."), allowed=addresses.__contains__) as inbox:  # on bob
        received = await inbox.next()

| where              | what                                                        |
|--------------------|-------------------------------------------------------------|
| parcel_messages.py | what is said, byte by byte, and its bounds                  |
| parcel_names.py    | which names files may have                                  |
| parcel_link.py     | the stream, and whether the other side is still there       |
| parcel_pack.py     | what there is to send                                       |
| parcel_send.py     | the sender                                                  |
| parcel_inbox.py    | who may send, and whose turn it is                          |
| parcel_receive.py  | the receiver of one parcel                                  |
| parcel_folder.py   | where it goes: parts, places, and what is there already     |
"""

from weft.clients.parcel_inbox import Inbox, Offered, open_inbox
from weft.clients.parcel_messages import PORT
from weft.clients.parcel_receive import Received
from weft.clients.parcel_send import SendError, send

__all__ = ["PORT", "Inbox", "Offered", "Received", "SendError", "open_inbox", "send"]
