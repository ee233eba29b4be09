/* Answer as NVIDIA's two libraries do, so that the probe's own calls are made for real: built twice, once as
   libnvidia-ml.so.1 and once as libcuda.so.1. SLICED=1 cuts the card in two, BROKEN=1 lets CUDA fail,
   LOST=1 has a second card that fell off its bus. */
#include <stdio.h>
#include <stdlib.h>

typedef struct { unsigned long long total, free, used; } memory_t;
static int cards[3];
static int is(const char *name) { const char *value = getenv(name); return value && *value == '1'; }
static int number_of(void *handle) { return (int)((int *)handle - cards); }

int nvmlInitWithFlags(unsigned flags) { (void)flags; return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { snprintf(text, length, "595.10"); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13020; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = is("LOST") ? 2 : 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle)
{
    *handle = &cards[index];
    return is("LOST") && index == 1 ? 15 : 0; /* GPU is lost */
}
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *next)
{
    (void)handle;
    *now = *next = is("SLICED");
    return is("SLICED") ? 0 : 3; /* not supported */
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) { (void)handle; *count = 3; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **slice)
{
    (void)handle;
    if (index == 1)
        return 6; /* not found: places may be empty */
    *slice = &cards[index == 0 ? 1 : 2];
    return 0;
}
int nvmlDeviceGetName(void *handle, char *text, unsigned length)
{
    snprintf(text, length, number_of(handle) ? "NVIDIA A30 MIG 2g.12gb" : "NVIDIA A30");
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory)
{
    unsigned long long mib = number_of(handle) ? 12000 : 24576;
    *memory = (memory_t){mib << 20, (mib - 500) << 20, 500ull << 20};
    return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor)
{
    (void)handle;
    *major = 8;
    *minor = 0;
    return 0;
}
const char *nvmlErrorString(int code) { (void)code; return "some error"; }

int cuInit(unsigned flags) { (void)flags; return is("BROKEN") ? 999 : 0; }
int cuDeviceGetCount(int *count) { *count = is("SLICED") ? 2 : 1; return 0; }
int cuGetErrorString(int code, const char **text) { (void)code; *text = "unknown error"; return 0; }
