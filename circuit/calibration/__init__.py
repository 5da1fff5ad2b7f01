"""Scripts that fit the circuit's constants to published figures and write them to `constants.csv`.

Each runs as `python -m habenula.circuit.calibration.NAME`; none is imported by the model.
"""
