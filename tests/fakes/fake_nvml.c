/* A stand-in for the NVIDIA driver library (libnvidia-ml.so.1) whose power is known in closed form.
 *
 * Power is a function of time since the first nvmlInit, shifted by a phase per GPU; the energy counter is
 * its exact integral and field 185 its exact mean over the last second. Everything is set by environment
 * variables (FAKE_NVML_*), read at the first nvmlInit; nvml_library.py documents and writes them.
 */
#include "fake_nvml_state.h"

static unsigned long long clock_reasons(void) {
    double now_s = elapsed_s();
    return now_s >= fake.reasons_from_s && now_s < fake.reasons_until_s ? fake.clock_reasons : 0;
}

#define SYSTEM_CALL                                                    \
    do {                                                               \
        if (!fake.initialised) return UNINITIALIZED;                   \
        int code = failing(__func__, NULL);                            \
        if (code) return code;                                         \
    } while (0)

#define DEVICE_CALL                                                    \
    do {                                                               \
        if (!fake.initialised) return UNINITIALIZED;                   \
        if (!gpu) return INVALID_ARGUMENT;                             \
        int code = failing(__func__, gpu);                             \
        if (code) return code;                                         \
    } while (0)

/* Library and system */

/* Where the closed form has its zero, on CLOCK_MONOTONIC; not part of NVML. */
double fake_nvml_zero_s(void) { return fake.zero_s; }

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (!fake.started) {
        read_settings();
        fake.zero_s = monotonic_s();
        fake.started = 1;
    }
    int code = failing(__func__, NULL);
    if (!code) fake.initialised++;
    return code;
}

int nvmlShutdown(void) {
    SYSTEM_CALL;
    fake.initialised--;
    return SUCCESS;
}

const char *nvmlErrorString(int code) { return code == 999 ? "Unknown Error" : "Error"; }

int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    SYSTEM_CALL;
    snprintf(out, size, "550.54.15");
    return SUCCESS;
}

