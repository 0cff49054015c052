/* test_csd.c: computational sequences through mmfuse-read-csd; the files are made by make_csd. */
#include <math.h>

#include "io_tools.h"

/* Two videos; `c` is in the words alone. Words from 0 s on, one a second; a pause of no length. */
static const char words[] = "b 0 1 good\nb 1 2 day\nb 2 2 sp\nb 2 3 you\n"
                            "a 0 1 you\na 1 2 sp\nc 0 1 lost\n";
/* A sound feature twice a second; nothing from 2 s on in b. */
static const char sound[] = "b 0 0.5 1 10\nb 0.5 1 3 20\nb 1 1.5 5 30\nb 1.5 2 9 50\n"
                            "a 0 0.5 2 0\na 0.4 1.2 4 1\n";
static const char labels[] = "b 0 2 -1.5 7\nb 2 3 0.5 8\na 0.2 0.8 2 9\n";

static const char *make(const char *name, const char *type, const char *lines)
{
    if (access(MMF_BINARY_DIR "/make_csd", X_OK) != 0) {
        fprintf(stderr, "left out: this build has no mmfuse-read-csd (it is one without HDF5)\n");
        skip();
    }
    char command[1024];
    write_blob(test_path("lines"), lines, strlen(lines));
    snprintf(command, sizeof command, "'%s/make_csd' '%s' \"A root\" %s < '%s'", MMF_BINARY_DIR,
             test_path(name), type, test_path("lines"));
    assert_int_equal(system(command), 0);
    return test_path(name);
}

static void make_all(void)
{
    make("words.csd", "words", words);
    make("sound.v1.csd", "float", sound);
    make("labels.csd", "float", labels);
}

/* Runs the program with its output in out.npz, through a pipe if wanted; its messages: says.txt. */
static int run(const char *arguments, bool by_pipe)
{
    char command[2048];
    snprintf(command, sizeof command, "cd '%s' && '%s/mmfuse-read-csd' %s 2> says.txt %s out.npz",
             test_path(""), MMF_BINARY_DIR, arguments, by_pipe ? "| cat >" : ">");
    return system(command);
}

static mmf_archive *open_result(mmf_ctx *ctx, const char *arguments, bool by_pipe)
{
    if (run(arguments, by_pipe) != 0) {
        const blob says = read_blob(test_path("says.txt"));
        fail_msg("%s: %.*s", arguments, (int)says.n, (const char *)says.bytes);
    }
    mmf_archive *archive = NULL;
    test_ok(ctx, mmf_archive_open(ctx, &archive, test_path("out.npz"), NULL));
    return archive;
}

static void refuse(const char *arguments, const char *piece)
{
    assert_int_not_equal(run(arguments, false), 0);
    const blob says = read_blob(test_path("says.txt"));
    says.bytes[says.n] = '\0';
    if (!strstr((const char *)says.bytes, piece))
        fail_msg("%s: \"%s\" does not say \"%s\"", arguments, (const char *)says.bytes, piece);
    free(says.bytes);
}

static void check_numbers(const mmf_array *array, const double *wanted, int64_t n)
{
    assert_int_equal(mmf_array_count(array), n);
    for (int64_t i = 0; i < n; i++) {
        if (fabs(mmf_array_number(array, i) - wanted[i]) > 1e-6)
            fail_msg("element %lld is %g, not %g", (long long)i, mmf_array_number(array, i),
                     wanted[i]);
    }
}

/* Steps are words, samples are labelled segments, sound is averaged over each word. */
static void segments_become_sequences_of_words(void **state)
{
    (void)state;
    make_all();
    mmf_ctx *const ctx = test_ctx();
    for (int pipe = 0; pipe < 2; pipe++) {
        mmf_archive *archive = open_result(
            ctx, "text=words.csd sound.v1.csd label=labels.csd --label-column 0", pipe != 0);
        const mmf_array id = load_named(ctx, archive, "id"),
                        group = load_named(ctx, archive, "group");
        check_cell(&id, 0, "a[0]");
        check_cell(&id, 1, "b[0]");
        check_cell(&id, 2, "b[1]");
        check_cell(&group, 2, "b");
        const mmf_array label = load_named(ctx, archive, "label");
        check_numbers(&label, (const double[]){2, -1.5, 0.5}, 3);
        const mmf_array vocabulary = load_named(ctx, archive, "text.vocab");
        static const char *const sorted[] = {"", "day", "good", "sp", "you"};
        assert_int_equal(vocabulary.shape[0], 5); /* "lost" is in no common video */
        for (int i = 0; i < 5; i++)
            check_cell(&vocabulary, i, sorted[i]);
        const mmf_array text = load_named(ctx, archive, "text"),
                        n_words = load_named(ctx, archive, "text.length");
        check_numbers(&text, (const double[]){4, 0, 2, 1, 4, 0}, 6);
        check_numbers(&n_words, (const double[]){1, 2, 1}, 3);
        const mmf_array audio = load_named(ctx, archive, "sound_v1"),
                        n_sounds = load_named(ctx, archive, "sound_v1.length");
        assert_int_equal(audio.n_dims, 3);
        check_numbers(&audio, (const double[]){3, 0.5, 0, 0, 2, 15, 7, 40, 0, 0, 0, 0}, 12);
        check_numbers(&n_sounds, (const double[]){1, 2, 0}, 3); /* no sound in the last segment */
        mmf_archive_close(archive);
    }
    mmf_ctx_free(ctx);
}

