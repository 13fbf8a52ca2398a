"""Laws of the loss: what model size, tokens and repetition are worth, fitted to runs, with intervals."""
