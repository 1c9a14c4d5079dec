// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_xml.h"

#include "common/cleanup.h"

#include <expat.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct parse {
    XML_Parser parser;
    s3_xml_each *each;
    void *user;
    char path[S3_XML_MAX_PATH];
    size_t path_len;
    int depth;
    char *text; // of the innermost element so far
    size_t text_len, text_cap;
    enum err err;
};

static void stop(struct parse *p, enum err e) {
    if (p->err == OK) {
        p->err = e;
    }
    (void)XML_StopParser(p->parser, XML_FALSE);
}

static void XMLCALL on_start(void *user, const XML_Char *name, const XML_Char **attributes) {
    struct parse *p = user;
    size_t n = strlen(name);
    (void)attributes;
    if (++p->depth > S3_XML_MAX_DEPTH || p->path_len + n + 2 > sizeof p->path) {
        stop(p, ERR_PROTOCOL);
        return;
    }
    if (p->path_len > 0) {
        p->path[p->path_len++] = '/';
    }
    memcpy(p->path + p->path_len, name, n + 1);
    p->path_len += n;
    p->text_len = 0;
}

static void XMLCALL on_text(void *user, const XML_Char *text, int len) {
    struct parse *p = user;
    size_t n = (size_t)len;
    if (p->text_len + n > S3_XML_MAX_TEXT) {
        stop(p, ERR_PROTOCOL);
        return;
    }
    if (p->text_len + n + 1 > p->text_cap) {
        size_t cap = (p->text_len + n + 1) * 2;
        char *grown = realloc(p->text, cap);
        if (grown == NULL) {
            stop(p, ERR_NO_MEMORY);
            return;
        }
        p->text = grown;
        p->text_cap = cap;
    }
    memcpy(p->text + p->text_len, text, n);
    p->text_len += n;
    p->text[p->text_len] = '\0';
}

static void XMLCALL on_end(void *user, const XML_Char *name) {
    struct parse *p = user;
    (void)name;
    enum err e = p->each(p->user, p->path, p->text_len > 0 ? p->text : "", p->text_len);
    if (e != OK) {
        stop(p, e);
        return;
    }
    const char *slash = strrchr(p->path, '/');
    p->path_len = slash != NULL ? (size_t)(slash - p->path) : 0;
    p->path[p->path_len] = '\0';
    p->depth--;
    p->text_len = 0;
}

// No answer of S3 has a document type, and so no entities of its own.
static void XMLCALL on_doctype(void *user, const XML_Char *name, const XML_Char *system,
                               const XML_Char *public, int has_subset) {
    (void)name;
    (void)system;
    (void)public;
    (void)has_subset;
    stop(user, ERR_PROTOCOL);
}

enum err s3_xml_parse(const char *text, size_t len, s3_xml_each *each, void *user) {
    struct parse p = {.each = each, .user = user, .parser = XML_ParserCreate(NULL)};
    if (p.parser == NULL) {
        return ERR_NO_MEMORY;
    }
    XML_SetUserData(p.parser, &p);
    XML_SetElementHandler(p.parser, on_start, on_end);
    XML_SetCharacterDataHandler(p.parser, on_text);
    XML_SetStartDoctypeDeclHandler(p.parser, on_doctype);
    enum XML_Status status =
        len > INT_MAX ? XML_STATUS_ERROR : XML_Parse(p.parser, text, (int)len, XML_TRUE);
    if (status != XML_STATUS_OK && p.err == OK) {
        p.err = XML_GetErrorCode(p.parser) == XML_ERROR_NO_MEMORY ? ERR_NO_MEMORY : ERR_PROTOCOL;
    }
    XML_ParserFree(p.parser);
    free(p.text);
    return p.err;
}

struct error_parse {
    struct s3_error_text *error;
    bool found;
};

static enum err on_error_element(void *user, const char *path, const char *text, size_t len) {
    struct error_parse *p = user;
    struct s3_error_text *e = p->error;
    const struct {
        const char *path;
        char *to;
        size_t cap;
    } fields[] = {
        {"Error/Code", e->code, sizeof e->code},
        {"Error/Message", e->message, sizeof e->message},
        {"Error/RequestId", e->request_id, sizeof e->request_id},
        {"Error/Region", e->region, sizeof e->region},
        {"Error/Endpoint", e->endpoint, sizeof e->endpoint},
    };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (strcmp(path, fields[i].path) == 0) {
            snprintf(fields[i].to, fields[i].cap, "%.*s", (int)len, text);
            p->found |= i == 0;
        }
    }
    return OK;
}

bool s3_xml_error(const char *text, size_t len, struct s3_error_text *ret_error) {
    struct s3_error_text error = {0};
    struct error_parse p = {.error = &error};
    if (len == 0 || s3_xml_parse(text, len, on_error_element, &p) != OK || !p.found) {
        return false;
    }
    *ret_error = error;
    return true;
}

static int hex_value(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

size_t s3_url_decode(char *text, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        int high = text[i] == '%' && i + 2 < len ? hex_value(text[i + 1]) : -1;
        int low = high >= 0 ? hex_value(text[i + 2]) : -1;
        if (low >= 0) {
            text[n++] = (char)(high << 4 | low);
            i += 2;
        } else {
            text[n++] = text[i] == '+' ? ' ' : text[i];
        }
    }
    text[n] = '\0';
    return n;
}

enum err s3_time_parse(const char *text, int64_t *ret_ns) {
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (rest == NULL) {
        return ERR_PROTOCOL;
    }
    int64_t ns = 0, unit = 100000000;
    if (*rest == '.') {
        for (rest++; *rest >= '0' && *rest <= '9'; rest++) {
            ns += (*rest - '0') * unit;
            unit /= 10;
        }
    }
    int64_t whole = 0;
    if (__builtin_mul_overflow((int64_t)timegm(&tm), INT64_C(1000000000), &whole) ||
        __builtin_add_overflow(whole, ns, ret_ns)) {
        return ERR_PROTOCOL;
    }
    return OK;
}
