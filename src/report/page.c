/* page.c: style, frame and choice of the HTML report. One file, nothing from elsewhere, no script:
 * what there is to see is drawn, what there is to open is <details>. */
#include "report/page.h"

#include <locale.h>
#include <string.h>

#include "mmfuse/tool.h"

/*
 * Colours of lines: Okabe and Ito (2008), which stay apart under every common colour blindness,
 * with lighter ones for dark pages; each line also carries its name. In pieces, since C promises no
 * longer literals.
 */
static const char *const style[] = {
    ":root{color-scheme:light dark;--bg:#fff;--soft:#f5f7f9;--ink:#1a1f26;--muted:#566170;"
    "--line:#dde3e9;--accent:#0a62ad;--on:#fff;--quiet:#8b98a7;--bad:#c2500a;"
    "--c0:#1a1f26;--c1:#0072b2;--c2:#d55e00;--c3:#008a65;--c4:#b5548f;--c5:#b07c00;--c6:#3f8fc4;"
    "--c7:#7a4fb3}"
    "@media(prefers-color-scheme:dark){:root{--bg:#12161b;--soft:#1b2128;--ink:#e8ecf1;"
    "--muted:#a3afbd;--line:#2d3641;--accent:#63b0f2;--on:#0d1116;--quiet:#758394;--bad:#f0944d;"
    "--c0:#e8ecf1;--c1:#56a9e8;--c2:#f28a45;--c3:#3cc79c;--c4:#e394c3;--c5:#e3b341;--c6:#9ad0f5;"
    "--c7:#b99af0}}",
    "*{box-sizing:border-box}html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}"
    "body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"
    "\"Segoe UI\",Roboto,\"Helvetica Neue\",Arial,sans-serif;font-variant-numeric:tabular-nums;"
    "overflow-wrap:break-word}"
    ".page{max-width:1000px;margin:0 auto;padding:0 24px}"
    ".skip{position:absolute;left:-999px;top:0;background:var(--accent);color:var(--on);"
    "padding:8px 14px}.skip:focus{left:0;z-index:1}"
    "a{color:var(--accent);text-underline-offset:3px}"
    ":focus-visible{outline:3px solid var(--accent);outline-offset:3px;border-radius:3px}"
    "header{padding-top:36px}.kind{margin:0;color:var(--muted);font-size:14px}"
    ".kind b{color:var(--ink);letter-spacing:-.01em}"
    "h1{font-size:clamp(26px,4.4vw,38px);line-height:1.15;letter-spacing:-.02em;margin:6px 0 8px}"
    "h2{font-size:24px;line-height:1.25;letter-spacing:-.01em;margin:0 0 4px}"
    "h3{font-size:17px;margin:0}h4{font-size:15px;margin:0}"
    ".sub{margin:0;color:var(--muted)}",
    ".summary{margin:26px 0 0;padding:22px 24px;background:var(--soft);border-radius:10px;"
    "border-left:4px solid var(--accent)}"
    ".summary p{margin:0 0 8px;max-width:76ch}.summary p:first-child{font-size:18px}"
    ".summary p:last-of-type{margin-bottom:0}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;"
    "margin:18px 0 0;padding:0}"
    ".tiles div{background:var(--bg);border:1px solid var(--line);border-radius:8px;"
    "padding:12px 14px}"
    ".tiles dt{color:var(--muted);font-size:13px}.tiles dd{margin:0}"
    ".tiles .big{font-size:25px;line-height:1.25;font-weight:650;letter-spacing:-.01em}"
    ".tiles .small{color:var(--muted);font-size:13px;line-height:1.4}"
    "nav{margin:20px 0 0;font-size:14px;display:flex;flex-wrap:wrap;gap:4px 18px}"
    "section{margin:52px 0 0}section>p{margin:0 0 6px;color:var(--muted);max-width:76ch}",
    "figure{margin:22px 0 0}figcaption p{margin:2px 0 0;color:var(--muted);font-size:14px;"
    "max-width:80ch}"
    ".panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));"
    "gap:8px 36px}.panels.small{grid-template-columns:repeat(auto-fill,minmax(min(100%,290px),1fr))"
    "}.panels>*{min-width:0}"
    ".plot{margin-top:12px;padding-left:var(--l);padding-right:var(--r);font-size:12.5px;"
    "line-height:1.3}.plot>svg{display:block;width:100%;overflow:visible}"
    "svg text{fill:var(--ink)}svg .tick,svg .axis{fill:var(--muted)}svg .axis{font-size:12.5px}"
    ".mid{text-anchor:middle}.end{text-anchor:end}svg .strong{font-weight:650}"
    ".halo{paint-order:stroke;stroke:var(--bg);stroke-width:4px;stroke-linejoin:round}"
    "svg .narrow{display:none}.grid{stroke:var(--line)}.base{stroke:var(--quiet);"
    "stroke-dasharray:4 3}",
    ".bar{fill:var(--quiet)}.bar.strong{fill:var(--accent)}.bar.below{fill:var(--bad)}"
    ".whisker{stroke:var(--ink);stroke-width:1.5}.point{fill:var(--bg);stroke:var(--ink);"
    "stroke-width:2}.point.strong{fill:var(--accent);stroke:var(--accent)}"
    ".whisker.strong{stroke:var(--accent);stroke-width:2.5}.dot{fill:var(--quiet)}"
    ".member{fill:var(--line)}.member.has{fill:var(--ink)}"
    ".line{fill:none;stroke:currentColor;stroke-width:2;vector-effect:non-scaling-stroke;"
    "stroke-linejoin:round}.line.dashed{stroke-dasharray:5 4}.node,.chosen{fill:currentColor}"
    ".chosen{stroke:var(--bg);stroke-width:1.5}.leader{stroke:currentColor;opacity:.6}"
    "line.leader:not([class*=\" c\"]){stroke:var(--line);stroke-dasharray:2 3;opacity:1}"
    ".c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}"
    ".c4{color:var(--c4)}.c5{color:var(--c5)}.c6{color:var(--c6)}.c7{color:var(--c7)}"
    ".spot circle{fill:var(--bg);stroke:var(--quiet);stroke-width:1.5}"
    ".spot text{font-size:11.5px;fill:var(--muted)}.spot.strong circle{fill:var(--accent);"
    "stroke:var(--accent)}.spot.strong text{fill:var(--on);font-weight:650}"
    ".stairs{color:var(--accent);opacity:.55}.cell rect{stroke:var(--line);stroke-width:1}"
    ".cell.right rect{fill:var(--c1)}.cell.wrong rect{fill:var(--c2)}.cell text.on{fill:var(--on)}",
    "details{margin:10px 0 "
    "0;font-size:14px}.panels+details,.panels+p{margin-top:18px}details+p{margin:14px 0 "
    "0!important;font-size:15px}summary{cursor:pointer;color:var(--accent);"
    "width:fit-content}"
    ".scroll{overflow-x:auto;margin-top:8px;border:1px solid var(--line);border-radius:8px}"
    "table{border-collapse:collapse;width:100%}th,td{padding:6px 12px;text-align:right;"
    "white-space:nowrap;border-bottom:1px solid var(--line)}th:first-child,td:first-child{"
    "text-align:left}thead th{background:var(--soft);font-weight:600;color:var(--muted)}"
    "tbody th{font-weight:500}tbody tr:last-child>*{border-bottom:0}"
    "ul.failed{padding-left:20px;margin:8px 0 0;font-size:14px}"
    "footer{margin:64px 0 40px;padding-top:16px;border-top:1px solid var(--line);"
    "color:var(--muted);font-size:14px}footer p{margin:0 0 4px;max-width:76ch}"
    "@media(max-width:640px){.page{padding:0 16px}.summary{padding:18px 16px}section{margin-top:"
    "44px}.plot{padding-left:var(--ln);padding-right:var(--rn)}svg .wide{display:none}.tiles "
    ".big{font-size:20px}.tiles .long{grid-column:1/-1}"
    "svg .narrow{display:inline}}",
    "@media print{:root{--bg:#fff;--soft:#fff;--ink:#000;--muted:#444;--line:#ccc;--accent:#0a62ad;"
    "--on:#fff}body{font-size:11pt}nav,.skip,details{display:none}.page{max-width:none}"
    "figure,.summary{break-inside:avoid}h2,h3{break-after:avoid}section{margin-top:28px}"
    "*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}"
    "@media(prefers-reduced-motion:reduce){html{scroll-behavior:auto}}",
};

