"""The experiments: one file each, found by being here. `python -m experiments` lists them."""
