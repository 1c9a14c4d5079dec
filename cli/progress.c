// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include "cli/quantity.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

enum {
    BAR_MIN = 10,
    BAR_MAX = 40,
    N_PIECES = 5,
    PIECE_MAX = 80,
};

// The pieces of a line, in the order in which they stand; a smaller rank stays longer.
struct pieces {
    char text[N_PIECES][PIECE_MAX];
    int rank[N_PIECES];
};

static double fraction(const struct progress *p) {
    if (p->bytes_total > 0) {
        double f = (double)p->bytes_done / (double)p->bytes_total;
        return f > 1 ? 1 : f;
    }
    return p->objects_total > 0 && p->objects_done >= p->objects_total ? 1 : 0;
}

static void fill_pieces(const struct progress *p, struct pieces *out) {
    char a[QUANTITY_MAX], b[QUANTITY_MAX];
    *out = (struct pieces){.rank = {0, 1, 2, 3, 4}};
    // While the walk goes on the whole is not known: no share of it is claimed.
    if (!p->listing) {
        snprintf(out->text[0], PIECE_MAX, "%3d%%", (int)(fraction(p) * 100));
    }
    quantity_format_bytes((double)p->bytes_done, a);
    quantity_format_bytes((double)p->bytes_total, b);
    snprintf(out->text[1], PIECE_MAX, "%s of %s%s", a, b, p->listing ? "+" : "");
    if (p->state == FLOW_SUSPENDED) {
        snprintf(out->text[2], PIECE_MAX, "suspended");
    } else if (p->phase == PHASE_QUEUED || p->phase == PHASE_FINISHING ||
               p->phase == PHASE_VERIFYING) {
        snprintf(out->text[2], PIECE_MAX, "%s", flow_phase_name(p->phase));
    } else {
        quantity_format_rate(p->bytes_per_s, out->text[2]);
        if (p->eta_ms >= 0 && !p->listing) {
            quantity_format_duration(p->eta_ms, a);
            snprintf(out->text[3], PIECE_MAX, "ETA %s", a);
        }
    }
    quantity_format_count(p->objects_done, a);
    quantity_format_count(p->objects_total, b);
    int n = snprintf(out->text[4], PIECE_MAX, "%s/%s%s objects", a, b, p->listing ? "+" : "");
    if (p->objects_failed > 0 && n > 0 && n < PIECE_MAX) {
        quantity_format_count(p->objects_failed, a);
        snprintf(out->text[4] + n, PIECE_MAX - (size_t)n, ", %s failed", a);
    }
}

static size_t pieces_width(const struct pieces *pieces) {
    size_t width = 0;
    for (int i = 0; i < N_PIECES; i++) {
        if (pieces->text[i][0]) {
            width += strlen(pieces->text[i]) + (width > 0 ? 2 : 0);
        }
    }
    return width;
}

static void drop_least_telling(struct pieces *pieces) {
    int worst = -1;
    for (int i = 0; i < N_PIECES; i++) {
        if (pieces->text[i][0] && (worst < 0 || pieces->rank[i] > pieces->rank[worst])) {
            worst = i;
        }
    }
    if (worst >= 0) {
        pieces->text[worst][0] = '\0';
    }
}

static size_t draw_bar(const struct progress *p, size_t width, char *line) {
    size_t inner = width - 2;
    size_t filled = (size_t)(fraction(p) * (double)inner);
    line[0] = '[';
    memset(line + 1, ' ', inner);
    memset(line + 1, '=', filled);
    if (filled < inner && filled > 0) {
        line[filled] = '>';
    }
    line[width - 1] = ']';
    line[width] = '\0';
    return width;
}

void progress_format(const struct progress *p, size_t width, char ret_line[PROGRESS_LINE_MAX]) {
    struct pieces pieces;
    fill_pieces(p, &pieces);
    if (width >= PROGRESS_LINE_MAX) {
        width = PROGRESS_LINE_MAX - 1;
    }
    while (pieces_width(&pieces) > width) {
        drop_least_telling(&pieces);
    }
    size_t used = 0, text = pieces_width(&pieces);
    ret_line[0] = '\0';
    if (!p->listing && text + 2 + BAR_MIN <= width) {
        size_t room = width - text - 2;
        used = draw_bar(p, room < BAR_MAX ? room : BAR_MAX, ret_line);
    }
    for (int i = 0; i < N_PIECES; i++) {
        if (pieces.text[i][0]) {
            used += (size_t)snprintf(ret_line + used, PROGRESS_LINE_MAX - used, "%s%s",
                                     used > 0 ? "  " : "", pieces.text[i]);
        }
    }
}

size_t progress_width(int fd) {
    struct winsize size;
    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}
