"""`Plan`: backend, tile and block sizes, and devices of a run."""

import dataclasses

import jax

BACKENDS = ("auto", "tiled", "scan", "fused")
# Tiles are a multiple of this many lanes, the widest vector of a CPU, so that all lanes use the same instructions.
_VECTOR_LANES = 16
_KERNEL_LANES = 128  # lanes that "fused" pads to, a multiple of every kernel's


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a run uses the hardware. Results are the same under every plan; to rounding, where a step contains a `matmul`.

    Attributes:
        backend: "tiled" runs cache-sized tiles of lanes through all steps in one compiled call each: fastest on CPU.
            "scan" is the plain loop over all lanes: the reference, for accelerators, and for every transformation that
            JAX has. "fused" makes all steps of a lane in one kernel of an NVIDIA GPU; see `pallas_gpu.kernel` for what a
            step may contain, and `autodiff.forward_mode` for its derivatives. Experimental: it has been interpreted and
            compiled, but has not run on a GPU. "auto" takes "tiled" on CPU and "scan" elsewhere.
        tile: lanes in a tile. Best where a tile's state fills a few tens of KiB; about 512 / K for K numbers a lane.
        block: most steps in a block, for which noise is made and statistics are merged at once, and which the reverse
            pass computes again as a whole: best where its intermediate values, of one tile, fit the second-level cache.
        devices: over how many devices lanes are divided.
        interpret: whether "fused" is computed without its compiler, on any device: slow, for tests.
        hoist: whether the loop of a tile is compiled as a single call. XLA cannot do that for a step with a matrix
            product other than `matmul`, or with a sum of 4096 numbers or more over neurons and lanes of a tile; such a
            step runs without.

    Example:
        >>> Plan("tiled", tile=256).divide(300)
        (160, 320)
    """

    backend: str = "auto"
    tile: int = 256
    block: int = 16
    devices: int = 1
    hoist: bool = True
    interpret: bool = False

    def __post_init__(self):
        if self.backend not in BACKENDS:
            raise ValueError(f"backend={self.backend!r} is none of {', '.join(BACKENDS)}.")
        for name in ("tile", "block", "devices"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")

    def resolve(self) -> "Plan":
        """The same plan with a definite backend, after checking that the devices exist."""
        available = jax.local_device_count()  # of this process: each has its own subjects, see `multiprocess`
        if self.devices > available:
            raise ValueError(
                f"devices={self.devices}, but JAX sees {available}. For more CPU devices, "
                f"jax.config.update('jax_num_cpu_devices', {self.devices}) before JAX is first used."
            )
        platform = _target_platform()
        if self.backend == "fused" and not self.interpret and platform != "gpu":
            raise ValueError(
                f"backend='fused' is for GPUs, but JAX runs on {platform!r}: take backend='auto', or install "
                "jax[cuda13] on a machine with one; interpret=True computes it slowly anywhere."
            )
        if self.backend == "auto":
            return dataclasses.replace(self, backend="tiled" if platform == "cpu" else "scan")
        return self

    def divide(self, lanes: int) -> tuple[int, int]:
        """The lanes of a tile, and the lanes of all tiles, padding included.

        Tiles have one size: 300 lanes are two tiles of 160, not one of 256 and a rest.
        """
        per_device = _ceil_divide(lanes, self.devices)
        tiles = _ceil_divide(per_device, self.tile) if self.backend == "tiled" else 1
        unit = _KERNEL_LANES if self.backend == "fused" else _VECTOR_LANES
        tile = unit * _ceil_divide(_ceil_divide(per_device, tiles), unit)
        return tile, tile * self.devices * _ceil_divide(lanes, tile * self.devices)


def _target_platform() -> str:
    """Where a run will execute: the platform that is compiled for, if it is another than the default."""
    elsewhere = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if elsewhere is None else elsewhere.platform


def _ceil_divide(number: int, unit: int) -> int:
    return -(-number // unit)
