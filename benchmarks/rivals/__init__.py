"""Engines that do the same work, one module each, with the same two functions.

    available() -> str | None
        Why it cannot run here (what to install), or None.
    prepare(workload, cores=1) -> run
        Everything that is done once: building, compiling, laying out. Then `run()` does the work and returns
        {"output_mean", "output_variance", "potential_mean"}, each (subjects,), see `workload`. It may add "seconds", where
        only the engine itself knows how long its time loop took.

To add one, write such a module and a line here.
"""

MODULES = {
    "habenula": "rivals.habenula_tiled",
    "c": "rivals.plain_c",
    "c-tuned": "rivals.handwritten_c",
    "numba": "rivals.numba_loops",
    "scan": "rivals.jax_scan",
    "diffrax": "rivals.diffrax_solver",
    "diffrax-tuned": "rivals.diffrax_tuned",
    "brian2": "rivals.brian2_standalone",
    "numpy": "rivals.numpy_steps",
    "cuda": "rivals.cuda_kernel",
}
ON_GPU = {  # JAX's there, instead of on the processor
    "habenula": "rivals.habenula_fused",
    "scan": "rivals.jax_scan",
    "cuda": "rivals.cuda_kernel",
}
