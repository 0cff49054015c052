/* test_npz.c: what the writer writes the reader reads; damage, lies, limits and failing writes. */
#include <dirent.h>
#include <sys/stat.h>

#include "io/npz_writer.h"
#include "io_tools.h"

static mmf_array array_of(mmf_dtype dtype, int64_t rows, int64_t columns, const void *data)
{
    return (mmf_array){dtype, columns ? 2 : 1, {rows, columns}, mmf_dtype_bytes(dtype), data};
}

/* A small file: floats, strings and, with `zip64_from`, the 64-bit form of its fields. */
static void write_sample(mmf_ctx *ctx, const char *path, bool deflate, uint64_t zip64_from)
{
    const float numbers[6] = {1, 2, 3, 4, 5, -6.5f};
    const mmf_array text = {MMF_STR, 1, {3}, 4, "one\0\xc3\xa9\0\0four"};
    const mmf_array floats = array_of(MMF_F32, 2, 3, numbers);
    mmf_npz_writer *writer = NULL;
    test_ok(ctx, mmf_npz_create(ctx, &writer, path, deflate));
    if (zip64_from)
        mmf_npz__set_zip64_from(writer, zip64_from);
    test_ok(ctx, mmf_npz_add(writer, "imu", &floats));
    test_ok(ctx, mmf_npz_add(writer, "label.names", &text));
    test_ok(ctx, mmf_npz_commit(writer));
}

static void check_sample(mmf_ctx *ctx, const char *path)
{
    mmf_archive *archive = NULL;
    test_ok(ctx, mmf_archive_open(ctx, &archive, path, NULL));
    assert_int_equal(mmf_archive_count(archive), 2);
    assert_string_equal(mmf_archive_path(archive), path);
    assert_int_equal(mmf_archive_find(archive, "imu"), 0);
    assert_int_equal(mmf_archive_find(archive, "absent"), -1);
    const mmf_array numbers = load_named(ctx, archive, "imu");
    assert_int_equal(numbers.shape[1], 3);
    assert_true(mmf_array_number(&numbers, 5) == -6.5);
    const mmf_array text = load_named(ctx, archive, "label.names");
    check_cell(&text, 0, "one");
    check_cell(&text, 1, "\xc3\xa9");
    check_cell(&text, 2, "four");
    mmf_array none;
    test_fails(ctx, mmf_archive_load(archive, 2, &none), MMF_ARG, "2 of 2");
    mmf_archive_close(archive);
}

