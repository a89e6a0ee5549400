"""From files to tokens: sources, tokenizers, corpora, evaluation sets. Knows no model, imports no torch."""
