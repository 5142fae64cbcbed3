"""Columns of the tables of neurons."""

from lens_utils.mlp.tables import CLASS
from lens_utils.tables import TOKEN_UNIT, Column

NAME = {"neuron": Column("The neuron: L0N12 is neuron 12 of block 0.")}
RISE = {
    "rise": Column("Loss with the neuron held at its mean over all texts, minus the loss; above 0 it helps.", "nats"),
    "rise_low": Column("Lower end of its 95 % interval, texts resampled; empty with one text.", "nats"),
    "rise_high": Column("Upper end of it.", "nats"),
    "q": Column("Two-sided p of rise, signs of texts flipped; Benjamini-Hochberg over all neurons.", "probability"),
}
FRESH = {
    "fresh_rise": Column("The same on texts that had no part in choosing the neurons: what to believe.", "nats"),
    "fresh_low": Column("Lower end of its 95 % interval, texts resampled.", "nats"),
    "fresh_high": Column("Upper end of it.", "nats"),
    "fresh_q": Column("Two-sided p of it, signs flipped; Benjamini-Hochberg over the shown neurons.", "probability"),
}
_CLASS = {
    "word_class": CLASS,
    "class_effect": Column("Rank-biserial correlation with that class, the strongest of all: 1 above all others."),
    "class_q": Column("Its q, class labels shuffled over tokens, over all neurons and classes.", "probability"),
}
_HEAD = {
    "head": Column("Head of the block, and feature of its attention, with the largest |r|."),
    "head_r": Column("Spearman correlation of the two over tokens, ranks within each text."),
    "head_q": Column("Its q, tokens shuffled within texts, over all pairs.", "probability"),
}
SHOWN = {
    "driven_by": Column("Tokens at its highest pre-activations, each once."),
    **_CLASS,
    "reads": Column("Tokens whose embedding adds most to its pre-activation."),
    "promotes": Column("Tokens whose logit it raises most per unit of activation."),
    "suppresses": Column("Tokens whose logit it lowers most."),
    "cosine": Column("Cosine of W_in and W_out: above 0 it writes more of what it reads, below 0 it erases it."),
    **_HEAD,
}
ALL = {
    "mean": Column("Mean activation (hook_post) over all tokens read."),
    "sd": Column("Standard deviation over tokens (n - 1)."),
    "active": Column("Share of tokens at which it is above 0.", "share"),
    "excess_kurtosis": Column("Over tokens: 0 for a normal distribution; empty for a constant neuron."),
    "lowest": Column("Smallest activation."),
    "highest": Column("Largest activation."),
    "driven_by": Column("The token at its highest activation.", TOKEN_UNIT),
    **_CLASS,
    **_HEAD,
    "promotes": Column("The token whose logit it raises most.", TOKEN_UNIT),
    "suppresses": Column("The token whose logit it lowers most.", TOKEN_UNIT),
    "output_size": Column("Standard deviation over tokens of its effect on the logits, for W_out of length 1.", "nats"),
    "output_size_q": Column("One-sided, random directions of the same norm; over all neurons.", "probability"),
    "output_kurtosis": Column("Excess kurtosis over tokens of its effect on the logits: large where few stand out."),
    "output_kurtosis_q": Column("One-sided, random directions; over all neurons.", "probability"),
    "input_kurtosis": Column("Excess kurtosis over tokens of what their embeddings add to the pre-activation."),
    "input_kurtosis_q": Column("One-sided, random directions; over all neurons.", "probability"),
    "cosine": SHOWN["cosine"],
    "cosine_q": Column("Two-sided, W_in and W_out of different neurons; over all neurons.", "probability"),
}
PROPERTIES = {
    "neurons": Column("Neurons for which it is defined."),
    "significant": Column("Neurons with q <= 0.05."),
    "median": Column("Median over neurons of the score: rise (nats), |effect|, |r|, size (nats), kurtosis or cosine."),
    "largest": Column("Its largest value."),
    "null_mean": Column("Mean of the null of that score; empty where the null is one of each neuron."),
    "null_high": Column("97.5 % quantile of that null."),
}
