"""Circuits of attention heads read from weights: in token space, copying, composition, and sums over paths.

Weights are read folded (`load_model(..., processing="folded")`), so that LayerNorm is a division by one number a token.
Row vectors throughout: a token's score with another is e W_Q W_K^T e'^T, what it passes on e W_V W_O W_U.
"""
