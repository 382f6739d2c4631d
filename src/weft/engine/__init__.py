"""Lifetimes, tasks, configuration, and the datapath that joins the machines to the descriptors."""
