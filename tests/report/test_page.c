/*
 * test_page.c: the HTML report: what comes from data is escaped, results of other versions and
 * hostile ones give a page or an error, and the page loads nothing.
 */
#include <math.h>

#include "data/unicode.h"
#include "mmfuse/tool.h"
#include "report/figure.h"
#include "support.h"

static char *page_of(mmf_ctx *ctx, const char *json)
{
    char *html = NULL;
    test_ok(ctx, mmf_report_html(ctx, &html, json));
    assert_non_null(html);
    return html;
}

static size_t count(const char *text, const char *piece)
{
    size_t n = 0;
    while ((text = strstr(text, piece)) != NULL) {
        text++;
        n++;
    }
    return n;
}

static void what_comes_from_data_is_escaped(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    char *const html = page_of(
        ctx,
        "{\"leaderboard\": [{\"model\": \"<script>alert(1)</script>\", \"structure\": \"\\\"x\", "
        "\"seeds\": 1, \"metrics\": {\"a<b\": {\"mean\": 0.5, \"std\": 0}}}], \"main_metric\": "
        "\"a<b\", \"data\": \"x/<img src=x onerror=alert(1)>.npz\", \"trials\": [{\"model\": "
        "\"y\", \"error\": \"</script><b>\"}]}");
    assert_null(strstr(html, "<script>alert"));
    assert_null(strstr(html, "<img"));
    assert_null(strstr(html, "a<b"));
    assert_non_null(strstr(html, "&lt;script&gt;"));
    assert_int_equal(count(html, "</script>"), 1); /* the end of the JSON element */
    mmf_free(ctx, html);
    mmf_ctx_free(ctx);
}

static void a_page_loads_nothing(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    char *const html = page_of(ctx, "{\"leaderboard\": [], \"trials\": []}");
    assert_null(strstr(html, "http"));
    assert_null(strstr(html, "src="));
    assert_null(strstr(html, "url("));
    assert_null(strstr(html, "@import"));
    assert_int_equal(count(html, "<script"), 1);
    assert_non_null(strstr(html, "No trial finished"));
    mmf_free(ctx, html);
    mmf_ctx_free(ctx);
}

/* Anything that is JSON may come: what is not there is left out, with a sentence. */
static void odd_results_give_a_page(void **state)
{
    (void)state;
    static const char *const odd[] = {
        "{\"report\": \"explanation\"}",
        "{\"report\": \"explanation\", \"modalities\": [1, null], \"subsets\": [3], \"outputs\": "
        "[{}, 5], \"contributions\": [], \"confusion\": {\"classes\": [1, 2], \"counts\": 3}}",
        "{\"report\": \"explanation\", \"robustness\": {\"levels\": [], \"curves\": [{\"noise\": "
        "\"gaussian\"}]}, \"reliability\": [{}], \"scatter\": {\"predicted\": [1], \"true\": []}}",
        "{\"report\": \"explanation\", \"robustness\": {\"levels\": [0, 1], \"curves\": "
        "[{\"noise\": \"gaussian\", \"scores\": [null, 1e300]}]}}",
        "{\"leaderboard\": [{}], \"gain\": {}, \"trials\": [{\"model\": \"\", \"curve\": [1, 2]}]}",
        "{\"leaderboard\": [{\"model\": \"m\", \"latency_seconds\": -1, \"pareto\": true, "
        "\"against\": {\"best_single\": {}}}], \"main_metric\": \"accuracy\"}",
    };
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        char *const html = page_of(ctx, odd[i]);
        assert_int_equal(count(html, "</html>"), 1);
        assert_int_equal(count(html, "<figure"), count(html, "</figure>"));
        assert_int_equal(count(html, "<section"), count(html, "</section>"));
        assert_null(strstr(html, "nan%"));
        mmf_free(ctx, html);
    }
    mmf_ctx_free(ctx);
}

