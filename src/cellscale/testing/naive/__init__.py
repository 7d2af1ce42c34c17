"""Naive twins of the kernels: each follows its definition pixel by pixel, for comparisons on small images.

They are slow on purpose and share no code with `cellscale.kernels`, so that an error in a kernel cannot hide in both.
"""
