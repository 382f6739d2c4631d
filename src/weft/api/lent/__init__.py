"""The sockets of a daemon's host, lent to programs: how `Node.attach` reaches the network of a daemon with the stack.

| side    | what                                                   | where                                        |
|---------|--------------------------------------------------------|----------------------------------------------|
| both    | the channel: messages, and descriptors with them       | messages, channel, frames                    |
| daemon  | one lender for each program, one relay for each socket | lending, lender, stream_relay, datagram_relay |
| program | what api/streams/ takes for a host of the stack        | borrower, borrowed_stream, borrowed_datagram |
"""
