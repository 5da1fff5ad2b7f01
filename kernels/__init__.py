if __name__ == "kernels":
    raise ImportError("import habenula.kernels, not kernels; pip install -e . once")
