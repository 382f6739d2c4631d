"""Applications of ASGI 3 on the network: one connection, HTTP and WebSockets."""
