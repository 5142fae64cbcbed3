"""What attention_patterns measures and shows: each text in every head, then tables, pages and heatmap grids."""
