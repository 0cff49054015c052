/*
 * replay.c: feeds every file of the folders named on the command line to a fuzz target, so that
 * ordinary builds run the corpora as tests. Fails if there is nothing to run.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

static int replay_file(const char *path)
{
    FILE *const file = fopen(path, "rb");
    struct stat info;
    if (!file || fstat(fileno(file), &info) != 0) {
        fprintf(stderr, "%s: cannot read\n", path);
        exit(1);
    }
    int done = 0;
    if (S_ISREG(info.st_mode)) {
        /* A block of exactly the file's size lets sanitizers see reads beyond it. */
        const size_t n = (size_t)info.st_size;
        uint8_t *const bytes = malloc(n ? n : 1);
        if (!bytes || fread(bytes, 1, n, file) != n) {
            fprintf(stderr, "%s: cannot read\n", path);
            exit(1);
        }
        LLVMFuzzerTestOneInput(bytes, n);
        free(bytes);
        done = 1;
    }
    fclose(file);
    return done;
}

/* libFuzzer's own mutation, which custom mutators call; replaying mutates nothing. */
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t n_bytes, size_t max_bytes);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t n_bytes, size_t max_bytes)
{
    (void)bytes;
    return n_bytes < max_bytes ? n_bytes : max_bytes;
}

int main(int argc, char **argv)
{
    int n_files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *const folder = opendir(argv[i]);
        if (!folder) {
            fprintf(stderr, "%s: cannot open the folder\n", argv[i]);
            return 1;
        }
        for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
            char path[4096];
            const int n = snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            if (n > 0 && (size_t)n < sizeof path)
                n_files += replay_file(path);
        }
        closedir(folder);
    }
    printf("%d inputs\n", n_files);
    return n_files > 0 ? 0 : 1;
}
