"""Pairs of prompts that differ in what matters: built-in sets and the user's own files, checked against a model."""

from lens_utils.prompt_pairs.loading import SETS, default_set, load_pairs
from lens_utils.prompt_pairs.pairs import PairText, PromptPair, answer_position, tokenize_pair
from lens_utils.prompt_pairs.roles import roles

__all__ = ["SETS", "PairText", "PromptPair", "answer_position", "default_set", "load_pairs", "roles", "tokenize_pair"]
