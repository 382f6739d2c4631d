"""What plays the other side: floods in C, many peers in Python."""
