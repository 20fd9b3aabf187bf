"""Training of the learned parts: labelled groups, the validity network, the explainers that learn, predictors.

What is bundled with the package is made here, by the commands that users have, too:
``fusecut train ...``; needs the extra ``fusecut[gnn]``, except for the data set, and for predictors,
which need ``fusecut[predict]``.
"""
