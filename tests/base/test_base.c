/* test_base.c: contexts, messages, memory and its limit, arena, text, files. */
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <sys/stat.h>

#include "../io/io_tools.h"
#include "base/arena.h"
#include "base/file.h"
#include "base/text.h"

static void keep_log(void *user, mmf_log_level level, const char *text)
{
    snprintf(user, 64, "%d %s", (int)level, text);
}

static void contexts_check_their_options(void **state)
{
    (void)state;
    char logged[64] = "";
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    mmf_ctx *ctx = NULL;
    options.n_threads = -1;
    assert_int_equal(mmf_ctx_create(&ctx, &options), MMF_ARG);
    assert_null(ctx);
    options.n_threads = 3;
    options.log = keep_log;
    options.log_user = logged;
    setenv("MMFUSE_CPU", "portable", 1);
    assert_int_equal(mmf_ctx_create(&ctx, &options), MMF_OK);
    assert_int_equal(mmf_ctx_cpu(ctx), MMF_CPU_PORTABLE);
    assert_int_equal(mmf_ctx_threads(ctx), 3);
    mmf_ctx_set_threads(ctx, 0);
    assert_true(mmf_ctx_threads(ctx) >= 1);
    mmf_ctx_log(ctx, MMF_LOG_WARNING, "%s %d", "seven", 7);
    assert_string_equal(logged, "1 seven 7");
    assert_false(mmf_ctx_cancelled(ctx));
    mmf_ctx_cancel(ctx);
    assert_true(mmf_ctx_cancelled(ctx));
    mmf_ctx_free(ctx);
    setenv("MMFUSE_CPU", "fast", 1);
    assert_int_equal(mmf_ctx_create(&ctx, NULL), MMF_ARG);
    unsetenv("MMFUSE_CPU");
    mmf_ctx_free(NULL);
    fault_allocator f = {.before_fault = 0};
    options.allocator = (mmf_allocator){fault_alloc, fault_release, &f};
    assert_int_equal(mmf_ctx_create(&ctx, &options), MMF_NOMEM);
}

static void messages_nest_fit_and_stay_one_line(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    assert_string_equal(mmf_ctx_error(ctx), "");
    assert_int_equal(mmf_fail(ctx, MMF_SHAPE, "got %d", 5), MMF_SHAPE);
    assert_int_equal(mmf_fail_within(ctx, MMF_IO, "%s: ", "file"), MMF_IO);
    assert_string_equal(mmf_ctx_error(ctx), "file: got 5");
    mmf_fail(ctx, MMF_IO, "a\x1b[31m\nb\x7f");
    assert_string_equal(mmf_ctx_error(ctx), "a [31m b ");
    char big[3000];
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = '\0';
    mmf_fail(ctx, MMF_IO, "%s", big);
    assert_int_equal(strlen(mmf_ctx_error(ctx)), MMF_ERROR_BYTES - 1);
    mmf_fail_within(ctx, MMF_IO, "front: ");
    assert_memory_equal(mmf_ctx_error(ctx), "front: xxx", 10);
    mmf_fail_within(ctx, MMF_IO, "%s", big);
    assert_int_equal(strlen(mmf_ctx_error(ctx)), MMF_ERROR_BYTES - 1);
    for (int status = MMF_INTERNAL; status <= MMF_OK; status++)
        assert_true(strlen(mmf_status_name((mmf_status)status)) > 0);
    assert_string_equal(mmf_status_name((mmf_status)-99), "unknown status");
    mmf_ctx_free(ctx);
}

