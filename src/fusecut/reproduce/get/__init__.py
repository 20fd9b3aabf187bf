"""The tables and figures of arXiv 2501.00636, ours beside theirs, with what the paper leaves out.

The proven optimum stands in every row, and controls stand beside the paper's methods: random edges under
the same algorithm (the placebo), the exact attribution, a negated explanation, cuts by cost alone.
"""