static void every_type_comes_back(void **state)
{
    (void)state;
    static const mmf_dtype dtypes[] = {MMF_F16, MMF_F32, MMF_F64, MMF_I8,  MMF_U8,  MMF_I16,
                                       MMF_U16, MMF_I32, MMF_U32, MMF_I64, MMF_U64, MMF_BOOL};
    unsigned char data[8 * 15];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 37 % 101);
    mmf_ctx *const ctx = test_ctx();
    for (int deflate = 0; deflate < 2; deflate++) {
        const char *const path = test_path("types.npz");
        mmf_npz_writer *writer = NULL;
        test_ok(ctx, mmf_npz_create(ctx, &writer, path, deflate));
        for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
            const mmf_array array = array_of(dtypes[i], 5, 3, data);
            test_ok(ctx, mmf_npz_add(writer, mmf_dtype_name(dtypes[i]), &array));
        }
        const mmf_array empty = array_of(MMF_F32, 0, 3, data);
        test_ok(ctx, mmf_npz_add(writer, "empty", &empty));
        test_ok(ctx, mmf_npz_commit(writer));
        mmf_archive *archive = NULL;
        test_ok(ctx, mmf_archive_open(ctx, &archive, path, NULL));
        const blob file = read_blob(path);
        for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
            const mmf_array got = load_named(ctx, archive, mmf_dtype_name(dtypes[i]));
            assert_int_equal(got.dtype, dtypes[i]);
            assert_memory_equal(got.data, data, 15 * mmf_dtype_bytes(dtypes[i]));
            if (!deflate) /* the mapping begins on a page, so addresses show positions */
                assert_int_equal((uintptr_t)got.data % 64, 0);
        }
        assert_int_equal(load_named(ctx, archive, "empty").shape[0], 0);
        free(file.bytes);
        mmf_archive_close(archive);
    }
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void pieces_of_any_size_make_the_same_file(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const mmf_array text = {MMF_STR, 1, {5}, 3, "abcd\0\0ef\0\xe2\x82\xacxyz"};
    int16_t numbers[700];
    for (int i = 0; i < 700; i++)
        numbers[i] = (int16_t)(i * i);
    const mmf_array array = array_of(MMF_I16, 700, 0, numbers);
    blob first = {0};
    for (size_t piece = 1; piece < 16; piece++) {
        for (int deflate = 0; deflate < 2; deflate++) {
            const char *const path = test_path("pieces.npz");
            mmf_npz_writer *writer = NULL;
            test_ok(ctx, mmf_npz_create(ctx, &writer, path, deflate));
            test_ok(ctx, mmf_npz_begin(writer, "text", &text));
            for (size_t at = 0; at < 15; at += piece)
                test_ok(ctx, mmf_npz_append(writer, (const char *)text.data + at,
                                            at + piece < 15 ? piece : 15 - at));
            test_ok(ctx, mmf_npz_end(writer));
            test_ok(ctx, mmf_npz_begin(writer, "numbers", &array));
            for (size_t at = 0; at < sizeof numbers; at += 100 * piece)
                test_ok(ctx,
                        mmf_npz_append(writer, (const char *)numbers + at,
                                       at + 100 * piece < sizeof numbers ? 100 * piece
                                                                         : sizeof numbers - at));
            test_ok(ctx, mmf_npz_end(writer));
            test_ok(ctx, mmf_npz_commit(writer));
            mmf_archive *archive = NULL;
            test_ok(ctx, mmf_archive_open(ctx, &archive, path, NULL));
            const mmf_array got = load_named(ctx, archive, "text");
            check_cell(&got, 0, "abc");
            check_cell(&got, 1, "d");
            check_cell(&got, 3, "\xe2\x82\xac");
            assert_memory_equal(load_named(ctx, archive, "numbers").data, numbers, sizeof numbers);
            mmf_archive_close(archive);
            if (!deflate) {
                const blob file = read_blob(path);
                if (!first.bytes)
                    first = file;
                else {
                    assert_int_equal(file.n, first.n);
                    assert_memory_equal(file.bytes, first.bytes, first.n);
                    free(file.bytes);
                }
            }
        }
    }
    free(first.bytes);
    mmf_ctx_free(ctx);
}

static void sizes_take_64_bits_when_they_must(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const uint64_t from[] = {1, 100, 600, 2000};
    for (size_t i = 0; i < sizeof from / sizeof from[0]; i++) {
        for (int deflate = 0; deflate < 2; deflate++) {
            const char *const path = test_path("zip64.npz");
            write_sample(ctx, path, deflate, from[i]);
            check_sample(ctx, path);
        }
    }
    mmf_ctx_free(ctx);
}

static void truncation_and_lack_of_memory_are_survived(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (int kind = 0; kind < 4; kind++) {
        const char *const path = test_path("cut.npz");
        write_sample(ctx, path, kind & 1, kind & 2 ? 1 : 0);
        const blob file = read_blob(path);
        refuse_truncations("npz", file.bytes, file.n);
        survive_lack_of_memory("npz", file.bytes, file.n);
        free(file.bytes);
    }
    mmf_ctx_free(ctx);
}

/* Any damaged byte either is reported or changes nothing that is read. */
static void a_changed_byte_never_changes_data_silently(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    size_t n_refused = 0;
    for (int deflate = 0; deflate < 2; deflate++) {
        write_sample(ctx, test_path("flip.npz"), deflate, 0);
        blob file = read_blob(test_path("flip.npz"));
        for (size_t i = 0; i < file.n; i++) {
            for (unsigned bit = 1; bit < 256; bit *= 4) {
                file.bytes[i] ^= (unsigned char)bit;
                mmf_archive *archive = NULL;
                mmf_status status =
                    mmf_archive_open_memory(ctx, &archive, "flip", "npz", file.bytes, file.n, NULL);
                const int64_t at = status == MMF_OK ? mmf_archive_find(archive, "imu") : -1;
                mmf_array array = {0};
                if (at >= 0)
                    status = mmf_archive_load(archive, (size_t)at, &array);
                if (status != MMF_OK)
                    n_refused++;
                else if (at >= 0 && array.dtype == MMF_F32 && mmf_array_count(&array) == 6)
                    assert_true(mmf_array_number(&array, 5) == -6.5);
                mmf_archive_close(archive);
                file.bytes[i] ^= (unsigned char)bit;
            }
        }
        free(file.bytes);
    }
    assert_true(n_refused > 500);
    mmf_ctx_free(ctx);
}