int nvmlSystemGetNVMLVersion(char *out, unsigned size) {
    SYSTEM_CALL;
    snprintf(out, size, "12.550.54.15");
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion_v2(int *out) {
    SYSTEM_CALL;
    *out = 12040;
    return SUCCESS;
}

/* Devices */

int nvmlDeviceGetCount_v2(unsigned *out) {
    SYSTEM_CALL;
    *out = (unsigned)fake.gpus;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Gpu **out) {
    SYSTEM_CALL;
    if (index >= (unsigned)fake.gpus) return INVALID_ARGUMENT;
    *out = &fake.gpu[index];
    return SUCCESS;
}

static void uuid_of(const Gpu *gpu, char *out, unsigned size) {
    snprintf(out, size, "GPU-00000000-0000-0000-0000-%012d", gpu->index);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Gpu **out) {
    char candidate[96];
    SYSTEM_CALL;
    for (int i = 0; i < fake.gpus; i++) {
        uuid_of(&fake.gpu[i], candidate, sizeof candidate);
        if (!strcmp(candidate, uuid)) {
            *out = &fake.gpu[i];
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(Gpu *gpu, char *out, unsigned size) {
    DEVICE_CALL;
    uuid_of(gpu, out, size);
    return SUCCESS;
}

int nvmlDeviceGetName(Gpu *gpu, char *out, unsigned size) {
    DEVICE_CALL;
    snprintf(out, size, "%s", fake.name);
    return SUCCESS;
}

int nvmlDeviceGetIndex(Gpu *gpu, unsigned *out) {
    DEVICE_CALL;
    *out = (unsigned)gpu->index;
    return SUCCESS;
}

typedef struct {
    char legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} PciInfo;

int nvmlDeviceGetPciInfo_v3(Gpu *gpu, PciInfo *out) {
    DEVICE_CALL;
    memset(out, 0, sizeof *out);
    out->bus = 0x10u + (unsigned)gpu->index;
    snprintf(out->bus_id, sizeof out->bus_id, "00000000:%02X:00.0", out->bus);
    return SUCCESS;
}

int nvmlDeviceGetMigMode(Gpu *gpu, unsigned *current, unsigned *pending) {
    DEVICE_CALL;
    *current = *pending = (unsigned)fake.mig;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(Gpu *gpu, unsigned long long out[3]) { /* total, free, used */
    DEVICE_CALL;
    out[0] = fake.memory_b;
    out[1] = fake.memory_b / 4;
    out[2] = fake.memory_b - out[1];
    return SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(Gpu *gpu, unsigned *out) {
    DEVICE_CALL;
    *out = (unsigned)lround(1e3 * fake.limit_w);
    return SUCCESS;
}

int nvmlDeviceGetPowerManagementDefaultLimit(Gpu *gpu, unsigned *out) {
    DEVICE_CALL;
    *out = (unsigned)lround(1e3 * fake.default_limit_w);
    return SUCCESS;
}

int nvmlDeviceGetEccMode(Gpu *gpu, unsigned *current, unsigned *pending) {
    DEVICE_CALL;
    *current = *pending = (unsigned)fake.ecc;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(Gpu *gpu, unsigned out[2]) { /* gpu, memory */
    DEVICE_CALL;
    out[0] = 97;
    out[1] = 40;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(Gpu *gpu, unsigned sensor, unsigned *out) {
    DEVICE_CALL;
    if (sensor != 0) return INVALID_ARGUMENT;
    *out = 61;
    return SUCCESS;
}

int nvmlDeviceGetClockInfo(Gpu *gpu, unsigned type, unsigned *out) {
    DEVICE_CALL;
    if (type != 1 && type != 2) return INVALID_ARGUMENT;
    *out = type == 1 ? 1755 : 2619; /* SM, memory */
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksEventReasons(Gpu *gpu, unsigned long long *out) {
    DEVICE_CALL;
    *out = clock_reasons();
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(Gpu *gpu, unsigned long long *out) {
    DEVICE_CALL;
    *out = clock_reasons();
    return SUCCESS;
}

int nvmlDeviceGetPersistenceMode(Gpu *gpu, unsigned *out) {
    DEVICE_CALL;
    *out = (unsigned)fake.persistence;
    return SUCCESS;
}

int nvmlDeviceGetArchitecture(Gpu *gpu, unsigned *out) {
    DEVICE_CALL;
    *out = fake.capability >= 9 ? 9 : fake.capability >= 8 ? 7 : 5; /* Hopper, Ampere, Volta */
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(Gpu *gpu, int *major, int *minor) {
    DEVICE_CALL;
    *major = (int)fake.capability;
    *minor = (int)lround(10 * (fake.capability - *major));
    return SUCCESS;
}

int nvmlDeviceGetC2cModeInfoV(Gpu *gpu, void *out) {
    (void)out;
    DEVICE_CALL;
    return NOT_SUPPORTED;
}

int nvmlDeviceGetTotalEccErrors(Gpu *gpu, unsigned type, unsigned counter, unsigned long long *out) {
    DEVICE_CALL;
    if (counter != 0) return INVALID_ARGUMENT;
    *out = (type == 0 ? 5u : 0u) + (elapsed_s() >= fake.ecc_s ? 1u : 0u); /* corrected, uncorrected */
    return SUCCESS;
}

typedef struct {
    unsigned pid;
    unsigned long long memory_b;
    unsigned gpu_instance, compute_instance;
} Process;

static int list_processes(unsigned *count, Process *out) {
    unsigned room = *count;
    *count = (unsigned)fake.pids;
    if (room < *count) return INSUFFICIENT_SIZE;
    for (int i = 0; i < fake.pids; i++) out[i] = (Process){fake.pid[i], 1ull << 30, ~0u, ~0u};
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Gpu *gpu, unsigned *count, Process *out) {
    DEVICE_CALL;
    return list_processes(count, out);
}

int nvmlDeviceGetComputeRunningProcesses_v2(Gpu *gpu, unsigned *count, Process *out) {
    DEVICE_CALL;
    return list_processes(count, out);
}

/* Events: one XID error on GPU 0 at xid_s, told once to a set that watches it */

typedef struct { Gpu *gpu; unsigned long long type, data; unsigned gpu_instance, compute_instance; } Event;

int nvmlEventSetCreate(void **out) {
    SYSTEM_CALL;
    *out = &fake;
    return SUCCESS;
}

int nvmlDeviceRegisterEvents(Gpu *gpu, unsigned long long types, void *set) {
    DEVICE_CALL;
    if (set != &fake || types != XID_EVENT) return INVALID_ARGUMENT;
    if (gpu->index == 0) fake.watched = 1;
    return SUCCESS;
}

int nvmlEventSetWait_v2(void *set, Event *out, unsigned timeout_ms) {
    (void)timeout_ms;
    SYSTEM_CALL;
    if (set != &fake) return INVALID_ARGUMENT;
    if (!fake.watched || fake.xid_told || elapsed_s() < fake.xid_s) return TIMEOUT;
    fake.xid_told = 1;
    *out = (Event){&fake.gpu[0], XID_EVENT, (unsigned long long)fake.xid, ~0u, ~0u};
    return SUCCESS;
}

int nvmlEventSetFree(void *set) {
    SYSTEM_CALL;
    return set == &fake ? SUCCESS : INVALID_ARGUMENT;
}

/* Power and energy */

int nvmlDeviceGetPowerUsage(Gpu *gpu, unsigned *out) {
    DEVICE_CALL;
    *out = average_mw(gpu);
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(Gpu *gpu, unsigned long long *out) {
    DEVICE_CALL;
    *out = energy_mj(gpu);
    return SUCCESS;
}

typedef struct {
    uint32_t field, scope;
    int64_t timestamp_us, latency_us;
    uint32_t type, code;
    union { double d; unsigned u; unsigned long ul; unsigned long long ull; long long sll; int i; unsigned short us; } value;
} FieldValue;

static void fill(FieldValue *out, double value) {
    memset(&out->value, 0xff, sizeof out->value); /* so that reading the wrong member is seen */
    out->type = (uint32_t)fake.field_type;
    switch (out->type) {
        case 0: out->value.d = value; break;
        case 1: out->value.u = (unsigned)value; break;
        case 2: out->value.ul = (unsigned long)value; break;
        case 3: out->value.ull = (unsigned long long)value; break;
        case 4: out->value.sll = (long long)value; break;
        case 5: out->value.i = (int)value; break;
        case 6: out->value.us = (unsigned short)value; break;
    }
}

int nvmlDeviceGetFieldValues(Gpu *gpu, int count, FieldValue *out) {
    char name[16];
    DEVICE_CALL;
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%u", out[i].field);
        out[i].code = (uint32_t)failing(name, gpu);
        if (out[i].code) memset(&out[i].value, 0xff, sizeof out[i].value);
        else if (out[i].scope == SCOPE_MODULE && fake.module_extra_w >= 0 && out[i].field == FIELD_POWER_AVERAGE)
            fill(&out[i], average_mw(gpu) + 1e3 * fake.module_extra_w);
        else if (out[i].scope != SCOPE_GPU) out[i].code = NOT_SUPPORTED;
        else if (out[i].field == FIELD_POWER_AVERAGE) fill(&out[i], average_mw(gpu));
        else if (out[i].field == FIELD_POWER_INSTANT) fill(&out[i], instant_mw(gpu));
        else if (out[i].field == FIELD_ENERGY) fill(&out[i], (double)energy_mj(gpu));
        else out[i].code = NOT_SUPPORTED;
    }
    return SUCCESS;
}
