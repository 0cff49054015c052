/* test_helper.c: helper programs: finding, running, their failures; and mmfuse-read-hdf5. */
#include <math.h>
#include <sys/stat.h>
#include <time.h>

#include "io_tools.h"

/* A script that stands for the reader of format `format`; returns its folder. */
static const char *make_helper(const char *format, const char *script)
{
    char name[64];
    snprintf(name, sizeof name, "mmfuse-read-%s", format);
    const char *const path = test_path(name);
    FILE *const file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\n%s\n", script);
    fclose(file);
    assert_int_equal(chmod(path, 0755), 0);
    return test_path("");
}

static const char *make_npz(mmf_ctx *ctx)
{
    const char *const path = test_path("result.npz");
    const int32_t numbers[2] = {5, 7};
    const mmf_array array = {MMF_I32, 1, {2}, 4, numbers};
    mmf_npz_writer *writer = NULL;
    test_ok(ctx, mmf_npz_create(ctx, &writer, path, false));
    test_ok(ctx, mmf_npz_add(writer, "label", &array));
    test_ok(ctx, mmf_npz_commit(writer));
    return path;
}

static mmf_status open_with(mmf_ctx *ctx, const char *folder, unsigned seconds, const char *path,
                            mmf_archive **out)
{
    mmf_io_options options = MMF_IO_OPTIONS_INIT;
    options.helper_dir = folder;
    options.helper_seconds = seconds;
    return mmf_archive_open(ctx, out, path, &options);
}

static void count_log(void *user, mmf_log_level level, const char *text)
{
    assert_int_equal(level, MMF_LOG_WARNING);
    assert_non_null(strstr(text, "half of it was dull"));
    ++*(int *)user;
}

static void a_helper_writes_into_a_file_it_may_seek_in(void **state)
{
    (void)state;
    int n_logged = 0;
    mmf_ctx_options ctx_options = MMF_CTX_OPTIONS_INIT;
    ctx_options.log = count_log;
    ctx_options.log_user = &n_logged;
    mmf_ctx *ctx = NULL;
    assert_int_equal(mmf_ctx_create(&ctx, &ctx_options), MMF_OK);
    char script[1024];
    snprintf(script, sizeof script,
             "test -f /dev/stdout && test \"$1\" = '%s' && test $# = 1 && ! read line || exit 9\n"
             "echo 'half of it was dull' >&2\ncat '%s'",
             test_path("in.Xyz"), make_npz(ctx));
    const char *const folder = make_helper("xyz", script);
    write_blob(test_path("in.Xyz"), "?", 1);
    mmf_archive *archive = NULL;
    test_ok(ctx, open_with(ctx, folder, 0, test_path("in.Xyz"), &archive));
    const mmf_array label = load_named(ctx, archive, "label");
    assert_int_equal(mmf_array_integer(&label, 1), 7);
    mmf_archive_close(archive);
    assert_int_equal(n_logged, 1);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void its_end_is_one_clear_error(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        mmf_status status;
        const char *pieces[3];
    } cases[] = {
        {"kill -SEGV $$", MMF_IO, {"in.bad: ", "mmfuse-read-bad was killed by signal 11", "Segm"}},
        {"echo first >&2; printf 'box 7 is\\033[1m broken\\n\\n' >&2; exit 3",
         MMF_IO,
         {"in.bad: ", "exit code 3", ": box 7 is [1m broken"}},
        {"exec sleep 60", MMF_IO, {"in.bad: ", "within 1 seconds", ""}},
        {"while :; do :; done", MMF_IO, {"in.bad: ", "within 1 seconds", ""}},
        {"exec 2>&-; sleep 60", MMF_IO, {"in.bad: ", "within 1 seconds", ""}},
        {"echo garbage", MMF_FORMAT, {"in.bad: ", "helper program wrote", "not a zip file"}},
        {"exit 0", MMF_FORMAT, {"in.bad: ", "helper program wrote", "not a zip file"}},
        {"(sleep 60; echo late) & exit 4", MMF_IO, {"in.bad: ", "exit code 4", ""}},
    };
    mmf_ctx *const ctx = test_ctx();
    write_blob(test_path("in.bad"), "?", 1);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const char *const folder = make_helper("bad", cases[c].script);
        mmf_archive *archive = NULL;
        const time_t start = time(NULL);
        const mmf_status status = open_with(ctx, folder, 1, test_path("in.bad"), &archive);
        for (int p = 0; p < 3; p++)
            test_fails(ctx, status, cases[c].status, cases[c].pieces[p]);
        assert_null(archive);
        assert_true(time(NULL) - start < 20);
    }
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void a_helper_is_stopped_on_request(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const char *const folder = make_helper("slow", "exec sleep 60");
    write_blob(test_path("in.slow"), "?", 1);
    mmf_ctx_cancel(ctx);
    mmf_archive *archive = NULL;
    test_fails(ctx, open_with(ctx, folder, 0, test_path("in.slow"), &archive), MMF_CANCELLED,
               "interrupted");
    mmf_ctx_free(ctx);
}

