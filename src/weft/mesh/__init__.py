"""What weft nodes say to each other inside their tunnels: multigrams, notices, probes."""
