"""A TCP/IP host over IP packets, sans-IO: it speaks super-packets, so that Python pays per burst here too."""