static void formats_without_a_program_are_named(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_archive *archive = NULL;
    write_blob(test_path("x.zzz"), "?", 1);
    test_fails(ctx, open_with(ctx, test_path(""), 0, test_path("x.zzz"), &archive), MMF_UNSUPPORTED,
               "mmfuse-read-zzz");
    test_fails(ctx, mmf_archive_open(ctx, &archive, test_path("absent.zzz"), NULL), MMF_IO,
               "cannot open");
    test_fails(ctx, mmf_archive_open(ctx, &archive, test_path("x"), NULL), MMF_UNSUPPORTED,
               "extension");
    test_fails(ctx, mmf_archive_open(ctx, &archive, "x.a;b", NULL), MMF_UNSUPPORTED, "extension");
    test_fails(ctx, mmf_archive_open(ctx, &archive, "a.npz/x", NULL), MMF_UNSUPPORTED, "extension");
    test_fails(ctx, mmf_archive_open_memory(ctx, &archive, "x", "hdf5", "", 0, NULL),
               MMF_UNSUPPORTED, "hdf5");
    /* A program that is there and cannot be started. */
    make_helper("odd", "");
    const char *const odd = test_path("mmfuse-read-odd");
    write_blob(odd, "#!/no/such/interpreter\n", 23);
    assert_int_equal(chmod(odd, 0755), 0);
    write_blob(test_path("x.odd"), "?", 1);
    test_fails(ctx, open_with(ctx, test_path(""), 0, test_path("x.odd"), &archive), MMF_IO,
               "cannot start");
    mmf_ctx_free(ctx);
}

static void lack_of_memory_is_survived(void **state)
{
    (void)state;
    fault_allocator f;
    mmf_ctx *const ctx = fault_ctx(&f);
    char script[600];
    snprintf(script, sizeof script, "cat '%s'", make_npz(ctx));
    const char *const folder = make_helper("lean", script);
    const char *const path = test_path("in.lean");
    write_blob(path, "?", 1);
    mmf_status status = MMF_NOMEM;
    for (int64_t n = 0; status != MMF_OK; n++) {
        mmf_archive *archive = NULL;
        f.before_fault = n;
        status = open_with(ctx, folder, 0, path, &archive);
        f.before_fault = -1;
        if (status != MMF_OK)
            test_fails(ctx, status, MMF_NOMEM, "out of memory");
        mmf_archive_close(archive);
        assert_int_equal(f.n_live, 1);
    }
    mmf_ctx_free(ctx);
}

static mmf_archive *open_hdf5(mmf_ctx *ctx, const char *path)
{
    if (access(MMF_BINARY_DIR "/mmfuse-read-hdf5", X_OK) != 0)
        skip(); /* built without HDF5 */
    mmf_archive *archive = NULL;
    test_ok(ctx, open_with(ctx, NULL, 60, path, &archive));
    return archive;
}

static void hdf5_files_of_the_contract_are_read(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_archive *archive = open_hdf5(ctx, MMF_SOURCE_DIR "/tests/io/data/contract.h5");
    assert_int_equal(mmf_archive_count(archive), 9);
    const mmf_array imu = load_named(ctx, archive, "imu");
    assert_int_equal(imu.dtype, MMF_F32);
    assert_int_equal(imu.n_dims, 3);
    assert_true(mmf_array_number(&imu, 23) == 23);
    const mmf_array length = load_named(ctx, archive, "imu.length");
    assert_int_equal(mmf_array_integer(&length, 1), 2);
    const mmf_array present = load_named(ctx, archive, "imu.present");
    assert_int_equal(mmf_array_integer(&present, 2), 0);
    const mmf_array half = load_named(ctx, archive, "half");
    assert_int_equal(half.dtype, MMF_F16);
    assert_true(mmf_array_number(&half, 0) == 1.5 && isinf(mmf_array_number(&half, 2)));
    const mmf_array packed = load_named(ctx, archive, "packed");
    assert_true(mmf_array_number(&packed, 27) == 27);
    const mmf_array label = load_named(ctx, archive, "label");
    assert_int_equal(label.n_dims, 1);
    assert_int_equal(mmf_array_integer(&label, 2), 2);
    const mmf_array names = load_named(ctx, archive, "label.names");
    check_cell(&names, 1, "zw\xc3\xb6");
    const mmf_array id = load_named(ctx, archive, "id");
    check_cell(&id, 3, "dddd");
    assert_int_equal(load_named(ctx, archive, "empty").shape[0], 0);
    assert_int_equal(mmf_archive_find(archive, "elsewhere"), -1);
    mmf_archive_close(archive);
    mmf_ctx_free(ctx);
}

