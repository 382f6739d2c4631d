"""For the tests of weft and of its users: virtual clock, simulated network, faulty links."""
