/* One population of LHb neurons per subject, as one writes it in C at first: the equations of `lateral_habenula.step` in one
   loop over subjects, the mathematics library's vector functions, the same noise. `lhb.c` is what a long tuning makes of it.

   Units: ms, mV, mS/cm2, uA/cm2, Hz. */

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>

enum { LANES = 64 }; /* subjects side by side */

/* The fields of `lateral_habenula.Neuron`, in its order. */
typedef struct {
    float leak_conductance, leak_reversal, leak_reversal_spread, spike_threshold, spike_threshold_spread, spike_slope;
    float t_conductance, t_activation_half, t_activation_slope, t_availability_half, t_availability_slope;
    float t_recovery_fast, t_recovery_slow, ampa_conductance, nmda_conductance;
    float afterhyperpolarisation_conductance, afterhyperpolarisation_time, noise, burst_facilitation;
} Neuron;

/* The fields of `lateral_habenula.Conditions`. */
typedef struct { float excitation[LANES], nmda[LANES], t_channel[LANES], shift[LANES], current[LANES], inhibition[LANES]; } Given;
typedef struct { float potential[LANES], availability[LANES], afterhyperpolarisation[LANES], noise[LANES], kept[LANES]; } State;

static inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/* Philox2x32-10 and Box-Muller: the normals of two steps. */
static inline void normals(uint32_t key, uint32_t subject, uint32_t pair, float *even, float *odd) {
    uint32_t a = subject, b = pair;
    for (int turn = 0; turn < 10; turn++) {
        uint64_t product = (uint64_t)a * 0xD256D193u;
        a = (uint32_t)(product >> 32) ^ key ^ b;
        b = (uint32_t)product;
        key += 0x9E3779B9u;
    }
    float length = sqrtf(-2.0f * logf((float)(a | 1u) * 0x1p-32f)), angle = (float)b * (6.28318531f * 0x1p-32f);
    *even = length * cosf(angle);
    *odd = length * cosf(angle - 1.57079633f); /* its sine: of sinf beside cosf, gcc makes one call that has no vector form */
}

static void run_tile(const Neuron *p, const float *leak_reversal, const float *spike_threshold, const Given *g, uint32_t seed,
                     uint32_t subject, int neurons, int steps, float dt, State *x, float found[3][LANES]) {
    float decay = expf(-dt / 5.0f), kick = p->noise * sqrtf(-expm1f(-2.0f * dt / 5.0f));
    double sum[LANES] = {0}, square[LANES] = {0}, level[LANES] = {0};
    for (int k = 0; k < neurons; k++)
        for (int i = 0; i < LANES; i++) {
            float v = leak_reversal[k] + g->shift[i];
            x[k].potential[i] = v;
            x[k].availability[i] = sigmoid((p->t_availability_half - v) / p->t_availability_slope);
            x[k].afterhyperpolarisation[i] = x[k].noise[i] = 0.0f;
        }
    for (int j = 0; j < steps; j++) {
        float output[LANES] = {0}, height[LANES] = {0};
        for (int k = 0; k < neurons; k++) {
            uint32_t key = seed ^ 0x85EBCA6Bu * (k + 1);
            State *s = &x[k];
            float z[LANES];
            if (j % 2 == 0) {
#pragma omp simd
                for (int i = 0; i < LANES; i++) normals(key, subject + i, j / 2, &z[i], &s->kept[i]);
            } else {
                for (int i = 0; i < LANES; i++) z[i] = s->kept[i];
            }
#pragma omp simd
            for (int i = 0; i < LANES; i++) {
                float v = s->potential[i], h = s->availability[i], a = s->afterhyperpolarisation[i], noise = s->noise[i];
                float before = 250.0f * sigmoid((v - spike_threshold[k]) / p->spike_slope);
                float activation = sigmoid((v - p->t_activation_half) / p->t_activation_slope);
                float calcium = p->t_conductance * g->t_channel[i] * activation * activation * h;
                float ampa = p->ampa_conductance * g->excitation[i];
                float nmda = p->nmda_conductance * g->excitation[i] * g->nmda[i] / (1.0f + 0.28f * expf(-0.062f * v));
                float potassium = p->afterhyperpolarisation_conductance * a;
                float total = p->leak_conductance + calcium + ampa + nmda + g->inhibition[i] + potassium;
                float drive = p->leak_conductance * (leak_reversal[k] + g->shift[i]) + calcium * 120.0f
                              - 72.0f * g->inhibition[i] - 90.0f * potassium + noise + g->current[i];
                float tau = p->t_recovery_fast + p->t_recovery_slow * sigmoid(-(v + 60.0f) / 3.0f);
                float available = sigmoid((p->t_availability_half - v) / p->t_availability_slope);
                float after = drive / total + (v - drive / total) * expf(-total * dt);
                float rate = 250.0f * sigmoid((after - spike_threshold[k]) / p->spike_slope);
                s->potential[i] = after;
                s->availability[i] = h + dt * (available - h) / tau;
                s->afterhyperpolarisation[i] = a + dt * (before * 0.01f - a) / p->afterhyperpolarisation_time;
                s->noise[i] = noise * decay + kick * z[i];
                output[i] += rate * (1.0f + rate / p->burst_facilitation);
                height[i] += after;
            }
        }
        for (int i = 0; i < LANES; i++) {
            double s = output[i] / neurons;
            sum[i] += s, square[i] += s * s, level[i] += height[i];
        }
    }
    for (int i = 0; i < LANES; i++) {
        double mean = sum[i] / steps;
        found[0][i] = mean, found[1][i] = square[i] / steps - mean * mean, found[2][i] = level[i] / ((double)steps * neurons);
    }
}

/* As in lhb.c: `conditions` is (6, subjects), `found` (3, subjects). */
void lhb_run(const Neuron *p, const float *leak_reversal, const float *spike_threshold, const float *conditions, int subjects,
             int neurons, int steps, float dt, uint32_t seed, int threads, float *found) {
    int tiles = (subjects + LANES - 1) / LANES;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int tile = 0; tile < tiles; tile++) {
        State *work = malloc(neurons * sizeof(State));
        Given g;
        float out[3][LANES];
        for (int i = 0; i < LANES; i++) {
            int lane = tile * LANES + i < subjects ? tile * LANES + i : subjects - 1; /* lanes past the end repeat the last */
            const float *c = conditions + lane;
            g.excitation[i] = c[0], g.nmda[i] = c[subjects], g.t_channel[i] = c[2 * subjects], g.shift[i] = c[3 * subjects];
            g.current[i] = c[4 * subjects], g.inhibition[i] = c[5 * subjects];
        }
        run_tile(p, leak_reversal, spike_threshold, &g, seed, tile * LANES, neurons, steps, dt, work, out);
        for (int i = 0; i < LANES && tile * LANES + i < subjects; i++)
            for (int row = 0; row < 3; row++) found[row * subjects + tile * LANES + i] = out[row][i];
        free(work);
    }
}
