"""A catalogue of MLP neurons: what drives each, what it reads and writes, and what the model loses without it."""
