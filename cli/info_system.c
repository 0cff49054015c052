/* info_system.c: `info` of the machine, and of the programs that read other formats. */
#include <dirent.h>
#include <gnu/libc-version.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "info.h"
#include "output.h"

#define READER_PREFIX "mmfuse-read-"
#define READERS_BYTES 512
#define PATH_BYTES 4096

/* ---- Programs that read files ------------------------------------------------------------- */

/* Adds "FORMAT" to the list unless it is there. */
static void add_reader(char list[READERS_BYTES], const char *format)
{
    char padded[READERS_BYTES + 4], wanted[PATH_BYTES];
    snprintf(padded, sizeof padded, ", %s,", list);
    snprintf(wanted, sizeof wanted, ", %s,", format);
    const size_t n = strlen(list);
    if (!strstr(padded, wanted) && n + strlen(format) + 3 < READERS_BYTES)
        snprintf(list + n, READERS_BYTES - n, "%s%s", n > 0 ? ", " : "", format);
}

static int is_reader(const struct dirent *entry)
{
    return strncmp(entry->d_name, READER_PREFIX, sizeof READER_PREFIX - 1) == 0;
}

static void add_folder(char list[READERS_BYTES], const char *folder)
{
    struct dirent **found = NULL;
    const int n = scandir(folder, &found, is_reader, alphasort);
    for (int i = 0; i < n; i++) {
        char path[PATH_BYTES];
        const int length = snprintf(path, sizeof path, "%s/%s", folder, found[i]->d_name);
        if (length > 0 && (size_t)length < sizeof path && access(path, X_OK) == 0)
            add_reader(list, found[i]->d_name + sizeof READER_PREFIX - 1);
        free(found[i]);
    }
    if (n >= 0)
        free(found);
}

/* The formats whose programs are beside this one or on the PATH, as opening a file finds them. */
static void list_readers(char list[READERS_BYTES])
{
    char self[PATH_BYTES];
    list[0] = '\0';
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = '\0';
        char *const slash = strrchr(self, '/');
        *(slash ? slash : self) = '\0';
        add_folder(list, self);
    }
    const char *const path = getenv("PATH");
    char *const folders = path ? strdup(path) : NULL;
    char *saved = NULL;
    for (char *f = folders ? strtok_r(folders, ":", &saved) : NULL; f;
         f = strtok_r(NULL, ":", &saved))
        add_folder(list, f);
    free(folders);
    if (list[0] == '\0')
        snprintf(list, READERS_BYTES, "none");
}

/* ---- The machine ------------------------------------------------------------------------- */

int cli_info_system(const cli_session *session, bool as_json)
{
    const mmf_system system = mmf_system_info(session->ctx);
    struct sysinfo memory = {0};
    char bytes[32] = "?";
    double total = (double)NAN;
    if (sysinfo(&memory) == 0)
        total = (double)memory.totalram * memory.mem_unit;
    out_bytes_text(bytes, sizeof bytes, total);
    char readers[READERS_BYTES];
    list_readers(readers);
    const char *const names[] = {"mmfuse",  "processor", "kernels",  "products",
                                 "jansson", "libc",      "compiler", "readers"};
    const char *const values[] = {
        mmf_version(),         system.processor,       system.kernels, system.blas,
        jansson_version_str(), gnu_get_libc_version(), __VERSION__,    readers};
    if (as_json) {
        json_t *const object = json_object();
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            json_object_set_new(object, names[i], out_json_text(values[i]));
        json_object_set_new(object, "threads", json_integer(system.n_threads));
        json_object_set_new(object, "memory", out_json_number(total));
        out_json_print(object);
        return CLI_OK;
    }
    out_table table = out_table_make(2, "l");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        out_cell(&table, "%s", names[i]);
        out_cell(&table, "%s", values[i]);
    }
    out_cell(&table, "threads");
    out_cell(&table, "%d", system.n_threads);
    out_cell(&table, "memory");
    out_cell(&table, "%s", bytes);
    out_table_print(&table, stdout, 0);
    return CLI_OK;
}