static void memory_is_counted_aligned_and_limited(void **state)
{
    (void)state;
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.memory_limit = 1000;
    mmf_ctx *ctx = NULL;
    assert_int_equal(mmf_ctx_create(&ctx, &options), MMF_OK);
    unsigned char *a = mmf_alloc(ctx, 600);
    assert_int_equal((uintptr_t)a % 64, 0);
    assert_null(mmf_alloc(ctx, 401));
    assert_non_null(strstr(mmf_ctx_error(ctx), "limit"));
    void *b = mmf_alloc(ctx, 400);
    assert_non_null(b);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 1000);
    mmf_free(ctx, b);
    assert_null(mmf_alloc(ctx, 1001));
    assert_null(mmf_alloc(ctx, SIZE_MAX));
    assert_null(mmf_alloc_zero(ctx, SIZE_MAX / 2, 3));
    memset(a, 7, 600);
    assert_null(mmf_realloc(ctx, a, 500)); /* old and new do not fit together */
    assert_int_equal(a[599], 7);
    mmf_free(ctx, a);
    a = mmf_realloc(ctx, NULL, 10);
    memset(a, 9, 10);
    a = mmf_realloc(ctx, a, 300);
    assert_int_equal(a[9], 9);
    a = mmf_realloc(ctx, a, 4);
    assert_int_equal(a[3], 9);
    mmf_free(ctx, a);
    mmf_free(ctx, NULL);
    const unsigned char *const zero = mmf_alloc_zero(ctx, 10, 10);
    for (int i = 0; i < 100; i++)
        assert_int_equal(zero[i], 0);
    char *const copy = mmf_strdup(ctx, "text");
    assert_string_equal(copy, "text");
    mmf_free(ctx, copy);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 100);
    assert_int_equal(mmf_ctx_memory(ctx).peak_bytes, 1000);
    size_t product = 0;
    assert_true(mmf_mul_ok(SIZE_MAX / 2, 2, &product));
    assert_false(mmf_mul_ok(SIZE_MAX / 2 + 1, 2, &product));
    void *last = NULL;
    memcpy(&last, &zero, sizeof last);
    mmf_free(ctx, last);
    mmf_ctx_free(ctx);
}

