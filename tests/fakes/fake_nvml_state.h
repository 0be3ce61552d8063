/* What the stand-in pretends: its settings, its clock, its waveforms and its failures. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, TIMEOUT = 10 };
enum { SCOPE_GPU = 0, SCOPE_MODULE = 1 };
enum { XID_EVENT = 8 };
enum { MAX_GPUS = 64, MAX_STEPS = 64, MAX_FAILURES = 64, MAX_PIDS = 64 };
enum { FIELD_ENERGY = 83, FIELD_POWER_AVERAGE = 185, FIELD_POWER_INSTANT = 186 };

typedef struct { int index; } Gpu;
typedef struct { char call[64]; int code; double after_s; int gpu; double until_s; } Failure; /* gpu -1: every GPU */

static struct {
    int initialised, started, gpus, mig, field_type, steps, failures, pids, persistence, xid, watched, xid_told, ecc;
    double zero_s, time_scale, mean_w, amplitude_w, period_s, phase_s, update_s, gain, reset_s, stuck_s, limit_w;
    double module_extra_w, reasons_from_s, reasons_until_s, ecc_s, xid_s, capability, default_limit_w;
    double step_w[MAX_STEPS];
    unsigned pid[MAX_PIDS];
    char wave[16], name[96];
    unsigned long long memory_b, clock_reasons;
    Failure failure[MAX_FAILURES];
    Gpu gpu[MAX_GPUS];
} fake;

/* Settings */

static const char *text(const char *name, const char *fallback) {
    const char *value = getenv(name);
    return value && *value ? value : fallback;
}

static double number(const char *name, const char *fallback) { return atof(text(name, fallback)); }

static int split(const char *list, char *copy, size_t size, char **items, int most) {
    char *rest;
    int n = 0;
    snprintf(copy, size, "%s", list);
    for (char *item = strtok_r(copy, ",", &rest); item && n < most; item = strtok_r(NULL, ",", &rest))
        items[n++] = item;
    return n;
}

static void read_settings(void) {
    char copy[8192], *items[MAX_FAILURES];
    fake.gpus = (int)number("FAKE_NVML_GPUS", "1");
    fake.mean_w = number("FAKE_NVML_MEAN_W", "400");
    fake.amplitude_w = number("FAKE_NVML_AMPLITUDE_W", "0");
    fake.period_s = number("FAKE_NVML_PERIOD_S", "5");
    fake.phase_s = number("FAKE_NVML_PHASE_S", "0");
    fake.update_s = number("FAKE_NVML_UPDATE_S", "0.1");
    fake.time_scale = number("FAKE_NVML_TIME_SCALE", "1");
    fake.module_extra_w = number("FAKE_NVML_MODULE_EXTRA_W", "-1");
    fake.reasons_from_s = number("FAKE_NVML_REASONS_FROM_S", "0");
    fake.reasons_until_s = number("FAKE_NVML_REASONS_UNTIL_S", "inf");
    fake.ecc_s = number("FAKE_NVML_ECC_S", "inf");
    fake.xid_s = number("FAKE_NVML_XID_S", "inf");
    fake.xid = (int)number("FAKE_NVML_XID", "79");
    fake.capability = number("FAKE_NVML_CAPABILITY", "9.0");
    fake.persistence = (int)number("FAKE_NVML_PERSISTENCE", "1");
    fake.gain = number("FAKE_NVML_POWER_GAIN", "1");
    fake.reset_s = number("FAKE_NVML_RESET_S", "inf");
    fake.stuck_s = number("FAKE_NVML_STUCK_S", "inf");
    fake.limit_w = number("FAKE_NVML_LIMIT_W", "700");
    fake.default_limit_w = number("FAKE_NVML_DEFAULT_LIMIT_W", "700");
    fake.ecc = (int)number("FAKE_NVML_ECC", "1");
    fake.mig = (int)number("FAKE_NVML_MIG", "0");
    fake.field_type = (int)number("FAKE_NVML_FIELD_TYPE", "1");
    fake.memory_b = strtoull(text("FAKE_NVML_MEMORY_B", "85899345920"), NULL, 10);
    fake.clock_reasons = strtoull(text("FAKE_NVML_CLOCK_REASONS", "4"), NULL, 10);
    snprintf(fake.wave, sizeof fake.wave, "%s", text("FAKE_NVML_WAVE", "constant"));
    snprintf(fake.name, sizeof fake.name, "%s", text("FAKE_NVML_NAME", "NVIDIA H100 80GB HBM3"));
    fake.steps = split(text("FAKE_NVML_STEPS_W", "400"), copy, sizeof copy, items, MAX_STEPS);
    for (int i = 0; i < fake.steps; i++) fake.step_w[i] = atof(items[i]);
    fake.pids = split(text("FAKE_NVML_PIDS", ""), copy, sizeof copy, items, MAX_PIDS);
    for (int i = 0; i < fake.pids; i++) fake.pid[i] = (unsigned)atoi(items[i]);
    fake.failures = split(text("FAKE_NVML_FAILURES", ""), copy, sizeof copy, items, MAX_FAILURES);
    for (int i = 0; i < fake.failures; i++) {
        Failure *f = &fake.failure[i];
        f->gpu = -1;
        f->until_s = INFINITY;
        sscanf(items[i], "%63[^:]:%d:%lf:%d:%lf", f->call, &f->code, &f->after_s, &f->gpu, &f->until_s);
    }
    for (int i = 0; i < MAX_GPUS; i++) fake.gpu[i].index = i;
}

