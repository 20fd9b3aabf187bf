<<<<<<< HEAD
"""Training of the learned parts: labelled groups, the validity network, the explainers that learn.

``fusecut train ...``; needs the extra ``fusecut[gnn]``, except for the data set.
"""
=======
"""Training of the learned parts, on labels that our own solver computes or that a user brings."""
>>>>>>> 319fd1f (Predictors: Gaussian blocks in closed form, model files, training command, predict and rank)
