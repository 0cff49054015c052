/*
 * test_prepare.c: raw files to arrays: values, shared and absent rows, classes; the cache, going on
 * after an interruption, bad files, and models that take the table itself.
 */
#include <sys/stat.h>
#include <utime.h>

#include "mmfuse/train.h"
#include "train/prepare_data.h"

static const char plain[] = "id,split,group,label,picture,sound,age.years\n"
                            "a,train,g1,dog,p0.png,s0.wav,1\n"
                            "b,train,g1,cat,p1.png,s1.wav,2\n"
                            "c,valid,g2,dog,p2.png,s2.wav,3\n"
                            "d,test,g3,cat,p3.png,s3.wav,4\n";

static mmf_archive *prepare_text(mmf_ctx *ctx, const char *table, mmf_prepare_options *options)
{
    mmf_archive *archive = NULL;
    test_ok(ctx, mmf_prepare(ctx, &archive, write_table("m.csv", table), options));
    return archive;
}

static void columns_become_modalities(void **state)
{
    (void)state;
    needs_media();
    write_files();
    mmf_ctx *const ctx = test_ctx();
    mmf_prepare_options options = prepare_options(test_path("cache-plain"));
    mmf_archive *archive = prepare_text(ctx, plain, &options);
    const mmf_array picture = load_array(ctx, archive, "picture");
    assert_int_equal(picture.dtype, MMF_U8);
    assert_int_equal(picture.n_dims, 4);
    assert_int_equal(picture.shape[1], 1); /* nothing has a colour */
    assert_int_equal(picture.shape[2], SIZE);
    for (int64_t i = 0; i < 4 * SIZE * SIZE; i++)
        assert_int_equal(mmf_array_integer(&picture, i),
                         40 * (i / (SIZE * SIZE)) + i % (SIZE * SIZE) / 4);
    const mmf_array sound = load_array(ctx, archive, "sound");
    const mmf_array length = load_array(ctx, archive, "sound.length");
    assert_int_equal(sound.n_dims, 3);
    assert_int_equal(sound.shape[1], 36); /* 2800 samples, 80 apart */
    assert_int_equal(sound.shape[2], 64);
    assert_int_equal(mmf_array_integer(&length, 0), 21);
    assert_int_equal(mmf_array_integer(&length, 3), 36);
    assert_true(mmf_array_number(&sound, 36 * 64 - 1) == 0); /* behind the end */
    assert_int_equal(mmf_archive_find(archive, "sound.present"), -1);
    assert_int_equal(mmf_archive_find(archive, "picture.index"), -1);
    const mmf_array label = load_array(ctx, archive, "label");
    assert_int_equal(mmf_array_integer(&label, 0), 1);
    assert_int_equal(mmf_array_integer(&label, 1), 0);
    const mmf_array age = load_array(ctx, archive, "age");
    assert_int_equal(mmf_array_integer(&age, 3), 4);
    size_t n = 0;
    const mmf_array group = load_array(ctx, archive, "group"), id = load_array(ctx, archive, "id");
    assert_memory_equal(mmf_array_string(&group, 2, &n), "g2", 2);
    assert_memory_equal(mmf_array_string(&id, 3, &n), "d", 1);
    mmf_dataset *dataset = NULL;
    test_ok(ctx, mmf_dataset_from_archive(ctx, &dataset, archive, NULL));
    assert_int_equal(mmf_dataset_n_modalities(dataset), 3);
    assert_non_null(strstr(mmf_dataset_preparations(dataset), "\"sample_rate\":8000"));
    assert_null(mmf_dataset_note(dataset, 0));
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

/* A file that several rows name is decoded once; an empty cell is an absent modality. */
static void rows_share_files_and_lack_some(void **state)
{
    (void)state;
    needs_media();
    write_files();
    mmf_ctx *const ctx = test_ctx();
    mmf_prepare_options options = prepare_options(test_path("cache-shared"));
    mmf_archive *archive = prepare_text(ctx,
                                        "label,picture,sound\n"
                                        "0,p1.png,s0.wav\n1,p0.png,\n0,p1.png,s2.wav\n1,,s0.wav\n",
                                        &options);
    static const int64_t index[] = {0, 1, 0, 0}, present[] = {1, 1, 1, 0};
    static const int64_t sounds[] = {1, 0, 1, 1};
    const mmf_array picture = load_array(ctx, archive, "picture");
    const mmf_array at = load_array(ctx, archive, "picture.index");
    const mmf_array there = load_array(ctx, archive, "picture.present");
    const mmf_array heard = load_array(ctx, archive, "sound.present");
    const mmf_array length = load_array(ctx, archive, "sound.length");
    assert_int_equal(picture.shape[0], 2);
    for (int64_t i = 0; i < 4; i++) {
        assert_int_equal(mmf_array_integer(&at, i), index[i]);
        assert_int_equal(mmf_array_integer(&there, i), present[i]);
        assert_int_equal(mmf_array_integer(&heard, i), sounds[i]);
        assert_int_equal(mmf_array_integer(&length, i) > 0, sounds[i]);
    }
    mmf_dataset *dataset = NULL;
    test_ok(ctx, mmf_dataset_from_archive(ctx, &dataset, archive, NULL));
    assert_false(mmf_dataset_present(dataset, 1, 1));
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

typedef struct watched {
    mmf_ctx *ctx;
    int64_t n_events, first_done, stop_at;
} watched;

static void watch(void *user, const mmf_prepare_event *event)
{
    watched *const w = user;
    if (w->n_events++ == 0)
        w->first_done = event->n_done;
    if (w->stop_at > 0 && event->n_done >= w->stop_at)
        mmf_ctx_cancel(w->ctx);
}

static int64_t events_of(mmf_ctx *ctx, const char *path, mmf_prepare_options *options)
{
    watched seen = {0};
    mmf_archive *archive = NULL;
    options->watch = watch;
    options->watch_user = &seen;
    test_ok(ctx, mmf_prepare(ctx, &archive, path, options));
    mmf_archive_close(archive);
    return seen.n_events;
}

static void what_is_cached_is_not_made_again(void **state)
{
    (void)state;
    needs_media();
    write_files();
    mmf_ctx *const ctx = test_ctx();
    mmf_prepare_options options = prepare_options(test_path("cache-again"));
    const char *const path = write_table("again.csv", plain);
    assert_true(events_of(ctx, path, &options) > 0);
    assert_int_equal(events_of(ctx, path, &options), 0);
    options.skip_bad = true; /* nothing was bad: the same arrays */
    assert_int_equal(events_of(ctx, path, &options), 0);
    options.skip_bad = false;
    const char *const specs[] = {"@audio=logmel:n_mels=20"};
    options.specs = specs;
    options.n_specs = 1;
    assert_true(events_of(ctx, path, &options) > 0);
    assert_int_equal(events_of(ctx, path, &options), 0);
    const struct utimbuf later = {1000000000, 1000000000};
    assert_int_equal(utime(test_path("p2.png"), &later), 0);
    assert_true(events_of(ctx, path, &options) > 0);
    mmf_ctx_free(ctx);
}

static void an_interrupted_preparation_goes_on(void **state)
{
    (void)state;
    needs_media();
    write_files();
    const char *const path = write_table("long.csv", "label,sound\n0,s0.wav\n1,s1.wav\n0,s2.wav\n"
                                                     "1,s3.wav\n0,s4.wav\n1,s5.wav\n");
    mmf_ctx *const ctx = test_ctx();
    mmf_archive *whole = NULL, *parts = NULL;
    mmf_prepare_options options = prepare_options(test_path("cache-whole"));
    test_ok(ctx, mmf_prepare(ctx, &whole, path, &options));
    mmf_ctx *const stopped = test_ctx();
    watched seen = {.ctx = stopped, .stop_at = 1};
    options.cache = test_path("cache-parts");
    options.watch = watch;
    options.watch_user = &seen;
    test_fails(stopped, mmf_prepare(stopped, &parts, path, &options), MMF_CANCELLED,
               "the same command goes on from there");
    mmf_ctx_free(stopped);
    watched resumed = {0};
    options.watch_user = &resumed;
    test_ok(ctx, mmf_prepare(ctx, &parts, path, &options));
    assert_true(resumed.first_done > 1); /* what was done came before the first event */
    const mmf_array a = load_array(ctx, whole, "sound"), b = load_array(ctx, parts, "sound");
    assert_int_equal(mmf_array_count(&a), mmf_array_count(&b));
    assert_memory_equal(a.data, b.data, (size_t)mmf_array_count(&a) * a.item_bytes);
    mmf_archive_close(whole);
    mmf_archive_close(parts);
    mmf_ctx_free(ctx);
}

static const char vocabulary[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\ngreen\n##s\n,\n";

/* The vocabulary travels with the settings: nobody needs its file again. */
static void texts_become_tokens(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    char spec[512];
    write_bytes(test_path("vocab.txt"), vocabulary, sizeof vocabulary - 1);
    snprintf(spec, sizeof spec, "words=wordpiece:max_length=6=%s", test_path("vocab.txt"));
    const char *const specs[] = {spec};
    mmf_prepare_options options = prepare_options(test_path("cache-words"));
    options.specs = specs;
    options.n_specs = 1;
    const char *const path = write_table("words.csv", "label,words\n"
                                                      "0,\"Reds, green\"\n"
                                                      "1,\n"
                                                      "0,blue\n"
                                                      "1,red red red red red red red\n");
    mmf_archive *archive = NULL;
    const mmf_status status = mmf_prepare(ctx, &archive, path, &options);
    if (status == MMF_UNSUPPORTED) {
        mmf_ctx_free(ctx);
        skip(); /* a build without utf8proc */
    }
    test_ok(ctx, status);
    static const int64_t wanted[4][6] = {
        {2, 5, 7, 8, 6, 3}, {0, 0, 0, 0, 0, 0}, {2, 1, 3, 0, 0, 0}, {2, 5, 5, 5, 5, 3}};
    static const int64_t lengths[] = {6, 0, 3, 6};
    const mmf_array tokens = load_array(ctx, archive, "words");
    const mmf_array index = load_array(ctx, archive, "words.index");
    const mmf_array length = load_array(ctx, archive, "words.length");
    for (int64_t i = 0; i < 4; i++) {
        const int64_t row = mmf_array_integer(&index, i);
        assert_int_equal(mmf_array_integer(&length, i), lengths[i]);
        for (int64_t t = 0; t < lengths[i]; t++)
            assert_int_equal(mmf_array_integer(&tokens, 6 * row + t), wanted[i][t]);
    }
    mmf_dataset *dataset = NULL;
    test_ok(ctx, mmf_dataset_from_archive(ctx, &dataset, archive, NULL));
    assert_int_equal(mmf_dataset_modality(dataset, 0)->kind, MMF_TOKENS);
    assert_int_equal(mmf_dataset_modality(dataset, 0)->vocab_size, 9);
    assert_int_equal(remove(test_path("vocab.txt")), 0);
    mmf_prepare_options again = prepare_options(test_path("cache-words-again"));
    again.settled = mmf_dataset_preparations(dataset);
    test_ok(ctx, mmf_prepare(ctx, &archive, path, &again));
    const mmf_array same = load_array(ctx, archive, "words");
    assert_memory_equal(tokens.data, same.data, (size_t)mmf_array_count(&same) * same.item_bytes);
    mmf_archive_close(archive);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

/* A million characters: the rest is not looked at; a cell beyond the limit is refused. */
static void long_texts_are_cut_or_refused(void **state)
{
    (void)state;
    enum { MILLION = 1000000, BEYOND = 1100000 };
    mmf_ctx *const ctx = test_ctx();
    char spec[512];
    char *const text = malloc(BEYOND + 64);
    write_bytes(test_path("vocab.txt"), vocabulary, sizeof vocabulary - 1);
    snprintf(spec, sizeof spec, "words=wordpiece=%s", test_path("vocab.txt"));
    const char *const specs[] = {spec};
    mmf_prepare_options options = prepare_options(test_path("cache-long"));
    options.specs = specs;
    options.n_specs = 1;
    mmf_archive *archive = NULL;
    const size_t n_head = (size_t)snprintf(text, 64, "label,words\n0,");
    for (int n = MILLION; n <= BEYOND; n += BEYOND - MILLION) {
        memset(text + n_head, 'x', (size_t)n);
        for (int i = 4; i < n; i += 4)
            memcpy(text + n_head + i - 4, "red ", 4);
        memcpy(text + n_head + n, "\n", 2);
        const mmf_status status = mmf_prepare(ctx, &archive, write_table("l.csv", text), &options);
        if (status == MMF_UNSUPPORTED)
            break; /* a build without utf8proc */
        if (n == BEYOND) {
            test_fails(ctx, status, MMF_LIMIT, "line 2: a cell of 1100000 bytes");
            break;
        }
        test_ok(ctx, status);
        const mmf_array words = load_array(ctx, archive, "words");
        assert_int_equal(words.shape[1], 128);
        mmf_archive_close(archive);
    }
    free(text);
    mmf_ctx_free(ctx);
}

/* ---- Bad input --------------------------------------------------------------------------- */

static void one_bad_file(mmf_ctx *ctx, const char *table, const char *column, const char *piece)
{
    mmf_archive *archive = NULL;
    mmf_prepare_options options = prepare_options(test_path("cache-bad"));
    const char *const path = write_table("bad.csv", table);
    const mmf_status status = mmf_prepare(ctx, &archive, path, &options);
    assert_true(status == MMF_FORMAT || status == MMF_IO);
    test_fails(ctx, status, status, piece);
    test_fails(ctx, status, status, column);
    options.skip_bad = true;
    test_ok(ctx, mmf_prepare(ctx, &archive, path, &options));
    char key[64];
    snprintf(key, sizeof key, "%s.present", column);
    const mmf_array present = load_array(ctx, archive, key);
    assert_int_equal(mmf_array_integer(&present, 0), 1);
    assert_int_equal(mmf_array_integer(&present, 1), 0);
    mmf_archive_close(archive);
}

static void bad_files_are_named_or_left_out(void **state)
{
    (void)state;
    needs_media();
    write_files();
    mmf_ctx *const ctx = test_ctx();
    one_bad_file(ctx, "label,picture\n0,p0.png\n1,nowhere.png\n", "picture",
                 "row 2 (line 3): there is no file");
    write_bytes(test_path("text.png"), "no picture at all", 17);
    one_bad_file(ctx, "label,picture\n0,p0.png\n1,text.png\n", "picture", "row 2 (line 3): ");
    unsigned char bytes[200];
    FILE *const file = fopen(test_path("p1.png"), "rb");
    const size_t n = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    write_bytes(test_path("cut.png"), bytes, n / 2);
    one_bad_file(ctx, "label,picture\n0,p0.png\n1,cut.png\n", "picture", "row 2 (line 3): ");
    /* The header alone claims 50,000 x 50,000 pixels; the checksum is that of the claim. */
    const unsigned char none[SIZE * SIZE] = {0};
    write_png(test_path("huge.png"), SIZE, SIZE, 1, none);
    FILE *const huge = fopen(test_path("huge.png"), "r+b");
    unsigned char head[17] = "IHDR", crc[4];
    big_endian(head + 4, 50000);
    big_endian(head + 8, 50000);
    head[12] = 8;
    big_endian(crc, (uint32_t)crc32(crc32(0, NULL, 0), head, 17));
    fseek(huge, 12, SEEK_SET);
    fwrite(head, 1, sizeof head, huge);
    fwrite(crc, 1, sizeof crc, huge);
    fclose(huge);
    one_bad_file(ctx, "label,picture\n0,p0.png\n1,huge.png\n", "picture", "50000");
    write_bytes(test_path("cut.wav"), "RIFF\x10", 5);
    one_bad_file(ctx, "label,sound\n0,s0.wav\n1,cut.wav\n", "sound", "row 2 (line 3): ");
    mmf_ctx_free(ctx);
}

static void odd_files_have_a_meaning(void **state)
{
    (void)state;
    needs_media();
    write_files();
    const unsigned char pixel[] = {200, 10, 60};
    write_png(test_path("one.png"), 1, 1, 3, pixel);
    write_wav(test_path("silent.wav"), RATE, 1600, 0);
    write_wav(test_path("nothing.wav"), RATE, 0, 0);
    mmf_ctx *const ctx = test_ctx();
    mmf_prepare_options options = prepare_options(test_path("cache-odd"));
    mmf_archive *archive = prepare_text(ctx,
                                        "label,picture,sound\n0,p0.png,silent.wav\n"
                                        "1,one.png,nothing.wav\n0,p2.png,s2.wav\n",
                                        &options);
    const mmf_array picture = load_array(ctx, archive, "picture");
    assert_int_equal(picture.shape[1], 3);  /* one has a colour */
    assert_int_equal(picture.shape[2], 64); /* the sizes differ */
    assert_int_equal(mmf_array_integer(&picture, 3 * 64 * 64), 200);
    assert_int_equal(mmf_array_integer(&picture, 6 * 64 * 64 - 1), 60);
    const mmf_array sound = load_array(ctx, archive, "sound");
    const mmf_array present = load_array(ctx, archive, "sound.present");
    assert_int_equal(mmf_array_integer(&present, 0), 1);
    assert_int_equal(mmf_array_integer(&present, 1), 0);
    for (int64_t i = 0; i < 21 * 64; i++)
        assert_true(mmf_array_number(&sound, i) == -100); /* dB of amin */
    mmf_archive_close(archive);
    mmf_ctx_free(ctx);
}

static void what_cannot_be_meant_is_refused(void **state)
{
    (void)state;
    needs_media();
    write_files();
    static const struct {
        const char *spec, *piece;
    } cases[] = {
        {"colour=image", "no column \"colour\"; there are: id"},
        {"pictur=image", "did you mean \"picture\"?"},
        {"sound=logmell", "preparation \"logmell\" is unknown; did you mean \"logmel\"?"},
        {"sound=logmel:mels=3", "n_mels"},
        {"sound=logmel:n_mels", "expected OPTION=VALUE"},
        {"sound=logmel:n_mels=0", "n_mels"},
        {"sound=logmel=file", "takes no source"},
        {"picture=logmel", "names files of kind image"},
        {"@video=frames", "no column holds video"},
        {"@smell=image", "expected @text, @image, @audio or @video"},
        {"picture", "expected COLUMN=PREPARATION"},
    };
    mmf_ctx *const ctx = test_ctx();
    mmf_archive *archive = NULL;
    mmf_prepare_options options = prepare_options(test_path("cache-refused"));
    const char *const path = write_table("refused.csv", plain);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        options.specs = &cases[i].spec;
        options.n_specs = 1;
        test_fails(ctx, mmf_prepare(ctx, &archive, path, &options), MMF_ARG, cases[i].piece);
    }
    const char *const twice[] = {"sound=logmel", "sound=mfcc"};
    options.specs = twice;
    options.n_specs = 2;
    test_fails(ctx, mmf_prepare(ctx, &archive, path, &options), MMF_ARG, "prepared twice");
    options.n_specs = 0;
    options.cache = NULL;
    test_fails(ctx, mmf_prepare(ctx, &archive, path, &options), MMF_ARG, "cache");
    options.cache = test_path("refused.csv/cache");
    test_fails(ctx, mmf_prepare(ctx, &archive, path, &options), MMF_IO,
               "refused.csv: cannot make the folder");
    mmf_ctx_free(ctx);
}

/* ---- Models ------------------------------------------------------------------------------ */

static void models_take_the_table(void **state)
{
    (void)state;
    needs_media();
    write_files();
    static const char few[] = "split,label,sound,picture\ntest,odd,s0.wav,p1.png\n";
    static char many[4096];
    write_many(many, sizeof many, 24);
    mmf_ctx *const ctx = test_ctx();
    mmf_prepare_options options = prepare_options(test_path("cache-models"));
    const char *const specs[] = {"sound=logmel:n_mels=8"};
    options.specs = specs;
    options.n_specs = 1;
    mmf_archive *archive = NULL;
    mmf_dataset *dataset = NULL;
    mmf_model *model = NULL, *loaded = NULL;
    mmf_split split;
    const mmf_split_options thirds = {.size = sizeof thirds, .fractions = {1, 0, 0}};
    /* Rows share files, so the table's own split would tear them apart. */
    test_ok(ctx, mmf_prepare(ctx, &archive, write_table("many.csv", many), &options));
    test_ok(ctx, mmf_dataset_from_archive(ctx, &dataset, archive, NULL));
    test_ok(ctx, mmf_split_make(ctx, &split, dataset, &thirds));
    mmf_train_options training = MMF_TRAIN_OPTIONS_INIT;
    training.epochs = 2;
    test_ok(ctx, mmf_train(ctx, &model, dataset, &split, "joint-concat", NULL, &training));
    test_ok(ctx, mmf_model_save(model, test_path("raw.mmf")));
    mmf_model_free(model);
    mmf_dataset_close(dataset);
    mmf_split_clear(ctx, &split);
    test_ok(ctx, mmf_model_load(ctx, &loaded, test_path("raw.mmf")));
    assert_non_null(strstr(mmf_model_preparations(loaded), "\"n_mels\":8"));
    mmf_prepare_options plain_options = prepare_options(test_path("cache-models"));
    mmf_dataset_options how = MMF_DATASET_OPTIONS_INIT;
    how.prepare = &plain_options;
    test_ok(ctx, mmf_model_open_data(ctx, &dataset, loaded, write_table("few.csv", few), &how));
    double probability[2], target = 0;
    const int64_t row = 0;
    test_ok(ctx, mmf_model_predict_rows(loaded, dataset, &row, 1, MMF_ALL_MODALITIES, probability));
    mmf_dataset_target(dataset, 0, &target);
    assert_true(target == 1); /* "odd", though it is the only class of this table */
    assert_true(fabs(probability[0] + probability[1] - 1) < 1e-5);
    mmf_dataset_close(dataset);
    test_fails(ctx,
               mmf_model_open_data(ctx, &dataset, loaded,
                                   write_table("less.csv", "label,picture\nodd,p1.png\n"), &how),
               MMF_ARG, "no column \"sound\"");
    /* Without a target there is still something to predict. */
    test_ok(ctx,
            mmf_model_open_data(ctx, &dataset, loaded,
                                write_table("new.csv", "sound,picture\ns0.wav,p1.png\n"), &how));
    assert_int_equal(mmf_dataset_target_kind(dataset), MMF_TARGET_NONE);
    mmf_dataset_close(dataset);
    mmf_model_free(loaded);
    mmf_ctx_free(ctx);
}

static void only_tables_of_files_are_manifests(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    assert_true(mmf_is_manifest(ctx, write_table("yes.csv", "a,b\n1,x.png\n"), NULL));
    assert_true(mmf_is_manifest(ctx, write_table("text.csv", "a,label\nso it is,0\n"), NULL));
    assert_false(mmf_is_manifest(ctx, write_table("no.csv", "a.1,a.2,label\n1,2,0\n"), NULL));
    const char *const names = write_table("names.csv", "a.1,a.2,note,label\n1,2,so,yes\n");
    mmf_prepare_options options = MMF_PREPARE_OPTIONS_INIT;
    assert_false(mmf_is_manifest(ctx, names, NULL));    /* vectors and notes */
    assert_true(mmf_is_manifest(ctx, names, &options)); /* names of classes */
    options.target = "a.1";
    assert_false(mmf_is_manifest(ctx, names, &options));
    assert_false(mmf_is_manifest(ctx, write_table("no.npz", "a,b\n1,x.png\n"), NULL));
    assert_false(mmf_is_manifest(ctx, test_path("none.csv"), NULL));
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_become_modalities),
        cmocka_unit_test(rows_share_files_and_lack_some),
        cmocka_unit_test(what_is_cached_is_not_made_again),
        cmocka_unit_test(an_interrupted_preparation_goes_on),
        cmocka_unit_test(texts_become_tokens),
        cmocka_unit_test(long_texts_are_cut_or_refused),
        cmocka_unit_test(bad_files_are_named_or_left_out),
        cmocka_unit_test(odd_files_have_a_meaning),
        cmocka_unit_test(what_cannot_be_meant_is_refused),
        cmocka_unit_test(models_take_the_table),
        cmocka_unit_test(only_tables_of_files_are_manifests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
