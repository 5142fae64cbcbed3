"""Circuits written by formula, without training: models whose every score is known in advance."""

from lens_utils.planted.circuits import induction_model, q_composition_model, v_composition_model
from lens_utils.planted.heads import (
    class_head,
    copying_head,
    duplicate_token_head,
    first_token_head,
    induction_head,
    null_head,
    previous_token_head,
    skip_trigram_head,
    uniform_head,
)
from lens_utils.planted.model import BETA, HIT, PlantedHead, PlantedModel, PlantedShape, Rule

__all__ = [
    "BETA",
    "HIT",
    "PlantedHead",
    "PlantedModel",
    "PlantedShape",
    "Rule",
    "class_head",
    "copying_head",
    "duplicate_token_head",
    "first_token_head",
    "induction_head",
    "induction_model",
    "null_head",
    "previous_token_head",
    "q_composition_model",
    "skip_trigram_head",
    "uniform_head",
    "v_composition_model",
]
