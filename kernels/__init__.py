"""Numerics of many independent stochastic systems: noise, schemes, statistics, the time loop. No neuroscience."""

if __name__ == "kernels":
    raise ImportError("import habenula.kernels, not kernels; pip install -e . once")

from . import multiprocess as multiprocess
from .autodiff.forward_mode import grad_by_forward_mode as grad_by_forward_mode
from .integration import MAX_RESIDUAL_BYTES_PER_TILE as MAX_RESIDUAL_BYTES_PER_TILE
from .integration import Integration as Integration
from .integration import integrate as integrate
from .integration import stores_every_state as stores_every_state
from .jit import entry_point as entry_point
from .noise import channel_keys as channel_keys
from .noise import normal_pairs as normal_pairs
from .noise import normals_at_step as normals_at_step
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
from .statistics import MeasuredStatistic as MeasuredStatistic
from .statistics import Statistic as Statistic
from .statistics import Variance as Variance
from .streaming_summary import Quantiles as Quantiles
from .streaming_summary import Summary as Summary
from .xla_cpu.broadcast_rows import broadcast_rows as broadcast_rows
from .xla_cpu.exp2 import exp2 as exp2
from .xla_cpu.exp2 import exp_ratio as exp_ratio
from .xla_cpu.hoist import has_hoisted_call as has_hoisted_call
from .xla_cpu.hoist import outlined as outlined
from .xla_cpu.matmul import matmul as matmul
