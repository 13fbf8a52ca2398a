"""Many devices: what they are, how a model is laid out over them, and what memory, time and money that takes."""