#define LONG_VALUE 9 /* characters of a tile that needs the width of a narrow page */

const char *mmf_file_name(const char *path)
{
    const char *const slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

void mmf_page_open(mmf_text *out, const char *kind, const char *title, const char *subtitle)
{
    mmf_text_add(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                      "<link rel=\"icon\" href=\"data:,\">\n<title>");
    mmf_html_text(out, title);
    mmf_text_add(out, "</title>\n<style>");
    for (size_t i = 0; i < sizeof style / sizeof *style; i++)
        mmf_text_add_bytes(out, style[i], strlen(style[i]));
    mmf_text_add(out, "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#content\">Skip to the "
                      "results</a>\n<div class=\"page\">\n<header><p class=\"kind\"><b>mmfuse</b> "
                      "&middot; ");
    mmf_html_text(out, kind);
    mmf_text_add(out, "</p><h1>");
    mmf_html_text(out, title);
    mmf_text_add(out, "</h1><p class=\"sub\">");
    mmf_html_text(out, subtitle);
    mmf_text_add(out, "</p></header>\n<main id=\"content\" tabindex=\"-1\">\n");
}

void mmf_page_summary_open(mmf_text *out)
{
    mmf_text_add(out, "<div class=\"summary\" role=\"region\" aria-label=\"Summary\">");
}

void mmf_page_summary_close(mmf_text *out, const mmf_tile *tiles, size_t n_tiles)
{
    mmf_text_add(out, "<dl class=\"tiles\">");
    for (size_t i = 0; i < n_tiles; i++) {
        mmf_text_add(out, "<div%s><dt>",
                     mmf_html_width(tiles[i].value) > LONG_VALUE ? " class=\"long\"" : "");
        mmf_html_text(out, tiles[i].label);
        mmf_text_add(out, "</dt><dd class=\"big\">");
        mmf_html_text(out, tiles[i].value);
        mmf_text_add(out, "</dd><dd class=\"small\">");
        mmf_html_text(out, tiles[i].note);
        mmf_text_add(out, "</dd></div>");
    }
    mmf_text_add(out, "</dl></div>\n");
}

void mmf_page_section_open(mmf_text *out, const char *id, const char *title, const char *lead)
{
    mmf_text_add(out, "<section id=\"%s\" aria-labelledby=\"%s-title\"><h2 id=\"%s-title\">", id,
                 id, id);
    mmf_html_text(out, title);
    mmf_text_add(out, "</h2>");
    if (lead) {
        mmf_text_add(out, "<p>");
        mmf_html_text(out, lead);
        mmf_text_add(out, "</p>");
    }
    mmf_text_add(out, "\n");
}

void mmf_page_section_close(mmf_text *out)
{
    mmf_text_add(out, "</section>\n");
}

/* The JSON goes into a script element, which ends at the first "</": "<" is written as an escape.
 */
static void embed(mmf_text *out, const char *json)
{
    mmf_text_add(out, "<script type=\"application/json\" id=\"data\">");
    for (const char *from = json; *from;) {
        const size_t n = strcspn(from, "<");
        mmf_text_add_bytes(out, from, n);
        from += n;
        if (*from) {
            mmf_text_add(out, "\\u003c");
            from++;
        }
    }
    mmf_text_add(out, "</script>\n");
}

void mmf_page_close(mmf_text *out, const char *json)
{
    mmf_text_add(out,
                 "</main>\n<footer><p>Made by mmfuse %s. This file is complete: it loads nothing, "
                 "and the numbers behind every plot stand in the tables and, as JSON, in the "
                 "element with the id <code>data</code>.</p></footer>\n</div>\n",
                 mmf_version());
    embed(out, json);
    mmf_text_add(out, "</body>\n</html>\n");
}

/* ---- Choice ------------------------------------------------------------------------------ */

static void write_report(mmf_text *out, const json_t *root, const char *json)
{
    if (json_is_array(json_object_get(root, "leaderboard")))
        mmf_report_comparison(out, root, json);
    else
        mmf_report_explanation(out, root, json);
}

mmf_status mmf_report_html(mmf_ctx *ctx, char **html, const char *json)
{
    json_error_t error;
    *html = NULL;
    json_t *const root = json_loads(json, 0, &error);
    if (!root)
        return mmf_fail(ctx, MMF_FORMAT, "the result is not JSON: line %d: %s", error.line,
                        error.text);
    if (!json_is_array(json_object_get(root, "leaderboard")) &&
        strcmp(mmf_json_get_text(root, "report", ""), "explanation") != 0) {
        json_decref(root);
        return mmf_fail(ctx, MMF_FORMAT,
                        "expected results.json of a comparison or the JSON of an explanation; "
                        "found neither \"leaderboard\" nor \"report\": \"explanation\"");
    }
    const locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    mmf_text out = {.ctx = ctx};
    if (c_locale != (locale_t)0) {
        const locale_t before = uselocale(c_locale);
        write_report(&out, root, json);
        uselocale(before);
        freelocale(c_locale);
    }
    json_decref(root);
    if (c_locale == (locale_t)0 || out.status != MMF_OK) {
        mmf_text_clear(&out);
        return mmf_fail(ctx, MMF_NOMEM, "out of memory while writing a report");
    }
    *html = out.data; /* made by the context's allocator, as mmf_free needs it */
    return MMF_OK;
}
