#include "mmfuse/tool.h"
mmf_status mmf_report_html(mmf_ctx *ctx, char **html, const char *json)
{ *html = mmf_strdup(ctx, json); return *html ? MMF_OK : MMF_NOMEM; }
