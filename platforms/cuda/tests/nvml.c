/* A stand-in for libnvidia-ml.so.1, in the ABI that the package nvidia-ml-py calls. Tests fill
   `state`. Source of the prototypes: NVML API Reference Guide. */
#include <stdio.h>
#include <string.h>

enum { OK = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6 };

typedef struct {
    char name[96], uuid[96], bus[32];
    unsigned long long total, free;
    int major, minor, cores, multiprocessors;
    int mig;    /* 1: in MIG mode */
    int parent; /* index of the GPU that this is an instance of, -1 for a GPU */
    int shares; /* 1: no memory of its own */
    int links, link_kind[4];
    char link_bus[4][32];
} Gpu;

struct {
    int init, cuda, count, level;
    char driver[80];
    Gpu gpus[8];
} state;

typedef Gpu *Device;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char bus_id[32];
} Pci;
typedef struct { unsigned multiprocessors, other[7]; unsigned long long memory_mb; } Attributes;

int nvmlInitWithFlags(unsigned flags) { return state.init; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int result) { return "an error of the stand-in"; }

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    snprintf(text, length, "%s", state.driver);
    return OK;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = state.cuda; return OK; }

static Device nth(unsigned index, int parent) {
    for (int i = 0; i < state.count; i++)
        if (state.gpus[i].parent == parent && index-- == 0) return &state.gpus[i];
    return 0;
}
int nvmlDeviceGetCount_v2(unsigned *count) {
    for (*count = 0; nth(*count, -1); ++*count) {}
    return OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device) {
    return (*device = nth(index, -1)) ? OK : INVALID_ARGUMENT;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, Device *device) {
    for (int i = 0; i < state.count; i++)
        if (!strcmp(state.gpus[i].uuid, uuid)) { *device = &state.gpus[i]; return OK; }
    return NOT_FOUND;
}
int nvmlDeviceGetUUID(Device d, char *text, unsigned length) {
    snprintf(text, length, "%s", d->uuid);
    return OK;
}
int nvmlDeviceGetName(Device d, char *text, unsigned length) {
    snprintf(text, length, "%s", d->name);
    return OK;
}
int nvmlDeviceGetMemoryInfo(Device d, Memory *memory) {
    if (d->shares) return NOT_SUPPORTED;
    memory->total = d->total; memory->free = d->free; memory->used = d->total - d->free;
    return OK;
}
int nvmlDeviceGetCudaComputeCapability(Device d, int *major, int *minor) {
    if (d->parent >= 0) return NOT_SUPPORTED;
    *major = d->major; *minor = d->minor;
    return OK;
}
int nvmlDeviceGetNumGpuCores(Device d, unsigned *cores) { *cores = d->cores; return OK; }
int nvmlDeviceGetAttributes_v2(Device d, Attributes *attributes) {
    if (d->parent < 0) return NOT_SUPPORTED;
    memset(attributes, 0, sizeof *attributes);
    attributes->multiprocessors = d->multiprocessors;
    return OK;
}
int nvmlDeviceGetMigMode(Device d, unsigned *now, unsigned *pending) {
    if (d->parent >= 0 || d->mig < 0) return NOT_SUPPORTED;
    *now = *pending = d->mig;
    return OK;
}
int nvmlDeviceGetMigDeviceHandleByIndex(Device d, unsigned index, Device *instance) {
    return (*instance = nth(index, (int)(d - state.gpus))) ? OK : NOT_FOUND;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device instance, Device *d) {
    if (instance->parent < 0) return INVALID_ARGUMENT;
    *d = &state.gpus[instance->parent];
    return OK;
}
int nvmlDeviceGetPciInfo_v3(Device d, Pci *pci) {
    memset(pci, 0, sizeof *pci);
    snprintf(pci->bus_id, sizeof pci->bus_id, "%s", d->bus);
    return OK;
}
int nvmlDeviceGetNvLinkState(Device d, unsigned link, unsigned *active) {
    if (link >= (unsigned)d->links) return INVALID_ARGUMENT;
    *active = d->link_bus[link][0] != 0;
    return OK;
}
int nvmlDeviceGetNvLinkRemoteDeviceType(Device d, unsigned link, unsigned *kind) {
    if (d->link_kind[link] < 0) return NOT_SUPPORTED;
    *kind = d->link_kind[link];
    return OK;
}
int nvmlDeviceGetNvLinkRemotePciInfo_v2(Device d, unsigned link, Pci *pci) {
    memset(pci, 0, sizeof *pci);
    snprintf(pci->bus_id, sizeof pci->bus_id, "%s", d->link_bus[link]);
    return OK;
}
int nvmlDeviceGetTopologyCommonAncestor(Device one, Device other, unsigned *level) {
    *level = state.level;
    return OK;
}

unsigned long sizes[] = { sizeof(Memory), sizeof(Pci), sizeof(Attributes) };
