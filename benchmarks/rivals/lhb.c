/* One population of LHb neurons per subject, by hand: what a processor can do with `lateral_habenula.step`.

   A tile is LANES subjects, side by side in vector registers. A neuron of a tile makes BLOCK steps before the next neuron
   begins, so that its state stays in the first-level cache; the outputs of a block are summed over neurons in a small
   table and go into the statistics at its end. Tiles are shared out over threads.

   Savings over the equations as written: the exponential is a polynomial that the compiler can inline and vectorise, faster
   than the vector library's; two sigmoids share a division; the rate at the end of a step is kept for the beginning of the
   next; one Philox block makes the normals of two steps. A step is several short loops, so that the processor finds
   independent work while it waits for an exponential.

   Units: ms, mV, mS/cm2, uA/cm2, Hz. */

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

enum { LANES = 64, BLOCK = 32 };

/* The fields of `lateral_habenula.Neuron`, in its order. */
typedef struct {
    float leak_conductance, leak_reversal, leak_reversal_spread, spike_threshold, spike_threshold_spread, spike_slope;
    float t_conductance, t_activation_half, t_activation_slope, t_availability_half, t_availability_slope;
    float t_recovery_fast, t_recovery_slow, ampa_conductance, nmda_conductance;
    float afterhyperpolarisation_conductance, afterhyperpolarisation_time, noise, burst_facilitation;
} Neuron;

typedef float Lanes[LANES] __attribute__((aligned(64)));

typedef struct { Lanes leak_shift, calcium, nmda, conductance, current; } Given;   /* what a step needs of the conditions */
typedef struct { Lanes potential, availability, afterhyperpolarisation, noise, rate; } State;
typedef struct { Lanes first, second; } Pair;

/* 2^n, and q = 2^f - 1 by a polynomial with relative error 1e-7, where exp(x) = 2^(n + f) and |f| <= 1/2; |x| < 87. */
typedef struct { float power, rest; } Split;

static inline Split split(float x) {
    float t = x * 1.44269504f;
    int32_t n = (int32_t)rintf(t);
    float f = t - (float)n, f2 = f * f;
    float rest = f * ((0.693147004f + f * 0.240222424f) + f2 * ((0.0555073358f + f * 0.00967151299f) + f2 * 0.00132647273f));
    union { int32_t bits; float value; } power = {(n + 127) << 23};
    return (Split){power.value, rest};
}

static inline float exp_polynomial(float x) {
    Split s = split(x);
    return s.power * s.rest + s.power;
}

static inline float expm1_polynomial(float x) {
    Split s = split(x);
    return s.power * s.rest + (s.power - 1.0f);
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + exp_polynomial(-x)); }

/* log(u) for 0 < u <= 1, by the series of the inverse hyperbolic tangent. */
static inline float log_series(float u) {
    union { float value; int32_t bits; } whole = {u}, part;
    int32_t exponent = (whole.bits - 0x3f3504f3) >> 23;  /* the rest lies between sqrt(1/2) and sqrt(2) */
    part.bits = whole.bits - (exponent << 23);
    float s = (part.value - 1.0f) / (part.value + 1.0f), s2 = s * s;
    return exponent * 0.693147181f + 2.0f * s * (1.0f + s2 * (0.333333333f + s2 * (0.2f + s2 * 0.142857143f)));
}

/* Philox2x32-10 of all lanes, 32-bit words in 64-bit places: a product then needs no unpacking, and what is left over in the
   upper half of a word is never looked at. The compiler would take the slow full 64-bit product, so it is spelled out. */
