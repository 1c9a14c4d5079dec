// SPDX-License-Identifier: Apache-2.0
// The XML that S3 answers with: the only user of Expat. It comes from a stranger: depth, sizes
// and entities are limited.
#ifndef DATAPLANE_S3_XML_H
#define DATAPLANE_S3_XML_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    S3_XML_MAX_DEPTH = 8,
    S3_XML_MAX_PATH = 256,
    S3_XML_MAX_TEXT = 64 * 1024, // of one element
};

// At the end of each element: its path ("ListBucketResult/Contents/Key") and the text in it.
// Anything but OK ends the parsing with that error.
typedef enum err s3_xml_each(void *user, const char *path, const char *text, size_t len);
// ERR_PROTOCOL: not well-formed, or beyond a limit. ERR_NO_MEMORY.
MUST_CHECK enum err s3_xml_parse(const char *text, size_t len, s3_xml_each *each, void *user);

// What an error document says; texts are cut.
struct s3_error_text {
    char code[64], message[160], request_id[80], region[64], endpoint[256];
};
// false: it is none.
bool s3_xml_error(const char *text, size_t len, struct s3_error_text *ret_error);

// Undoes encoding-type=url in place; the new length.
size_t s3_url_decode(char *text, size_t len);
// "2009-10-12T17:50:30.000Z" → nanoseconds since 1970. ERR_PROTOCOL.
MUST_CHECK enum err s3_time_parse(const char *text, int64_t *ret_ns);

#endif
