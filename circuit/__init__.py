"""The model and what one does with it, in packages that import one way.

`data`, `model`, `behaviour`, `simulation`, `choice_models`, `fitting`, `optimisation`, `inference`, `study`,
`calibration`: `tests/package/test_layers.py` says which may import which. Users need none of these paths:
`import habenula as hb` gives the public names.
"""

if __name__ == "circuit":
    raise ImportError("import habenula, not circuit; pip install -e . once")
