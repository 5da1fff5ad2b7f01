"""The time loop as one GPU kernel. Experimental: it has not run on a GPU."""
