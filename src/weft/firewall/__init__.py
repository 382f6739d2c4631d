"""Default deny inbound over the overlay, stateful."""

from weft.firewall.firewall import Firewall
from weft.firewall.judge import Verdict
from weft.firewall.rules import Rule, decode_rule, encode_rule

__all__ = ["Firewall", "Rule", "Verdict", "decode_rule", "encode_rule"]