static void an_arena_gives_back_and_settles(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_arena arena;
    mmf_arena_init(&arena, ctx);
    uint64_t n_before = 0;
    for (int round = 0; round < 4; round++) {
        n_before = mmf_ctx_memory(ctx).n_allocations;
        unsigned char *kept = mmf_arena_alloc(&arena, 1000);
        memset(kept, 1, 1000);
        const mmf_arena_mark mark = mmf_arena_here(&arena);
        for (int i = 0; i < 50; i++) {
            void *const piece = mmf_arena_alloc(&arena, (size_t)(i * 997));
            assert_int_equal((uintptr_t)piece % 64, 0);
            memset(piece, 2, (size_t)(i * 997));
        }
        mmf_arena_rewind(&arena, mark);
        assert_int_equal(kept[999], 1);
        mmf_arena_reset(&arena);
    }
    if (!TEST_ARENAS_ALLOCATE)
        assert_int_equal(mmf_ctx_memory(ctx).n_allocations, n_before);
    mmf_arena_clear(&arena);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

/* Across chunks as inside one; `data` behind, before and beyond the mark. */
static void a_rewind_keeps_one_piece(void **state)
{
    (void)state;
    enum { ROOM = 64, FIRST = 5000, LAST = 300000 };
    mmf_ctx *const ctx = test_ctx();
    mmf_arena arena;
    mmf_arena_init(&arena, ctx);
    for (int rewinds = 0; rewinds < 2; rewinds++) {
        arena.is_roomy = rewinds == 1;
        for (int round = 0; round < 3; round++) {
            unsigned char *const before = mmf_arena_alloc(&arena, FIRST);
            memset(before, 7, FIRST);
            const mmf_arena_mark mark = mmf_arena_here(&arena);
            const size_t total = arena.total;
            for (size_t bytes = FIRST; bytes <= LAST; bytes += 59000) {
                memset(mmf_arena_alloc(&arena, LAST), 1, LAST);
                unsigned char *const piece = mmf_arena_alloc(&arena, bytes);
                for (size_t i = 0; i < bytes; i++)
                    piece[i] = (unsigned char)(i * 31);
                memset(mmf_arena_alloc(&arena, LAST), 2, LAST);
                const unsigned char *const kept =
                    mmf_arena_rewind_but(&arena, mark, ROOM, piece, bytes);
                assert_non_null(kept);
                for (size_t i = 0; i < bytes; i++)
                    assert_int_equal(kept[ROOM + i], (unsigned char)(i * 31));
                assert_true(arena.total - total < ROOM + bytes + 64);
                assert_int_equal(before[FIRST - 1], 7);
            }
            const unsigned char *const copy = mmf_arena_rewind_but(&arena, mark, 0, before, FIRST);
            assert_int_equal(copy[FIRST - 1], 7);
            mmf_arena_reset(&arena);
        }
    }
    mmf_arena_clear(&arena);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void text_grows_and_remembers_failure(void **state)
{
    (void)state;
    fault_allocator f;
    mmf_ctx *const ctx = fault_ctx(&f);
    mmf_text text = {.ctx = ctx};
    for (int i = 0; i < 1000; i++)
        mmf_text_add(&text, "%d,", i);
    mmf_text_add_bytes(&text, "end", 3);
    assert_int_equal(text.length, 3 + 10 * 2 + 90 * 3 + 900 * 4);
    assert_memory_equal(text.data, "0,1,2,3,", 8);
    assert_string_equal(text.data + text.length - 7, "999,end");
    mmf_text_clear(&text);
    f.before_fault = 0;
    mmf_text_add(&text, "x");
    f.before_fault = -1;
    mmf_text_add(&text, "y");
    assert_int_equal(text.status, MMF_NOMEM);
    assert_int_equal(text.length, 0);
    mmf_text_clear(&text);
    assert_int_equal(f.n_live, 1);
    mmf_ctx_free(ctx);
}

static void texts_are_found_in_cells(void **state)
{
    (void)state;
    const mmf_array cells = {MMF_STR, 1, {3}, 3, "abcab\0\0\0\0"};
    assert_true(mmf_text_is_cell("abc", &cells, 0));
    assert_true(mmf_text_is_cell("ab", &cells, 1));
    assert_true(mmf_text_is_cell("", &cells, 2));
    assert_false(mmf_text_is_cell("ab", &cells, 0));
    assert_false(mmf_text_is_cell("abc", &cells, 1));
    assert_false(mmf_text_is_cell("abcab", &cells, 0));
}

static void misspelt_names_find_their_neighbour(void **state)
{
    (void)state;
    static const char *const names[] = {"train", "eval", "predict", "compare"};
    assert_string_equal(mmf_text_nearest("tarin", names, 4), "train");
    assert_string_equal(mmf_text_nearest("predcit", names, 4), "predict");
    assert_string_equal(mmf_text_nearest("evals", names, 4), "eval");
    assert_null(mmf_text_nearest("zzzzzzzz", names, 4));
    assert_null(mmf_text_nearest("train", names, 0));
    char big[200];
    memset(big, 'a', sizeof big);
    big[199] = '\0';
    assert_null(mmf_text_nearest(big, names, 4));
}

static void numbers_in_text_do_not_depend_on_the_locale(void **state)
{
    (void)state;
    /* Where the system has it, a locale with a decimal comma. */
    setlocale(LC_ALL, "de_DE.UTF-8");
    double value = 0;
    assert_true(mmf_text_number("-1.5e3", 6, &value) && value == -1500);
    assert_true(mmf_text_number("0.1", 3, &value) && value == 0.1);
    assert_true(mmf_text_number("inf", 3, &value) && isinf(value));
    assert_true(mmf_text_number("nan", 3, &value) && isnan(value));
    static const char *const others[] = {"", "1,5", "1.5x", "0x10", "x", "--1", "1e", "nan(1)"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(mmf_text_number(others[i], strlen(others[i]), &value));
    setlocale(LC_ALL, "C");
}

static void a_writer_replaces_whole_files_only(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const char *const path = test_path("written");
    test_ok(ctx, mmf_write_text(ctx, path, "first", 5));
    mmf_writer *writer = NULL;
    test_ok(ctx, mmf_writer_open(ctx, &writer, path));
    test_ok(ctx, mmf_writer_write(writer, "xx second", 9));
    test_ok(ctx, mmf_writer_seek(writer, 0));
    test_ok(ctx, mmf_writer_write(writer, "a", 1));
    mmf_writer_discard(writer);
    mmf_mapping mapping;
    test_ok(ctx, mmf_map_open(ctx, &mapping, path));
    assert_int_equal(mapping.n_bytes, 5);
    assert_memory_equal(mapping.bytes, "first", 5);
    mmf_map_close(&mapping);
    assert_null(mapping.bytes);
    test_ok(ctx, mmf_writer_open(ctx, &writer, path));
    test_ok(ctx, mmf_writer_write(writer, "xx second", 9));
    test_ok(ctx, mmf_writer_seek(writer, 1));
    test_ok(ctx, mmf_writer_write(writer, "y", 1));
    test_ok(ctx, mmf_writer_commit(writer));
    const int file = open(path, O_RDONLY);
    test_ok(ctx, mmf_map_descriptor(ctx, &mapping, file, path));
    close(file);
    assert_memory_equal(mapping.bytes, "xy second", 9);
    mmf_map_close(&mapping);
    for (int64_t n = 0; n < 3; n++) {
        ctx->writes_before_fault = n;
        test_fails(ctx, mmf_write_text(ctx, path, "third", 5), MMF_IO, "written: cannot write");
        ctx->writes_before_fault = -1;
        test_ok(ctx, mmf_map_open(ctx, &mapping, path));
        assert_int_equal(mapping.n_bytes, 9);
        mmf_map_close(&mapping);
    }
    test_ok(ctx, mmf_write_text(ctx, path, "", 0));
    test_ok(ctx, mmf_map_open(ctx, &mapping, path));
    assert_int_equal(mapping.n_bytes, 0);
    mmf_map_close(&mapping);
    test_fails(ctx, mmf_map_open(ctx, &mapping, "/dev/null"), MMF_IO, "regular");
    mmf_ctx_free(ctx);
}

static void folders_are_made_with_their_parents(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const char *const path = test_path("one/two/three");
    test_ok(ctx, mmf_make_folder(ctx, path));
    test_ok(ctx, mmf_make_folder(ctx, path));
    struct stat info;
    assert_true(stat(path, &info) == 0 && S_ISDIR(info.st_mode));
    test_ok(ctx, mmf_write_text(ctx, test_path("one/file"), "x", 1));
    test_fails(ctx, mmf_make_folder(ctx, test_path("one/file/under")), MMF_IO, "one/file");
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void a_locked_folder_keeps_others_out(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const char *const path = test_path("locked");
    int lock = 0, other = 0;
    test_fails(ctx, mmf_lock_folder(ctx, test_path("not-there"), &lock), MMF_IO, "not-there");
    test_ok(ctx, mmf_make_folder(ctx, path));
    test_ok(ctx, mmf_lock_folder(ctx, path, &lock));
    test_fails(ctx, mmf_lock_folder(ctx, path, &other), MMF_STATE, "locked");
    mmf_unlock_folder(other);
    mmf_unlock_folder(lock);
    test_ok(ctx, mmf_lock_folder(ctx, path, &lock));
    mmf_unlock_folder(lock);
    mmf_ctx_free(ctx);
}

static void lists_have_whole_names(void **state)
{
    (void)state;
    assert_true(mmf_text_list_has("text,audio", "audio"));
    assert_true(mmf_text_list_has("text", "text"));
    assert_false(mmf_text_list_has("text,audio", "aud"));
    assert_false(mmf_text_list_has("text,audio", "text,audio"));
    assert_false(mmf_text_list_has("", "text"));
    assert_false(mmf_text_list_has(NULL, "text"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_have_whole_names),
        cmocka_unit_test(contexts_check_their_options),
        cmocka_unit_test(messages_nest_fit_and_stay_one_line),
        cmocka_unit_test(memory_is_counted_aligned_and_limited),
        cmocka_unit_test(an_arena_gives_back_and_settles),
        cmocka_unit_test(a_rewind_keeps_one_piece),
        cmocka_unit_test(text_grows_and_remembers_failure),
        cmocka_unit_test(texts_are_found_in_cells),
        cmocka_unit_test(misspelt_names_find_their_neighbour),
        cmocka_unit_test(numbers_in_text_do_not_depend_on_the_locale),
        cmocka_unit_test(a_writer_replaces_whole_files_only),
        cmocka_unit_test(folders_are_made_with_their_parents),
        cmocka_unit_test(a_locked_folder_keeps_others_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