/* Position of the `skip`-th directory entry. */
static size_t directory_entry(const blob *file, int skip)
{
    for (size_t i = 0; i + 4 < file->n; i++) {
        if (memcmp(file->bytes + i, "PK\1\2", 4) == 0 && skip-- == 0)
            return i;
    }
    fail_msg("no directory");
    return 0;
}

static void lies_of_the_directory_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at; /* in the directory entry */
        unsigned char bytes[4];
        size_t n;
        bool deflate;
        mmf_status status;
        const char *piece;
    } cases[] = {
        {8, {1, 0}, 2, false, MMF_UNSUPPORTED, "encrypted"},
        {10, {99, 0}, 2, false, MMF_UNSUPPORTED, "method 99"},
        {10, {12, 0}, 2, false, MMF_UNSUPPORTED, "method 12"},
        {24, {1, 0, 0, 0}, 4, false, MMF_FORMAT, "two sizes"},
        {24, {0xfe, 0xff, 0xff, 0x7f}, 4, true, MMF_FORMAT, "claims to inflate"},
        {20, {0xfe, 0xff, 0xff, 0x7f}, 4, true, MMF_FORMAT, "beyond the end"},
        {24, {153, 0, 0, 0}, 4, true, MMF_FORMAT, "contradicts"},
        {42, {0xff, 0, 0, 0}, 4, false, MMF_FORMAT, "not where"},
        {16, {1, 2, 3, 4}, 4, false, MMF_FORMAT, "contradicts"},
    };
    mmf_ctx *const ctx = test_ctx();
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        write_sample(ctx, test_path("lie.npz"), cases[c].deflate, 0);
        blob file = read_blob(test_path("lie.npz"));
        memcpy(file.bytes + directory_entry(&file, 0) + cases[c].at, cases[c].bytes, cases[c].n);
        test_fails(ctx, read_all(ctx, "npz", file.bytes, file.n, NULL), cases[c].status,
                   cases[c].piece);
        assert_non_null(strstr(mmf_ctx_error(ctx), "\"imu\""));
        free(file.bytes);
    }
    mmf_ctx_free(ctx);
}

static void damaged_data_fail_their_checksum(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    write_sample(ctx, test_path("crc.npz"), false, 0);
    blob file = read_blob(test_path("crc.npz"));
    file.bytes[64 + 128] ^= 1; /* the first byte of the first array */
    test_fails(ctx, read_all(ctx, "npz", file.bytes, file.n, NULL), MMF_FORMAT, "checksum");
    free(file.bytes);
    mmf_ctx_free(ctx);
}

static void limits_hold_at_the_limit_and_not_beyond(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    write_sample(ctx, test_path("limits.npz"), true, 0);
    const blob file = read_blob(test_path("limits.npz"));
    mmf_io_options options = MMF_IO_OPTIONS_INIT;
    options.max_entries = 2;
    options.max_name_bytes = strlen("label.names");
    options.max_bytes = 3 * 4 * 4; /* three cells of four characters */
    test_ok(ctx, read_all(ctx, "npz", file.bytes, file.n, &options));
    mmf_io_options less = options;
    less.max_entries = 1;
    test_fails(ctx, read_all(ctx, "npz", file.bytes, file.n, &less), MMF_LIMIT, "at most 1");
    less = options;
    less.max_name_bytes--;
    test_fails(ctx, read_all(ctx, "npz", file.bytes, file.n, &less), MMF_LIMIT, "name of");
    less = options;
    less.max_bytes--;
    test_fails(ctx, read_all(ctx, "npz", file.bytes, file.n, &less), MMF_LIMIT, "47 bytes");
    free(file.bytes);
    mmf_ctx_free(ctx);
}

