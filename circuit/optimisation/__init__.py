"""`restore` and `pareto`: the regimen that brings VTA output to a target."""
