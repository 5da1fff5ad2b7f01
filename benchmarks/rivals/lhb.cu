/* One population of LHb neurons per subject, by hand for NVIDIA GPUs: what a GPU can do with `lateral_habenula.step`.

   A warp is a subject; each lane holds PER_LANE neurons in registers for the whole run, and makes its own noise. The mean
   over neurons, needed at every step for its variance over time, is a sum over the warp. Nothing touches memory in between.

   Units: ms, mV, mS/cm2, uA/cm2, Hz. */

#include <math.h>
#include <stdint.h>

#ifndef PER_LANE
#define PER_LANE 1
#endif
#define WARP 32
#define BLOCK 128

/* The fields of `lateral_habenula.Neuron`, in its order. */
struct Neuron {
    float leak_conductance, leak_reversal, leak_reversal_spread, spike_threshold, spike_threshold_spread, spike_slope;
    float t_conductance, t_activation_half, t_activation_slope, t_availability_half, t_availability_slope;
    float t_recovery_fast, t_recovery_slow, ampa_conductance, nmda_conductance;
    float afterhyperpolarisation_conductance, afterhyperpolarisation_time, noise, burst_facilitation;
};

__device__ static float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

__device__ static float sum_over_warp(float x) {
    for (int far = WARP / 2; far; far /= 2) x += __shfl_xor_sync(0xffffffffu, x, far);
    return x;
}

/* Normals of two steps of one neuron: Philox2x32-10 and Box-Muller. */
__device__ static float2 normals(uint32_t key, uint32_t subject, uint32_t pair) {
    uint32_t a = subject, b = pair;
#pragma unroll
    for (int turn = 0; turn < 10; turn++, key += 0x9E3779B9u) {
        uint32_t high = __umulhi(a, 0xD256D193u), low = a * 0xD256D193u;
        a = high ^ key ^ b;
        b = low;
    }
    float length = sqrtf(-2.0f * __logf((a | 1u) * 0x1p-32f)), sine, cosine;
    __sincosf((int32_t)b * (6.28318531f * 0x1p-32f), &sine, &cosine);
    return make_float2(length * cosine, length * sine);
}

