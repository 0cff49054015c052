/* system.c: what the library runs on. */
#include <stdio.h>
#include <string.h>

#include "mmfuse/tool.h"
#include "tensor/tape.h"

/* "model name : ..." on x86; other processors describe themselves in other words. */
static bool read_processor(char *out, size_t size)
{
    static const char *const keys[] = {"model name", "Processor", "cpu model", "cpu"};
    char line[512];
    bool found = false;
    for (size_t i = 0; !found && i < sizeof keys / sizeof *keys; i++) {
        FILE *const file = fopen("/proc/cpuinfo", "re");
        if (!file)
            return false;
        while (!found && fgets(line, sizeof line, file)) {
            const char *const colon = strchr(line, ':');
            const size_t n = strlen(keys[i]);
            if (!colon || strncmp(line, keys[i], n) != 0 ||
                strspn(line + n, " \t") + n + line != colon)
                continue;
            const char *const value = colon + 1 + strspn(colon + 1, " \t");
            snprintf(out, size, "%.*s", (int)strcspn(value, "\n"), value);
            found = out[0] != '\0';
        }
        fclose(file);
    }
    return found;
}

mmf_system mmf_system_info(const mmf_ctx *ctx)
{
    mmf_system system = {.kernels = mmf_cpu_name(mmf_ctx_cpu(ctx)),
                         .n_threads = mmf_ctx_threads(ctx)};
    if (!read_processor(system.processor, sizeof system.processor))
        snprintf(system.processor, sizeof system.processor, "unknown");
    snprintf(system.blas, sizeof system.blas, "%s", mmf_blas_name());
    return system;
}
