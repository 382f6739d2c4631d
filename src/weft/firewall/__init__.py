"""Default deny inbound over the overlay, stateful."""
