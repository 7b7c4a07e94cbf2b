"""`make bench`: the hub's speed as ratios to a baseline in the same run (design.md, section 9)."""