__global__ void lhb(Neuron p, const float *leak_reversal, const float *spike_threshold, const float *conditions, int subjects,
                    int steps, float dt, uint32_t seed, float decay, float kick, float *found) {
    int subject = (blockIdx.x * BLOCK + threadIdx.x) / WARP, lane = threadIdx.x % WARP;
    if (subject >= subjects) return; /* whole warps */
    const float *c = conditions + subject;
    float excitation = c[0], shift = c[3 * subjects], inhibition = c[5 * subjects];
    float calcium_most = p.t_conductance * c[2 * subjects], nmda_most = p.nmda_conductance * excitation * c[subjects];
    float passive = p.leak_conductance + p.ampa_conductance * excitation + inhibition;
    float v[PER_LANE], h[PER_LANE], a[PER_LANE], noise[PER_LANE], r[PER_LANE], pull[PER_LANE], threshold[PER_LANE];
    float2 z[PER_LANE];
    for (int k = 0; k < PER_LANE; k++) {
        int neuron = k * WARP + lane;
        threshold[k] = spike_threshold[neuron];
        v[k] = leak_reversal[neuron] + shift;
        pull[k] = p.leak_conductance * v[k] - 72.0f * inhibition + c[4 * subjects];
        h[k] = sigmoid((p.t_availability_half - v[k]) / p.t_availability_slope);
        a[k] = noise[k] = 0.0f;
        r[k] = 250.0f * sigmoid((v[k] - threshold[k]) / p.spike_slope);
    }
    double sum = 0.0, square = 0.0, level = 0.0;
    for (int begin = 0; begin < steps; begin += 64) { /* sums in two levels: single precision within 64 steps */
        int end = min(begin + 64, steps);
        float part = 0.0f, part_square = 0.0f, part_level = 0.0f;
        for (int step = begin; step < end; step++) {
            float output = 0.0f;
#pragma unroll
            for (int k = 0; k < PER_LANE; k++) {
                if (step % 2 == 0) z[k] = normals(seed ^ (0x85EBCA6Bu * (k * WARP + lane + 1)), subject, step / 2);
                float activation = sigmoid((v[k] - p.t_activation_half) / p.t_activation_slope);
                float calcium = calcium_most * activation * activation * h[k];
                float nmda = nmda_most / (1.0f + 0.28f * __expf(-0.062f * v[k]));
                float potassium = p.afterhyperpolarisation_conductance * a[k];
                float total = passive + calcium + nmda + potassium;
                float drive = pull[k] + calcium * 120.0f - potassium * 90.0f + noise[k];
                float tau = p.t_recovery_fast + p.t_recovery_slow * sigmoid((v[k] + 60.0f) * (-1.0f / 3.0f));
                float available = sigmoid((p.t_availability_half - v[k]) / p.t_availability_slope);
                v[k] -= (drive / total - v[k]) * expm1f(-total * dt);
                h[k] += dt * (available - h[k]) / tau;
                a[k] += dt * (r[k] * 0.01f - a[k]) / p.afterhyperpolarisation_time;
                noise[k] = noise[k] * decay + kick * (step % 2 ? z[k].y : z[k].x);
                r[k] = 250.0f * sigmoid((v[k] - threshold[k]) / p.spike_slope);
                output += r[k] * (1.0f + r[k] / p.burst_facilitation);
                part_level += v[k];
            }
            output = sum_over_warp(output) / (PER_LANE * WARP);
            part += output, part_square += output * output;
        }
        sum += part, square += part_square, level += part_level;
    }
    float potential = sum_over_warp((float)(level / steps)) / (PER_LANE * WARP);
    if (lane == 0) {
        double mean = sum / steps;
        found[subject] = mean;
        found[subjects + subject] = square / steps - mean * mean;
        found[2 * subjects + subject] = potential;
    }
}

/* Runs all subjects of 32 PER_LANE neurons on the first GPU; arguments are those of lhb.c, in the host's memory. Returns
   CUDA's error, 0 for none, and the kernel's own time (ms). */
extern "C" int lhb_run(const Neuron *p, const float *leak_reversal, const float *spike_threshold, const float *conditions,
                       int subjects, int steps, float dt, uint32_t seed, float *found, float *milliseconds) {
    const size_t cells = PER_LANE * WARP * sizeof(float), row = subjects * sizeof(float);
    float *device, *cell, *given, *out;
    cudaEvent_t begin, end;
    if (cudaMalloc(&device, 2 * cells + 9 * row) != cudaSuccess) return cudaGetLastError();
    cell = device, given = cell + 2 * PER_LANE * WARP, out = given + 6 * subjects;
    cudaMemcpy(cell, leak_reversal, cells, cudaMemcpyHostToDevice);
    cudaMemcpy(cell + PER_LANE * WARP, spike_threshold, cells, cudaMemcpyHostToDevice);
    cudaMemcpy(given, conditions, 6 * row, cudaMemcpyHostToDevice);
    cudaEventCreate(&begin), cudaEventCreate(&end);
    cudaEventRecord(begin);
    lhb<<<(subjects * WARP + BLOCK - 1) / BLOCK, BLOCK>>>(*p, cell, cell + PER_LANE * WARP, given, subjects, steps, dt, seed,
                                                         expf(-dt / 5.0f), p->noise * sqrtf(-expm1f(-2.0f * dt / 5.0f)), out);
    cudaEventRecord(end);
    cudaMemcpy(found, out, 3 * row, cudaMemcpyDeviceToHost);
    cudaEventElapsedTime(milliseconds, begin, end);
    cudaEventDestroy(begin), cudaEventDestroy(end);
    cudaFree(device);
    return cudaGetLastError();
}
