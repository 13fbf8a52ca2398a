"""One short file a family: which blocks, put together how."""