static void names_are_unique_and_printable(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    write_sample(ctx, test_path("names.npz"), false, 0);
    blob file = read_blob(test_path("names.npz"));
    const size_t at = directory_entry(&file, 0) + 46;
    file.bytes[at] = 1;
    test_fails(ctx, read_all(ctx, "npz", file.bytes, file.n, NULL), MMF_FORMAT, "printable");
    free(file.bytes);
    const uint8_t one = 1;
    const mmf_array array = array_of(MMF_U8, 1, 0, &one);
    mmf_npz_writer *writer = NULL;
    test_ok(ctx, mmf_npz_create(ctx, &writer, test_path("names.npz"), false));
    test_ok(ctx, mmf_npz_add(writer, "a", &array));
    test_ok(ctx, mmf_npz_add(writer, "b", &array));
    test_ok(ctx, mmf_npz_commit(writer));
    file = read_blob(test_path("names.npz"));
    const size_t entry = directory_entry(&file, 1);
    file.bytes[entry + 46] = 'a';
    test_fails(ctx, read_all(ctx, "npz", file.bytes, file.n, NULL), MMF_FORMAT, "contradicts");
    file.bytes[file.bytes[entry + 42] + 256 * file.bytes[entry + 43] + 30] = 'a';
    test_fails(ctx, read_all(ctx, "npz", file.bytes, file.n, NULL), MMF_FORMAT, "twice");
    free(file.bytes);
    mmf_ctx_free(ctx);
}

