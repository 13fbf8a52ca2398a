"""Collecting what people prefer: the page, the judgements' file, agreement between raters, pairs to learn from."""
