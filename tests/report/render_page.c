/* render_page.c: the HTML report of JSON from standard input, on standard output. */
#include <stdio.h>
#include <stdlib.h>

#include "mmfuse/tool.h"

int main(void)
{
    enum { CHUNK = 1 << 16 };
    char *json = NULL, *html = NULL;
    size_t n = 0;
    for (size_t got = 1; got > 0; n += got) {
        char *const grown = realloc(json, n + CHUNK + 1);
        if (!grown) {
            free(json);
            return 1;
        }
        json = grown;
        got = fread(json + n, 1, CHUNK, stdin);
        json[n + got] = '\0';
    }
    mmf_ctx *ctx = NULL;
    if (mmf_ctx_create(&ctx, NULL) != MMF_OK) {
        free(json);
        return 1;
    }
    const mmf_status status = mmf_report_html(ctx, &html, json);
    if (status == MMF_OK)
        fputs(html, stdout);
    else
        fprintf(stderr, "%s\n", mmf_ctx_error(ctx));
    mmf_free(ctx, html);
    mmf_ctx_free(ctx);
    free(json);
    return status == MMF_OK ? 0 : 1;
}