static void the_writer_refuses_misuse(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const uint8_t two[2] = {1, 2};
    const mmf_array array = array_of(MMF_U8, 2, 0, two);
    const mmf_array brain = array_of(MMF_BF16, 1, 0, two);
    const char *const path = test_path("misuse.npz");
    for (int misuse = 0; misuse < 8; misuse++) {
        mmf_npz_writer *writer = NULL;
        test_ok(ctx, mmf_npz_create(ctx, &writer, path, misuse & 1));
        switch (misuse) {
        case 0:
            test_fails(ctx, mmf_npz_add(writer, "", &array), MMF_ARG, "name");
            break;
        case 1:
            test_ok(ctx, mmf_npz_add(writer, "a", &array));
            test_fails(ctx, mmf_npz_add(writer, "a", &array), MMF_ARG, "twice");
            break;
        case 2:
            test_fails(ctx, mmf_npz_append(writer, two, 1), MMF_STATE, "without");
            break;
        case 3:
            test_ok(ctx, mmf_npz_begin(writer, "a", &array));
            test_fails(ctx, mmf_npz_append(writer, "abc", 3), MMF_ARG, "2 are left");
            break;
        case 4:
            test_ok(ctx, mmf_npz_begin(writer, "a", &array));
            test_fails(ctx, mmf_npz_end(writer), MMF_STATE, "0 of 2");
            break;
        case 5:
            test_ok(ctx, mmf_npz_begin(writer, "a", &array));
            test_fails(ctx, mmf_npz_begin(writer, "b", &array), MMF_STATE, "before");
            break;
        case 6:
            test_fails(ctx, mmf_npz_add(writer, "a", &brain), MMF_DTYPE, "bfloat16");
            break;
        default:
            test_ok(ctx, mmf_npz_begin(writer, "a", &array));
            break;
        }
        assert_int_not_equal(mmf_npz_commit(writer), MMF_OK);
        assert_int_not_equal(access(path, F_OK), 0);
    }
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static size_t files_beside(const char *path)
{
    char folder[512];
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = '\0';
    DIR *const entries = opendir(folder);
    assert_non_null(entries);
    size_t n = 0;
    while (readdir(entries))
        n++;
    closedir(entries);
    return n;
}

static mmf_status try_to_write(mmf_ctx *ctx, const char *path, bool deflate)
{
    const float numbers[6] = {0};
    const mmf_array floats = array_of(MMF_F32, 2, 3, numbers);
    const mmf_array text = {MMF_STR, 1, {2}, 2, "abcd"};
    mmf_npz_writer *writer = NULL;
    MMF_TRY(mmf_npz_create(ctx, &writer, path, deflate));
    mmf_npz_add(writer, "new", &floats);
    mmf_npz_add(writer, "text", &text);
    return mmf_npz_commit(writer);
}

static void a_failed_write_leaves_the_old_file(void **state)
{
    (void)state;
    for (int deflate = 0; deflate < 2; deflate++) {
        fault_allocator f;
        mmf_ctx *const ctx = fault_ctx(&f);
        const char *const path = test_path("old.npz");
        write_sample(ctx, path, false, 0);
        const size_t n_files = files_beside(path);
        mmf_status status = MMF_IO;
        int64_t n_writes = 0;
        for (; status != MMF_OK; n_writes++) {
            ctx->writes_before_fault = n_writes;
            status = try_to_write(ctx, path, deflate);
            ctx->writes_before_fault = -1;
            if (status == MMF_OK)
                break;
            test_fails(ctx, status, MMF_IO, "old.npz");
            check_sample(ctx, path);
            assert_int_equal(files_beside(path), n_files);
            assert_int_equal(f.n_live, 1);
        }
        assert_true(n_writes > 5);
        write_sample(ctx, path, false, 0);
        status = MMF_NOMEM;
        for (int64_t n = 0; status != MMF_OK; n++) {
            f.before_fault = n;
            status = try_to_write(ctx, path, deflate);
            f.before_fault = -1;
            if (status != MMF_OK) {
                assert_int_equal(status, MMF_NOMEM);
                check_sample(ctx, path);
            }
            assert_int_equal(files_beside(path), n_files);
            assert_int_equal(f.n_live, 1);
        }
        mmf_ctx_free(ctx);
    }
}

static void folders_that_cannot_be_written_are_reported(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    test_fails(ctx, try_to_write(ctx, test_path("no/such/folder.npz"), false), MMF_IO,
               "folder.npz: cannot write");
    /* Root may write into any folder of a disk, but not into /proc. */
    const char *const folder = test_path("read-only");
    mkdir(folder, 0555);
    char path[600];
    snprintf(path, sizeof path, "%s/x.npz", geteuid() == 0 ? "/proc" : folder);
    test_fails(ctx, try_to_write(ctx, path, false), MMF_IO, "cannot write");
    mmf_archive *archive = NULL;
    test_fails(ctx, mmf_archive_open(ctx, &archive, test_path("absent.npz"), NULL), MMF_IO,
               "cannot open");
    mkdir(test_path("folder.npz"), 0777);
    test_fails(ctx, mmf_archive_open(ctx, &archive, test_path("folder.npz"), NULL), MMF_IO,
               "regular");
    assert_null(archive);
    mmf_ctx_free(ctx);
}

static void real_files_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *file, *name;
        mmf_dtype dtype;
        int n_dims;
        int64_t shape[4];
        double sum; /* of the numbers, as numpy adds them in double precision */
    } cases[] = {
        {"data/digits-views.npz", "fac", MMF_F32, 2, {2000, 216}, 137492808},
        {"data/avmnist-hard.npz", "image", MMF_F16, 4, {3000, 1, 28, 28}, 313827.1843},
        {"data/easy-vqa.npz", "image.index", MMF_I32, 1, {48248}, 120737696},
        {"data/cifar10-test1000.npz", "image", MMF_U8, 4, {1000, 3, 32, 32}, 373213940},
    };
    mmf_ctx *const ctx = test_ctx();
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const char *const path = test_shared(cases[c].file);
        if (!path)
            continue;
        mmf_archive *archive = NULL;
        test_ok(ctx, mmf_archive_open(ctx, &archive, path, NULL));
        const mmf_array array = load_named(ctx, archive, cases[c].name);
        assert_int_equal(array.dtype, cases[c].dtype);
        assert_int_equal(array.n_dims, cases[c].n_dims);
        for (int d = 0; d < array.n_dims; d++)
            assert_int_equal(array.shape[d], cases[c].shape[d]);
        double sum = 0;
        for (int64_t i = 0; i < mmf_array_count(&array); i++)
            sum += mmf_array_number(&array, i);
        assert_true(sum > cases[c].sum * (1 - 1e-9) && sum < cases[c].sum * (1 + 1e-9));
        mmf_archive_close(archive);
    }
    const char *const path = test_shared("data/mosi-dev.npz");
    if (path) {
        mmf_archive *archive = NULL;
        test_ok(ctx, mmf_archive_open(ctx, &archive, path, NULL));
        const mmf_array words = load_named(ctx, archive, "words");
        assert_int_equal(words.dtype, MMF_STR);
        assert_int_equal(words.shape[1], 44);
        mmf_archive_close(archive);
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_comes_back),
        cmocka_unit_test(pieces_of_any_size_make_the_same_file),
        cmocka_unit_test(sizes_take_64_bits_when_they_must),
        cmocka_unit_test(truncation_and_lack_of_memory_are_survived),
        cmocka_unit_test(a_changed_byte_never_changes_data_silently),
        cmocka_unit_test(lies_of_the_directory_are_refused),
        cmocka_unit_test(damaged_data_fail_their_checksum),
        cmocka_unit_test(limits_hold_at_the_limit_and_not_beyond),
        cmocka_unit_test(names_are_unique_and_printable),
        cmocka_unit_test(the_writer_refuses_misuse),
        cmocka_unit_test(a_failed_write_leaves_the_old_file),
        cmocka_unit_test(folders_that_cannot_be_written_are_reported),
        cmocka_unit_test(real_files_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
