"""What is lost when a part is taken out: one part, pairs of heads, groups of neurons; on texts and on prompt pairs."""
