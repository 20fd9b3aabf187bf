"""Training of the learned parts: labelled groups, the validity network, the explainers that learn.

``fusecut train ...``; needs the extra ``fusecut[gnn]``, except for the data set.
"""
