"""Blocks (attention, feed-forward, norm, position) and the families that are assembled from them."""
