"""Descriptors: UDP, TUN, netlink, files, clocks. The only room that makes system calls on the packet path."""
