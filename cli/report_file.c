/* report_file.c: see report_file.h. */
#include "report_file.h"

#include <string.h>

#include "output.h"

int cli_write_report(const cli_session *session, const char *path, const char *json)
{
    char *html = NULL;
    out_file file;
    const mmf_status status = mmf_report_html(session->ctx, &html, json);
    if (status != MMF_OK)
        return cli_failed(session, status);
    bool written = out_file_open(&file, path);
    if (written) {
        (void)fwrite(html, 1, strlen(html), file.file); /* closing tells what went wrong */
        written = out_file_close(&file, true);
    }
    mmf_free(session->ctx, html);
    return written ? CLI_OK : CLI_FAILED;
}