static inline void philox(uint32_t key, uint32_t subject, uint32_t pair, uint64_t *radius, uint64_t *angle) {
#ifdef __AVX512F__
    const __m512i multiplier = _mm512_set1_epi64(0xD256D193u), count = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    for (int i = 0; i < LANES; i += 8) {
        __m512i a = _mm512_add_epi64(_mm512_set1_epi64(subject + i), count), b = _mm512_set1_epi64(pair);
        uint32_t k = key;
        for (int turn = 0; turn < 10; turn++, k += 0x9E3779B9u) {
            __m512i product = _mm512_mul_epu32(a, multiplier);
            a = _mm512_ternarylogic_epi64(_mm512_srli_epi64(product, 32), _mm512_set1_epi64(k), b, 0x96); /* xor of three */
            b = product;
        }
        _mm512_storeu_si512(radius + i, a), _mm512_storeu_si512(angle + i, b);
    }
#else
    for (int i = 0; i < LANES; i++) {
        uint64_t a = subject + i, b = pair;
        uint32_t k = key;
        for (int turn = 0; turn < 10; turn++, k += 0x9E3779B9u) {
            uint64_t product = (a & 0xffffffffu) * 0xD256D193u;
            a = (product >> 32) ^ k ^ b;
            b = product;
        }
        radius[i] = a, angle[i] = b;
    }
#endif
}

/* The normals of two steps of one neuron of all lanes: Box-Muller, with Taylor series of a signed quarter turn. */
static inline void normals(uint32_t key, uint32_t subject, uint32_t pair, Pair *z) {
    uint64_t first[LANES], second[LANES];
    philox(key, subject, pair, first, second);
    for (int i = 0; i < LANES; i++) {
        uint32_t radius = (uint32_t)first[i] | 1u, angle = (uint32_t)second[i];
        float length = sqrtf(-2.0f * log_series(radius * 0x1p-32f));
        float f = (float)(int32_t)(angle << 2) * 0x1p-32f, f2 = f * f;
        float cosine = 1.0f + f2 * (-1.23370055f + f2 * (0.253669508f + f2 * (-0.0208634807f + f2 * 0.000919260274f)));
        float sine = f * (1.57079633f + f2 * (-0.645964098f + f2 * (0.0796926262f + f2 * (-0.00468175414f + f2 * 0.000160441185f))));
        float along = length * (angle >> 30 & 1 ? -1.0f : 1.0f);
        z->first[i] = along * (angle >> 31 ? sine : cosine);
        z->second[i] = along * (angle >> 31 ? cosine : sine);
    }
}

/* One step of one neuron of all lanes; adds its output to `output` and its potential to `potential`. */
static inline void advance(const Neuron *p, const Given *g, float leak_reversal, float spike_threshold, float dt, float decay,
                           float kick, const float *restrict z, State *restrict x, float *restrict output,
                           float *restrict potential) {
    Lanes calcium, nmda;
    for (int i = 0; i < LANES; i++) { /* two sigmoids share a division */
        float v = x->potential[i], h = x->availability[i];
        float shut = 1.0f + exp_polynomial((p->t_activation_half - v) / p->t_activation_slope);
        float blocked = 1.0f + 0.28f * exp_polynomial(-0.062f * v), open = 1.0f / (shut * blocked);
        float activation = open * blocked;
        calcium[i] = g->calcium[i] * activation * activation * h;
        nmda[i] = g->nmda[i] * open * shut;
    }
    for (int i = 0; i < LANES; i++) {
        float v = x->potential[i], h = x->availability[i];
        float slow = 1.0f + exp_polynomial(fminf((v + 60.0f) / 3.0f, 40.0f));
        float closed = 1.0f + exp_polynomial(fminf((v - p->t_availability_half) / p->t_availability_slope, 40.0f));
        float tau = p->t_recovery_fast * slow + p->t_recovery_slow; /* times slow */
        x->availability[i] = h + dt * (1.0f - h * closed) * slow / (closed * tau);
    }
    for (int i = 0; i < LANES; i++) {
        float v = x->potential[i], a = x->afterhyperpolarisation[i], noise = x->noise[i];
        float potassium = p->afterhyperpolarisation_conductance * a;
        float total = g->conductance[i] + calcium[i] + nmda[i] + potassium;
        float drive = p->leak_conductance * leak_reversal + g->current[i] + calcium[i] * 120.0f - potassium * 90.0f + noise;
        x->potential[i] = v - (drive / total - v) * expm1_polynomial(-total * dt);
        x->afterhyperpolarisation[i] = a + dt * (x->rate[i] * 0.01f - a) / p->afterhyperpolarisation_time;
        x->noise[i] = noise * decay + kick * z[i];
    }
    for (int i = 0; i < LANES; i++) {
        float after = x->potential[i];
        float rate = 250.0f * sigmoid((after - spike_threshold) / p->spike_slope);
        x->rate[i] = rate;
        output[i] += rate * (1.0f + rate / p->burst_facilitation);
        potential[i] += after;
    }
}

