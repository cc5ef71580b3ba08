"""Floor 5: how good a model is, in numbers that other models and tokenizers can be compared by."""
