"""What mlp_statistics measures and shows: one pass over the texts, then tables and figures of each layer."""
