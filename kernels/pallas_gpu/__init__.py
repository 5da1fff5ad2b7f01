"""Experimental: the time loop as one GPU kernel, for the backend "fused".

Interpreted, it gives the numbers of the plain loop, and Triton compiles it. It has not run on a GPU.
"""