/* Runs one tile from rest and writes its means and variances. `work` holds a State for each neuron. */
static void run_tile(const Neuron *p, const float *leak_reversal, const float *spike_threshold, const Given *g, uint32_t seed,
                     uint32_t subject, int neurons, int steps, float dt, State *work, double *mean, double *variance,
                     double *potential) {
    float decay = expf(-dt / 5.0f), kick = p->noise * sqrtf(-expm1f(-2.0f * dt / 5.0f));
    double sum[LANES] = {0}, square[LANES] = {0}, level[LANES] = {0};
    for (int k = 0; k < neurons; k++)
        for (int i = 0; i < LANES; i++) {
            float v = leak_reversal[k] + g->leak_shift[i];
            work[k].potential[i] = v;
            work[k].availability[i] = sigmoid((p->t_availability_half - v) / p->t_availability_slope);
            work[k].afterhyperpolarisation[i] = work[k].noise[i] = 0.0f;
            work[k].rate[i] = 250.0f * sigmoid((v - spike_threshold[k]) / p->spike_slope);
        }
    for (int begin = 0; begin < steps; begin += BLOCK) {
        int length = steps - begin < BLOCK ? steps - begin : BLOCK;
        Lanes output[BLOCK], height = {0};
        memset(output, 0, sizeof output);
        for (int k = 0; k < neurons; k++)
            for (int j = 0; j < length; j += 2) {
                Pair z;
                normals(seed ^ 0x85EBCA6Bu * (k + 1), subject, (begin + j) / 2, &z);
                advance(p, g, leak_reversal[k], spike_threshold[k], dt, decay, kick, z.first, &work[k], output[j], height);
                if (j + 1 < length)
                    advance(p, g, leak_reversal[k], spike_threshold[k], dt, decay, kick, z.second, &work[k], output[j + 1], height);
            }
        for (int j = 0; j < length; j++)
            for (int i = 0; i < LANES; i++) {
                double s = output[j][i] / neurons;
                sum[i] += s, square[i] += s * s;
            }
        for (int i = 0; i < LANES; i++) level[i] += height[i];
    }
    for (int i = 0; i < LANES; i++) {
        mean[i] = sum[i] / steps;
        variance[i] = square[i] / steps - mean[i] * mean[i];
        potential[i] = level[i] / ((double)steps * neurons);
    }
}

/* Runs all subjects. `conditions` is (6, subjects), the fields of `lateral_habenula.Conditions` in its order; `found` is
   (3, subjects): mean and variance over steps of the output (Hz, Hz^2), mean over steps and neurons of V (mV). */
void lhb_run(const Neuron *p, const float *leak_reversal, const float *spike_threshold, const float *conditions, int subjects,
             int neurons, int steps, float dt, uint32_t seed, int threads, float *found) {
    int tiles = (subjects + LANES - 1) / LANES;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int tile = 0; tile < tiles; tile++) {
        State work[neurons];
        Given g;
        double out[3][LANES];
        for (int i = 0; i < LANES; i++) {
            int lane = tile * LANES + i < subjects ? tile * LANES + i : subjects - 1; /* lanes past the end repeat the last */
            const float *c = conditions + lane;
            float excitation = c[0], open = c[subjects], t = c[2 * subjects], shift = c[3 * subjects], current = c[4 * subjects],
                  inhibition = c[5 * subjects];
            g.leak_shift[i] = shift;
            g.calcium[i] = p->t_conductance * t;
            g.nmda[i] = p->nmda_conductance * excitation * open;
            g.conductance[i] = p->leak_conductance + p->ampa_conductance * excitation + inhibition;
            g.current[i] = p->leak_conductance * shift - 72.0f * inhibition + current;
        }
        run_tile(p, leak_reversal, spike_threshold, &g, seed, tile * LANES, neurons, steps, dt, work, out[0], out[1], out[2]);
        for (int i = 0; i < LANES && tile * LANES + i < subjects; i++)
            for (int row = 0; row < 3; row++) found[row * subjects + tile * LANES + i] = out[row][i];
    }
}
