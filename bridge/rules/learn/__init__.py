"""Learning: from what devices say to mappings that fit them. Pure, as all rules are."""
