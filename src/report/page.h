/* page.h: the HTML page around a report. */
#ifndef MMFUSE_REPORT_PAGE_H
#define MMFUSE_REPORT_PAGE_H

#include "report/html.h"

/** A number that stands out on top. */
typedef struct mmf_tile {
    const char *label, *value, *note;
} mmf_tile;

/** Head of the page down to the title. @param kind  "Comparison"  @param subtitle  plain text */
void mmf_page_open(mmf_text *out, const char *kind, const char *title, const char *subtitle);
/** The summary: sentences are added between open and close. */
void mmf_page_summary_open(mmf_text *out);
void mmf_page_summary_close(mmf_text *out, const mmf_tile *tiles, size_t n_tiles);
/** @param lead  a plain sentence below the heading; NULL: none */
void mmf_page_section_open(mmf_text *out, const char *id, const char *title, const char *lead);
void mmf_page_section_close(mmf_text *out);
/** Foot of the page, with the JSON that it was made from. */
void mmf_page_close(mmf_text *out, const char *json);

/** The part of a path behind its last slash. */
const char *mmf_file_name(const char *path);

/* ---- Reports ----------------------------------------------------------------------------- */

/** Each writes everything between page_open and page_close, both included. */
void mmf_report_explanation(mmf_text *out, const json_t *e, const char *json);
void mmf_report_comparison(mmf_text *out, const json_t *c, const char *json);
/** Sections of an explanation about its errors: confusion, reliability, predicted against true. */
void mmf_report_errors(mmf_text *out, const json_t *e);
/** Section of its robustness curves. */
void mmf_report_robustness(mmf_text *out, const json_t *e);
/** Learning curves of a comparison's trials. */
void mmf_report_learning(mmf_text *out, const json_t *c);
/** Quality against latency. */
void mmf_report_trade_off(mmf_text *out, const json_t *c);
/** Score of a leader on validation or test: "mean", "std" or "n" of the main metric. */
double mmf_report_leader_score(const json_t *c, const json_t *leader, const char *part,
                               const char *which);
/** Seconds for one sample; NaN if unknown. */
double mmf_report_latency(const json_t *leader);

#endif
