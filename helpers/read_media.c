/*
 * read_media.c: the program mmfuse-read-media: decodes images, sound and video.
 *
 * With a file or a folder it writes an npz. With --serve it answers requests on standard input
 * until that ends; the frames are described in mmfuse/media.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "media_folder.h"

/* ---- Serving ------------------------------------------------------------------------------ */

/* Header and payload in one call, as few as the pipe allows. */
static bool write_frame(const mmf_media_frame *frame, const void *payload)
{
    unsigned char header[MMF_MEDIA_HEADER_BYTES];
    mmf_media_frame_pack(frame, header);
    size_t at = 0;
    const size_t n = sizeof header + (size_t)frame->n_bytes;
    while (at < n) {
        const size_t in_payload = at > sizeof header ? at - sizeof header : 0;
        const struct iovec pieces[2] = {{header + (at < sizeof header ? at : sizeof header),
                                         at < sizeof header ? sizeof header - at : 0},
                                        {(unsigned char *)(uintptr_t)payload + in_payload,
                                         (size_t)frame->n_bytes - in_payload}};
        const ssize_t written = writev(STDOUT_FILENO, pieces, 2);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        at += (size_t)written;
    }
    return true;
}

static bool answer(decoder *d, int64_t row, const char *path)
{
    decoded out = {0};
    const mmf_status status = decode_file(d, &out, path);
    out.frame.row = row;
    const char *message = "";
    if (status != MMF_OK) {
        message = mmf_ctx_error(d->ctx);
        const size_t n = strlen(message);
        out.frame =
            (mmf_media_frame){.row = row,
                              .failed = true,
                              .n_bytes = n < MMF_MEDIA_ERROR_BYTES ? n : MMF_MEDIA_ERROR_BYTES - 1};
    }
    const bool written = write_frame(&out.frame, out.bytes ? (const void *)out.bytes : message);
    mmf_free(d->ctx, out.bytes);
    return written;
}

static int serve(decoder *d)
{
    const mmf_media_frame greeting = {.row = -1};
    bool good = write_frame(&greeting, "");
    char *line = NULL;
    size_t capacity = 0;
    while (good) {
        const ssize_t n = getline(&line, &capacity, stdin);
        if (n <= 0)
            break;
        line[n - 1] = line[n - 1] == '\n' ? '\0' : line[n - 1];
        char *path = NULL;
        const long long row = strtoll(line, &path, 10);
        if (path == line || *path != ' ' || row < 0) {
            fprintf(stderr, "a request is \"ROW PATH\", not \"%s\"\n", line);
            good = false;
        } else {
            good = answer(d, row, path + 1);
        }
    }
    free(line);
    return good ? 0 : 1;
}

/* ---- The command line --------------------------------------------------------------------- */

static int usage(bool asked)
{
    FILE *const out = asked ? stdout : stderr;
    fprintf(out,
            "usage: mmfuse-read-media [--skip] [KEY=VALUE...] FILE|FOLDER > OUT.npz\n"
            "       mmfuse-read-media --serve [KEY=VALUE...]\n\n"
            "Decodes images (JPEG, PNG, WebP), sound (WAV, FLAC, MP3, Ogg) or video (MP4, WebM,\n"
            "Matroska) into one npz. The names of folders in FOLDER become labels. With --skip a\n"
            "file that cannot be decoded is absent instead of an error. With --serve the program\n"
            "answers requests of mmfuse. Keys: kind=image|audio|video, channels=1|3, short_side,\n"
            "crop_h, crop_w, sample_rate, max_seconds, n_frames, every, max_pixels, max_bytes.\n");
    return asked ? 0 : 2;
}

typedef struct command {
    const char *path;
    bool serving, kind_given;
    on_error policy;
} command;

static mmf_status parse(int argc, char **argv, decoder *d, command *c)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--serve") == 0 && i == 1) {
            c->serving = true;
        } else if (strcmp(argv[i], "--skip") == 0) {
            c->policy = SKIP_ON_ERROR;
        } else if (i == argc - 1 && !c->serving) {
            c->path = argv[i];
        } else {
            c->kind_given = c->kind_given || strncmp(argv[i], "kind=", 5) == 0;
            MMF_TRY(mmf_media_options_set(d->ctx, &d->options, argv[i]));
        }
    }
    if (!c->serving && !c->path)
        return mmf_fail(d->ctx, MMF_ARG, "expected a file or a folder; see --help");
    return mmf_media_options_complete(d->ctx, &d->options);
}

int main(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "--help") == 0)
        return usage(argc == 2);
    decoder d = {.options = MMF_MEDIA_OPTIONS_INIT};
    if (mmf_ctx_create(&d.ctx, NULL) != MMF_OK) {
        fprintf(stderr, "out of memory, or MMFUSE_CPU has an unknown value\n");
        return 1;
    }
    av_log_set_level(AV_LOG_QUIET);
    command c = {0};
    int code = 2;
    mmf_status status = parse(argc, argv, &d, &c);
    if (status == MMF_OK && c.serving) {
        code = serve(&d);
    } else if (status == MMF_OK) {
        status = convert_folder(&d, c.path, c.kind_given, c.policy);
        code = status == MMF_OK ? 0 : 1;
    }
    if (status != MMF_OK)
        fprintf(stderr, "%s\n", mmf_ctx_error(d.ctx));
    decoder_close(&d);
    mmf_ctx_free(d.ctx);
    return code;
}