static void other_texts_are_refused(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    char *html = NULL;
    test_fails(ctx, mmf_report_html(ctx, &html, "{"), MMF_FORMAT, "not JSON");
    test_fails(ctx, mmf_report_html(ctx, &html, "[]"), MMF_FORMAT, "leaderboard");
    test_fails(ctx, mmf_report_html(ctx, &html, "{\"report\": \"x\"}"), MMF_FORMAT, "explanation");
    assert_null(html);
    mmf_ctx_free(ctx);
}

/* ---- Numbers and scales ------------------------------------------------------------------ */

static void numbers_are_short(void **state)
{
    (void)state;
    char text[MMF_HTML_NUMBER_BYTES];
    assert_string_equal(mmf_html_number(text, 0.94125), "0.941");
    assert_string_equal(mmf_html_number(text, -12.345), "\xE2\x88\x92"
                                                        "12.35");
    assert_string_equal(mmf_html_number(text, 4321.9), "4322");
    assert_string_equal(mmf_html_number(text, 0.00012), "1.2e-4");
    assert_string_equal(mmf_html_number(text, 1e-7), "1.0e-7");
    assert_string_equal(mmf_html_number(text, 999999.4), "999999");
    assert_string_equal(mmf_html_number(text, 999999.6), "1.00e6");
    assert_string_equal(mmf_html_number(text, -1.2345e12), "\xE2\x88\x92"
                                                           "1.23e12");
    assert_string_equal(mmf_html_number(text, 1e30), "1.00e30");
    assert_string_equal(mmf_html_signed(text, 1e300), "+1.00e300");
    assert_string_equal(mmf_html_signed(text, -1e-17), "0.000");
    assert_string_equal(mmf_html_number(text, INFINITY), "inf");
    assert_string_equal(mmf_html_number(text, 0.0 / 0.0), "n/a");
    assert_string_equal(mmf_html_signed(text, 0.05), "+0.050");
    assert_string_equal(mmf_html_count(text, 1234567), "1,234,567");
    assert_string_equal(mmf_html_count(text, 12), "12");
    assert_string_equal(mmf_html_duration(text, 27.4e-6), "27\xC2\xA0\xC2\xB5s");
    assert_string_equal(mmf_html_duration(text, 0.0021), "2.1\xC2\xA0ms");
    assert_string_equal(mmf_html_duration(text, 0.9999), "1.0\xC2\xA0s");
}

static void one_trial_has_no_deviation(void **state)
{
    (void)state;
    static const char *const page =
        "{\"leaderboard\": [{\"model\": \"m\", \"seeds\": %d, \"metrics\": {\"mae\": {\"mean\": "
        "1e12, "
        "\"std\": 0, \"n\": %d}}}], \"main_metric\": \"mae\", \"trials\": []}";
    mmf_ctx *const ctx = test_ctx();
    for (int n = 1; n < 3; n++) {
        char json[256];
        snprintf(json, sizeof json, page, n, n);
        char *const html = page_of(ctx, json);
        assert_int_equal(count(html, "\xC2\xB1 0.000"), n > 1);
        assert_int_equal(count(html, "&plusmn; 0.000"), n > 1);
        assert_int_equal(count(html, "one deviation"), n > 1);
        assert_int_equal(count(html, "mean over seeds"), n > 1);
        assert_int_equal(count(html, "<td>0.000</td>"), n > 1);
        assert_int_equal(count(html, "1000000000"), 0);
        assert_true(count(html, ">1.00e12") >= 3); /* sentence, tile, row, table */
        mmf_free(ctx, html);
    }
    mmf_ctx_free(ctx);
}

