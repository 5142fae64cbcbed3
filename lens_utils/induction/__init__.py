"""Induction heads (Olsson et al. 2022): whether a model has them, what feeds them, and when they form.

A text is random tokens said twice: in the second copy, only the earlier occurrence of a token tells what follows.
"""
