"""Numerics of many independent stochastic systems: noise, schemes, statistics, the time loop. No neuroscience."""

if __name__ == "kernels":
    raise ImportError("import habenula.kernels, not kernels; pip install -e . once")

from . import multiprocess as multiprocess
from .autodiff.forward_mode import by_tangents as by_tangents
from .integration import KEPT as KEPT
from .integration import Integration as Integration
from .integration import integrate as integrate
from .integration import keeps_every_step as keeps_every_step
from .jit import entry_point as entry_point
from .noise import channel_keys as channel_keys
from .noise import normal_pairs as normal_pairs
from .noise import normals as normals
from .noise import philox2x32 as philox2x32
from .plan import Plan as Plan
from .schemes import euler_maruyama as euler_maruyama
from .schemes import exponential_euler as exponential_euler
from .schemes import exponential_rosenbrock as exponential_rosenbrock
from .schemes import exponential_step as exponential_step
from .schemes import heun as heun
from .schemes import ornstein_uhlenbeck as ornstein_uhlenbeck
from .statistics import Histogram as Histogram
from .statistics import Maximum as Maximum
from .statistics import Mean as Mean
from .statistics import Measured as Measured
from .statistics import Statistic as Statistic
from .statistics import Variance as Variance
from .streaming_summary import Quantiles as Quantiles
from .streaming_summary import Summary as Summary
from .xla_cpu.broadcast_rows import broadcast_rows as broadcast_rows
from .xla_cpu.exp2 import growth as growth
from .xla_cpu.exp2 import power_of_two as power_of_two
from .xla_cpu.hoist import apart as apart
from .xla_cpu.hoist import hoist_taken as hoist_taken
from .xla_cpu.matmul import matmul as matmul
