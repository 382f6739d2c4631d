"""HTTP out of the network: the client, and files that are fetched."""
