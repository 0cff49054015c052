/*
 * make_csd.c: writes a computational sequence from a plain text, for test_csd.
 *
 *   make_csd OUT.csd ROOT float|words < LINES    a line: VIDEO START END VALUE... (or one word)
 *
 * Lines of one video follow each other.
 */
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ENTRIES 4096
#define MAX_WIDTH 8
#define WORD_BYTES 12

typedef struct video {
    char name[64];
    hsize_t n, width;
    double intervals[MAX_ENTRIES][2];
    float values[MAX_ENTRIES * MAX_WIDTH];
    char words[MAX_ENTRIES][WORD_BYTES];
} video;

static void write_array(hid_t group, const char *name, hid_t type, hsize_t rows, hsize_t columns,
                        const void *data)
{
    const hsize_t dims[2] = {rows, columns};
    const hid_t space = H5Screate_simple(2, dims, NULL);
    const hid_t plan = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(plan, 2, dims);
    H5Pset_deflate(plan, 9);
    const hid_t dataset = H5Dcreate2(group, name, type, space, H5P_DEFAULT, plan, H5P_DEFAULT);
    if (dataset < 0 || H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        exit(1);
    H5Dclose(dataset);
    H5Pclose(plan);
    H5Sclose(space);
}

static void write_video(hid_t data, const video *v, int words)
{
    if (v->n == 0)
        return;
    const hid_t group = H5Gcreate2(data, v->name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t text = H5Tcopy(H5T_C_S1);
    H5Tset_size(text, WORD_BYTES);
    H5Tset_strpad(text, H5T_STR_NULLPAD);
    write_array(group, "intervals", H5T_NATIVE_DOUBLE, v->n, 2, v->intervals);
    if (words)
        write_array(group, "features", text, v->n, 1, v->words);
    else
        write_array(group, "features", H5T_NATIVE_FLOAT, v->n, v->width, v->values);
    H5Tclose(text);
    H5Gclose(group);
}

/* Adds the values of a line to the video. */
static void add_entry(video *v, double start, double end, char *rest, int words)
{
    if (v->n == MAX_ENTRIES)
        exit(1);
    v->intervals[v->n][0] = start;
    v->intervals[v->n][1] = end;
    hsize_t width = 0;
    char *saved = NULL;
    for (char *piece = strtok_r(rest, " \n", &saved); piece;
         piece = strtok_r(NULL, " \n", &saved)) {
        if (words)
            strncpy(v->words[v->n], piece, WORD_BYTES);
        else
            v->values[v->n * (v->n > 0 ? v->width : MAX_WIDTH) + width] = strtof(piece, NULL);
        width++;
    }
    v->width = width;
    v->n++;
}

int main(int argc, char **argv)
{
    static video v;
    if (argc != 4)
        return 2;
    const int words = strcmp(argv[3], "words") == 0;
    const hid_t file = H5Fcreate(argv[1], H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t root = H5Gcreate2(file, argv[2], H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t data = H5Gcreate2(root, "data", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (data < 0)
        return 1;
    char line[1024];
    while (fgets(line, sizeof line, stdin)) {
        char name[64];
        double start = 0, end = 0;
        int at = 0;
        if (sscanf(line, "%63s %lf %lf %n", name, &start, &end, &at) < 3)
            return 1;
        if (strcmp(name, v.name) != 0) {
            write_video(data, &v, words);
            v.n = 0;
            snprintf(v.name, sizeof v.name, "%s", name);
        }
        add_entry(&v, start, end, line + at, words);
    }
    write_video(data, &v, words);
    H5Gclose(data);
    H5Gclose(root);
    return H5Fclose(file) < 0;
}
