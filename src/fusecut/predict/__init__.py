"""What a network will cost, predicted from its compute graph without a search (AIO-P, arXiv 2211.17228)."""
