"""Side-by-side ratios against peers: every row is measured in one run, in turn, and reported as a median."""
