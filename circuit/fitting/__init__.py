"""What both fits of the circuit share: bijections, limits on doses, regimens, failures."""
