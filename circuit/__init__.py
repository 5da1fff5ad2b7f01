"""The lateral habenula circuit."""

if __name__ == "circuit":
    raise ImportError("import habenula.circuit, not circuit; pip install -e . once")