/* Time and waveforms */

static double monotonic_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

/* The stand-in's time runs time_scale times as fast as the clock, from 0 at the first nvmlInit. */
static double elapsed_s(void) { return (monotonic_s() - fake.zero_s) * fake.time_scale; }

/* The time the sensor last looked. */
static double sensor_s(void) {
    double t = floor(elapsed_s() / fake.update_s) * fake.update_s;
    return t < fake.stuck_s ? t : fake.stuck_s;
}

static double wave_w(double t) {
    double turn = t / fake.period_s - floor(t / fake.period_s);
    if (!strcmp(fake.wave, "sine")) return fake.mean_w + fake.amplitude_w * sin(2 * M_PI * turn);
    if (!strcmp(fake.wave, "square")) return fake.mean_w + (turn < 0.5 ? 1 : -1) * fake.amplitude_w;
    if (!strcmp(fake.wave, "steps")) return fake.step_w[(int)(turn * fake.steps)];
    return fake.mean_w;
}

/* Integral of wave_w from 0 to t, also for t < 0. */
static double wave_j(double t) {
    double cycles = floor(t / fake.period_s), rest = t - cycles * fake.period_s;
    if (!strcmp(fake.wave, "sine"))
        return fake.mean_w * t
               + fake.amplitude_w * fake.period_s / (2 * M_PI) * (1 - cos(2 * M_PI * rest / fake.period_s));
    if (!strcmp(fake.wave, "square")) {
        double half = fake.period_s / 2;
        return fake.mean_w * t + fake.amplitude_w * (rest < half ? rest : fake.period_s - rest);
    }
    if (!strcmp(fake.wave, "steps")) {
        double dwell = fake.period_s / fake.steps, per_cycle = 0, partial = 0;
        for (int i = 0; i < fake.steps; i++) {
            double within = fmin(fmax(rest - i * dwell, 0), dwell);
            per_cycle += fake.step_w[i] * dwell;
            partial += fake.step_w[i] * within;
        }
        return cycles * per_cycle + partial;
    }
    return fake.mean_w * t;
}

static unsigned average_mw(const Gpu *gpu) {
    double t = sensor_s() + gpu->index * fake.phase_s;
    return (unsigned)lround(1e3 * fake.gain * (wave_j(t) - wave_j(t - 1)));
}

static unsigned instant_mw(const Gpu *gpu) {
    return (unsigned)lround(1e3 * fake.gain * wave_w(sensor_s() + gpu->index * fake.phase_s));
}

static unsigned long long energy_mj(const Gpu *gpu) {
    double phase = gpu->index * fake.phase_s, t = sensor_s(), from = 0;
    double earlier_j = 1e6 * (gpu->index + 1); /* the driver was loaded long before */
    if (t >= fake.reset_s) from = fake.reset_s, earlier_j = 0;
    return (unsigned long long)llround(1e3 * (earlier_j + wave_j(t + phase) - wave_j(from + phase)));
}

/* Failures: the first entry whose call ("*": any device call), time and GPU match */

static int failing(const char *call, const Gpu *gpu) {
    for (int i = 0; i < fake.failures; i++) {
        const Failure *f = &fake.failure[i];
        int named = !strcmp(f->call, call) || (gpu && !strcmp(f->call, "*"));
        double now_s = elapsed_s();
        if (named && now_s >= f->after_s && now_s < f->until_s && (f->gpu < 0 || (gpu && f->gpu == gpu->index))) return f->code;
    }
    return SUCCESS;
}