static void intervals_become_vectors(void **state)
{
    (void)state;
    make_all();
    mmf_ctx *const ctx = test_ctx();
    mmf_archive *archive = open_result(ctx, "label=labels.csd audio=sound.v1.csd", false);
    const mmf_array label = load_named(ctx, archive, "label"),
                    audio = load_named(ctx, archive, "audio"),
                    present = load_named(ctx, archive, "audio.present");
    assert_int_equal(label.n_dims, 2);
    check_numbers(&label, (const double[]){2, 9, -1.5, 7, 0.5, 8}, 6);
    check_numbers(&audio, (const double[]){3, 0.5, 4.5, 27.5, 0, 0}, 6);
    check_numbers(&present, (const double[]){1, 1, 0}, 3);
    mmf_archive_close(archive);
    archive = open_result(ctx, "sound.v1.csd text=words.csd", false); /* halves of seconds */
    const mmf_array id = load_named(ctx, archive, "id"), text = load_named(ctx, archive, "text"),
                    sounds = load_named(ctx, archive, "sound_v1");
    check_cell(&id, 5, "b[3]");
    check_numbers(&text, (const double[]){4, 4, 2, 2, 1, 1}, 6);
    check_numbers(&sounds, (const double[]){2, 0, 4, 1, 1, 10, 3, 20, 5, 30, 9, 50}, 12);
    mmf_archive_close(archive);
    mmf_ctx_free(ctx);
}

static void one_file_is_a_sequence_a_video(void **state)
{
    (void)state;
    make_all();
    mmf_ctx *const ctx = test_ctx();
    mmf_archive *archive = open_result(ctx, "sound.v1.csd --steps 3", false);
    const mmf_array audio = load_named(ctx, archive, "sound_v1"),
                    length = load_named(ctx, archive, "sound_v1.length"),
                    id = load_named(ctx, archive, "id");
    check_cell(&id, 1, "b");
    check_numbers(&audio, (const double[]){2, 0, 4, 1, 0, 0, 3, 20, 5, 30, 9, 50}, 12);
    check_numbers(&length, (const double[]){2, 3}, 2); /* the last steps are kept */
    mmf_archive_close(archive);
    mmf_io_options options = MMF_IO_OPTIONS_INIT; /* as the command opens it */
    options.helper_seconds = 60;
    test_ok(ctx, mmf_archive_open(ctx, &archive, test_path("words.csd"), &options));
    assert_int_equal(load_named(ctx, archive, "words").shape[0], 3);
    mmf_archive_close(archive);
    mmf_ctx_free(ctx);
}

/* Intervals in any order give what sorted ones give. */
static void order_does_not_matter(void **state)
{
    (void)state;
    make_all();
    mmf_ctx *const ctx = test_ctx();
    make("mixed.csd", "float",
         "b 1.5 2 9 50\nb 0.5 1 3 20\nb 0 0.5 1 10\nb 1 1.5 5 30\na 0.4 1.2 4 1\na 0 0.5 2 0\n");
    mmf_archive *archive = open_result(ctx, "words.csd audio=mixed.csd label=labels.csd", false);
    const mmf_array audio = load_named(ctx, archive, "audio");
    check_numbers(&audio, (const double[]){3, 0.5, 0, 0, 2, 15, 7, 40, 0, 0, 0, 0}, 12);
    mmf_archive_close(archive);
    mmf_ctx_free(ctx);
}

static void bad_files_are_refused(void **state)
{
    (void)state;
    make_all();
    refuse("absent.csd", "absent.csd: not there");
    refuse(MMF_SOURCE_DIR "/tests/io/data/contract.h5", "no computational sequence");
    refuse("label=labels.csd", "no label");
    refuse("words.csd words.csd", "two files are called");
    refuse("words.csd label=words.csd", "labels are 1 numbers");
    refuse("words.csd label=labels.csd --label-column 2", "labels are 2 numbers");
    refuse("words.csd --steps many", "expected a number");
    refuse("words.csd --steps", "expected a number");
    make("other.csd", "float", "d 0 1 5\n");
    refuse("words.csd other.csd", "no video is in all");
    make("empty.csd", "float", "");
    refuse("empty.csd", "no entries");
    make("ragged.csd", "float", "a 0 1 5\nb 0 1 5 6\n");
    refuse("words.csd ragged.csd", "b has 1 intervals and features of 1 rows of 2");
    make("pause.csd", "float", "a 0 0 5\n");
    refuse("pause.csd", "no interval of \"pause\"");
    const blob file = read_blob(test_path("sound.v1.csd"));
    for (size_t i = 1; i < 12; i++) {
        write_blob(test_path("cut.csd"), file.bytes, file.n * i / 12);
        refuse("cut.csd", "cut.csd");
    }
    for (size_t at = 600; at < file.n; at += file.n / 40) { /* damaged inside: refused or read */
        file.bytes[at] ^= 0x55;
        write_blob(test_path("flip.csd"), file.bytes, file.n);
        run("words.csd flip.csd label=labels.csd", false);
        file.bytes[at] ^= 0x55;
    }
    free(file.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_become_sequences_of_words),
        cmocka_unit_test(intervals_become_vectors),
        cmocka_unit_test(one_file_is_a_sequence_a_video),
        cmocka_unit_test(order_does_not_matter),
        cmocka_unit_test(bad_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
