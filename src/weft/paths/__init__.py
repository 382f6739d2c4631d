"""What is known about the ways to a peer: endpoints and path MTU."""
