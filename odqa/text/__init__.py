"""Text: Unicode, sentences, morphemes, tokenizers, particles."""
