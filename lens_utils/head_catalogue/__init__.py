"""Heads of the name-recipient task by what they do (Wang et al. 2022), and how much of it their circuit explains."""
