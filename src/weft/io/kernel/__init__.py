"""The kernel's sockets in the network of a node with a TUN, as the stack has its own: nothing waits, nothing leads out.

Linux alone has what this needs: epoll, and sockets that are held to one interface.
"""
