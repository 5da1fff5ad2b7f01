"""Brian2 in C++ standalone mode: the update as code of its own, the population's mean as a summed synaptic variable."""

import importlib.util
import logging
import shutil
import tempfile

import numpy as np
from workload import DT, STATISTICS, Found, Workload, constants

STATE = """
v : 1
h : 1
a : 1
noise : 1
r : 1
level : 1
leak_reversal : 1 (constant)
spike_threshold : 1 (constant)
excitation : 1 (constant)
nmda : 1 (constant)
t_channel : 1 (constant)
kir_shift : 1 (constant)
current : 1 (constant)
inhibition : 1 (constant)
"""

STEP = """
activation = 1 / (1 + exp((t_activation_half - v) / t_activation_slope))
calcium = t_conductance * t_channel * activation * activation * h
open = nmda_conductance * excitation * nmda / (1 + 0.28 * exp(-0.062 * v))
potassium = afterhyperpolarisation_conductance * a
total = leak_conductance + calcium + ampa_conductance * excitation + open + inhibition + potassium
pull = leak_conductance * (leak_reversal_cell + kir_shift) + calcium * 120 - inhibition * 72 - potassium * 90 + noise + current
tau = t_recovery_fast + t_recovery_slow / (1 + exp((v + 60) / 3))
available = 1 / (1 + exp((v - t_availability_half) / t_availability_slope))
v = v - (pull / total - v) * expm1(-total * step)
h = h + step * (available - h) / tau
a = a + step * (r / 100 - a) / afterhyperpolarisation_time
noise = noise * decay + kick * randn()
r = 250 / (1 + exp((spike_threshold_cell - v) / spike_slope))
level = level + v
"""

STATISTIC = """
distance = output - mean
count = count + 1
mean = mean + distance / count
spread = spread + distance * (output - mean)
"""


def available() -> str | None:
    """Why it cannot run here, or None."""
    if not importlib.util.find_spec("brian2"):
        return "not installed: pip install brian2"
    try:
        import brian2  # noqa: F401
    except AttributeError as error:  # Brian2 2.9 asks NumPy for what 2.4 no longer has
        return f"does not import here ({error}): pip install 'numpy<2.4'"
    return None if shutil.which("g++") else "not installed: g++"


def prepare(workload: Workload, cores: int = 1):
    """Builds the program; a run then starts it, and counts the seconds of its time loop alone."""
    import brian2 as b

    logging.getLogger("brian2").setLevel(logging.ERROR)
    holder = tempfile.TemporaryDirectory(prefix="habenula-brian2-")  # goes when `run` does
    folder = holder.name
    b.set_device("cpp_standalone", directory=folder, build_on_run=False)
    b.device.reinit()  # forgets an earlier workload
    b.device.activate(directory=folder, build_on_run=False)
    b.prefs.core.default_float_dtype = np.float32
    b.prefs.devices.cpp_standalone.openmp_threads = cores if cores > 1 else 0  # 0 is without OpenMP
    b.defaultclock.dt = DT * b.ms

    numbers, size = constants(workload), workload.subjects * workload.neurons
    decay = np.exp(-DT / 5)
    names = {
        **{name: float(value) for name, value in numbers.neuron.items()},
        "step": DT,
        "decay": float(decay),
        "kick": float(numbers.neuron["noise"] * np.sqrt(1 - decay * decay)),
    }
    names.pop("noise")  # the state of that name; its strength is in the kick
    names = {name: value for name, value in names.items() if name not in ("leak_reversal", "spike_threshold")}
    code = lambda text: text.replace("_cell", "")
    neurons = b.NeuronGroup(size, STATE, namespace=names, name="neurons")
    neurons.run_regularly(code(STEP), dt=DT * b.ms, when="start")
    subjects = b.NeuronGroup(
        workload.subjects, "output : 1\nmean : 1\nspread : 1\ncount : 1", namespace=names, name="subjects"
    )
    share = f"r_pre * (1 + r_pre / burst_facilitation) / {workload.neurons}"
    population = b.Synapses(
        neurons, subjects, f"output_post = {share} : 1 (summed)", namespace=names, name="population"
    )
    population.connect(i=np.arange(size), j=np.repeat(np.arange(workload.subjects), workload.neurons))
    subjects.run_regularly(STATISTIC, dt=DT * b.ms, when="end")

    spread_out = lambda cells: np.tile(cells, workload.subjects)
    neurons.leak_reversal, neurons.spike_threshold = (
        spread_out(numbers.leak_reversal),
        spread_out(numbers.spike_threshold),
    )
    for name, value in numbers.conditions.items():
        setattr(neurons, name, np.repeat(value, workload.neurons))
    p = numbers.neuron
    v = spread_out(numbers.leak_reversal) + np.repeat(numbers.conditions["kir_shift"], workload.neurons)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    neurons.v = v
    neurons.h = sigmoid((p["t_availability_half"] - v) / p["t_availability_slope"])
    neurons.r = 250 * sigmoid((v - spread_out(numbers.spike_threshold)) / p["spike_slope"])

    network = b.Network(neurons, subjects, population)
    network.run(workload.steps * DT * b.ms)
    b.seed(workload.seed)
    b.device.build(directory=folder, compile=True, run=False, with_output=False)

    def run() -> Found:
        b.device.run(directory=holder.name, with_output=False, run_args=[])
        level = np.asarray(neurons.level[:]).reshape(workload.subjects, workload.neurons)
        found = (
            np.asarray(subjects.mean[:]),
            np.asarray(subjects.spread[:]) / workload.steps,
            level.mean(axis=1) / workload.steps,
        )
        return dict(zip(STATISTICS, found, strict=True)) | {"seconds": b.device._last_run_time}

    return run
