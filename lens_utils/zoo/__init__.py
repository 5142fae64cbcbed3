"""The shipped models: corpus generator, tokenizer, trainers, evaluation and trained weights."""