static void scales_end_at_round_numbers(void **state)
{
    (void)state;
    double ticks[MMF_MAX_TICKS];
    mmf_scale scale = mmf_scale_empty();
    mmf_scale_include(&scale, 0.123);
    mmf_scale_include(&scale, 0.0 / 0.0);
    mmf_scale_include(&scale, 0.871);
    mmf_scale_round(&scale);
    assert_true(scale.low >= 0.0999 && scale.low <= 0.1001);
    assert_true(scale.high >= 0.8999 && scale.high <= 0.9001);
    const int n = mmf_scale_ticks(&scale, 5, ticks);
    assert_true(n >= 3 && n <= 6 && ticks[0] >= 0.199 && ticks[0] <= 0.201);
    mmf_scale none = mmf_scale_empty(), one = {.low = 3, .high = 3};
    mmf_scale log = {.low = 1e-6, .high = 1e-2, .is_log = true};
    mmf_scale_round(&none);
    mmf_scale_round(&one);
    assert_true(none.low == 0 && none.high == 1 && one.low < 3 && one.high > 3);
    mmf_scale_round(&log);
    assert_int_equal(mmf_scale_ticks(&log, 5, ticks), 5);
    mmf_scale huge = {.low = 1e30, .high = 1e30}, small = {.low = 1e-13, .high = 3e-13};
    mmf_scale_round(&huge);
    mmf_scale_round(&small);
    assert_true(huge.low < 1e30 && huge.high > 1e30);
    assert_true(small.low > 0 && small.high < 4e-13);
}

static void what_is_counted_has_whole_ticks(void **state)
{
    (void)state;
    double ticks[MMF_MAX_TICKS];
    for (int last = 2; last < 50; last++) {
        const mmf_scale epochs = {.low = 1, .high = last, .is_whole = true};
        const int n = mmf_scale_ticks(&epochs, 5, ticks);
        assert_true(n >= 2);
        for (int i = 0; i < n; i++)
            assert_true(ticks[i] >= 1 && ticks[i] <= last && ticks[i] == floor(ticks[i]));
    }
}

static void labels_are_cut_between_characters(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_text text = {.ctx = ctx};
    mmf_html_short(&text, "\xC3\xA4\xC3\xB6\xC3\xBC<b>", 4);
    assert_string_equal(text.data, "\xC3\xA4\xC3\xB6\xC3\xBC\xE2\x80\xA6");
    mmf_text_clear(&text);
    mmf_html_short(&text, "a<b", 3);
    assert_string_equal(text.data, "a&lt;b");
    mmf_text_clear(&text);
    assert_int_equal(mmf_html_width("\xC3\xA4x"), 2);
    if (mmf_unicode_is_whole()) { /* U+6587 U+5B57, twice as wide */
        mmf_html_short(&text, "\xE6\x96\x87\xE5\xAD\x97", 3);
        assert_string_equal(text.data, "\xE6\x96\x87\xE2\x80\xA6");
        mmf_text_clear(&text);
    }
    mmf_ctx_free(ctx);
}

static void columns_are_those_of_a_terminal(void **state)
{
    (void)state;
    assert_int_equal(mmf_text_columns(""), 0);
    assert_int_equal(mmf_text_columns("text \xC3\xA4"), 6);
    assert_int_equal(mmf_text_columns("a\xFF\xE6"), 3); /* bytes that are no text */
    if (!mmf_unicode_is_whole())
        return;
    assert_int_equal(mmf_text_columns("\xE6\x96\x87\xE5\xAD\x97 x"), 6); /* two ideographs */
    assert_int_equal(mmf_text_columns("e\xCC\x81"), 1);                  /* e and its accent */
    assert_int_equal(mmf_text_columns("\xF0\x9F\x98\x80"), 2);           /* a face */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_from_data_is_escaped),
        cmocka_unit_test(a_page_loads_nothing),
        cmocka_unit_test(odd_results_give_a_page),
        cmocka_unit_test(other_texts_are_refused),
        cmocka_unit_test(numbers_are_short),
        cmocka_unit_test(one_trial_has_no_deviation),
        cmocka_unit_test(scales_end_at_round_numbers),
        cmocka_unit_test(what_is_counted_has_whole_ticks),
        cmocka_unit_test(labels_are_cut_between_characters),
        cmocka_unit_test(columns_are_those_of_a_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