static void splits_of_mmsa_files_are_joined(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_archive *archive = open_hdf5(ctx, MMF_SOURCE_DIR "/tests/io/data/mmsa.h5");
    const mmf_array text = load_named(ctx, archive, "text"),
                    audio = load_named(ctx, archive, "audio"),
                    length = load_named(ctx, archive, "audio.length"),
                    label = load_named(ctx, archive, "label"),
                    split = load_named(ctx, archive, "split"),
                    raw = load_named(ctx, archive, "raw_text"), id = load_named(ctx, archive, "id");
    assert_int_equal(text.shape[0], 9);
    assert_int_equal(text.shape[1], 3);
    static const int splits[9] = {0, 0, 0, 0, 1, 1, 2, 2, 2};
    for (int64_t i = 0; i < 9; i++) {
        char wanted[32];
        assert_true(mmf_array_number(&text, 6 * i) == (double)i);
        assert_true(mmf_array_number(&audio, 5 * i) == (double)i);
        assert_int_equal(mmf_array_integer(&length, i), i % 5 + 1);
        assert_true(mmf_array_number(&label, i) == (double)i / 2 - 2);
        assert_int_equal(mmf_array_integer(&split, i), splits[i]);
        snprintf(wanted, sizeof wanted, "video$_$%d", (int)i);
        check_cell(&id, i, wanted);
        snprintf(wanted, sizeof wanted, "%s%d",
                 i % 3 == 2   ? "word word "
                 : i % 3 == 1 ? "word "
                              : "",
                 (int)i);
        check_cell(&raw, i, wanted);
    }
    assert_true(mmf_archive_find(archive, "text.bert") >= 0);
    assert_true(mmf_archive_find(archive, "annotations") >= 0);
    mmf_archive_close(archive);
    mmf_ctx_free(ctx);
}

/* Whatever is cut off an HDF5 file costs at most an error. */
static void damaged_hdf5_files_are_survived(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_archive_close(open_hdf5(ctx, MMF_SOURCE_DIR "/tests/io/data/mmsa.h5"));
    const blob file = read_blob(MMF_SOURCE_DIR "/tests/io/data/mmsa.h5");
    for (size_t cut = 0; cut < file.n; cut += file.n / 12) {
        write_blob(test_path("cut.h5"), file.bytes, cut);
        mmf_archive *archive = NULL;
        test_fails(ctx, open_with(ctx, NULL, 60, test_path("cut.h5"), &archive), MMF_IO,
                   "mmfuse-read-hdf5");
    }
    for (size_t at = 600; at < file.n; at += file.n / 30) {
        file.bytes[at] ^= 0x55;
        write_blob(test_path("flip.h5"), file.bytes, file.n);
        mmf_archive *archive = NULL;
        const mmf_status status = open_with(ctx, NULL, 60, test_path("flip.h5"), &archive);
        assert_true(status == MMF_OK || status == MMF_IO);
        mmf_archive_close(archive);
        file.bytes[at] ^= 0x55;
    }
    free(file.bytes);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_helper_writes_into_a_file_it_may_seek_in),
        cmocka_unit_test(its_end_is_one_clear_error),
        cmocka_unit_test(a_helper_is_stopped_on_request),
        cmocka_unit_test(formats_without_a_program_are_named),
        cmocka_unit_test(lack_of_memory_is_survived),
        cmocka_unit_test(hdf5_files_of_the_contract_are_read),
        cmocka_unit_test(splits_of_mmsa_files_are_joined),
        cmocka_unit_test(damaged_hdf5_files_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
