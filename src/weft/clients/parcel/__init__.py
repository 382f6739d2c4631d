"""Files and folders from one peer to another: sent by one, received by the other, and gone on with where it broke off.

    report = await send(node, "bob", [Path("photos")])  # on alice

    async with await open_inbox(node, Path("."), allowed=addresses.__contains__) as inbox:  # on bob
        received = await inbox.next()

| where              | what                                                        |
|--------------------|-------------------------------------------------------------|
| messages.py        | what is said, byte by byte, and its bounds                  |
| names.py           | which names files may have                                  |
| link.py            | the stream, and whether the other side is still there       |
| pack.py            | what there is to send                                       |
| send.py            | the sender                                                  |
| inbox.py           | who may send, and whose turn it is                          |
| receive.py         | the receiver of one parcel                                  |
| folder.py          | where it goes: parts, places, and what is there already     |
"""
