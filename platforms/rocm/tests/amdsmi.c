/* The functions of libamd_smi.so that are used, in the ABI that the package amdsmi 7.0.2 calls; the
   others are generated and answer "not supported". Tests fill `state`. Source of the prototypes:
   argtypes in amdsmi_wrapper.py. */
#include <stdint.h>

enum { OK = 0, INVAL = 1, NOT_SUPPORTED = 2 };

typedef struct {
    uint64_t bdf, total, used;
} Gpu;

struct {
    int init, count;
    uint32_t links[8][8];
    Gpu gpus[8];
} state;

typedef Gpu *Handle;

int amdsmi_init(uint64_t flags) { return state.init; }
int amdsmi_shut_down(void) { return OK; }
int amdsmi_status_code_to_string(int status, const char **text) {
    *text = "a status of the stand-in";
    return OK;
}
int amdsmi_get_socket_handles(uint32_t *count, void **sockets) {
    if (sockets) sockets[0] = &state;
    *count = 1;
    return OK;
}
int amdsmi_get_processor_handles(void *socket, uint32_t *count, Handle *handles) {
    if (handles)
        for (int i = 0; i < state.count; i++) handles[i] = &state.gpus[i];
    *count = state.count;
    return OK;
}
int amdsmi_get_gpu_device_bdf(Handle gpu, uint64_t *bdf) { *bdf = gpu->bdf; return OK; }
int amdsmi_get_gpu_memory_total(Handle gpu, int kind, uint64_t *bytes) {
    if (kind != 0) return INVAL;
    *bytes = gpu->total;
    return gpu->total ? OK : NOT_SUPPORTED;
}
int amdsmi_get_gpu_memory_usage(Handle gpu, int kind, uint64_t *bytes) {
    if (kind != 0) return INVAL;
    *bytes = gpu->used;
    return OK;
}
int amdsmi_topo_get_link_type(Handle one, Handle other, uint64_t *hops, uint32_t *kind) {
    *hops = 1;
    *kind = state.links[one - state.gpus][other - state.gpus];
    return *kind == 99 ? NOT_SUPPORTED : OK;
}
