// SPDX-License-Identifier: Apache-2.0
// The checksum that goes to a store with an object's bytes, and comes back with them. Which of
// them a store takes is not announced: it is tried, the best first, and the store's answer tells.
#ifndef DATAPLANE_S3_CHECKSUM_H
#define DATAPLANE_S3_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The values are kept in receipts.
enum s3_checksum {
    S3_CHECKSUM_CRC64NVME,
    S3_CHECKSUM_CRC32C,
    S3_CHECKSUM_SHA256,
    S3_CHECKSUM_NONE, // none of those before
    S3_CHECKSUM_MD5,  // Content-MD5: nothing tells whether it was looked at
};
enum { S3_CHECKSUM_SIZE = 48 }; // base 64 of any of them, and a NUL

// "CRC64NVME", "MD5", "NONE": as in x-amz-checksum-algorithm.
const char *s3_checksum_name(enum s3_checksum c);
bool s3_checksum_from_name(const char *name, enum s3_checksum *ret_checksum); // in any case
// "x-amz-checksum-crc64nvme", "content-md5"; NULL: none.
const char *s3_checksum_header(enum s3_checksum c);
// "ChecksumCRC64NVME", as in answers and requests of multipart uploads; NULL: none.
const char *s3_checksum_element(enum s3_checksum c);
bool s3_checksum_is_crc(enum s3_checksum c); // can be joined
// What an x-amz-checksum header can hold; neither MD5 nor none.
bool s3_checksum_is_amz(enum s3_checksum c);

// In base 64. "": none, or this machine's policy forbids MD5.
void s3_checksum_of(enum s3_checksum c, const void *bytes, size_t len,
                    char ret_text[S3_CHECKSUM_SIZE]);

// The ETag that an object of this MD5 has. false: @md5 is none.
bool s3_checksum_as_etag(const char *md5, char ret_etag[S3_CHECKSUM_SIZE]);

// A CRC of bytes that come one after the other. Zeroed but for the kind: of none.
struct s3_crc {
    enum s3_checksum kind; // CRC64NVME or CRC32C
    uint64_t value;
};
void s3_crc_add(struct s3_crc *c, const void *bytes, size_t len);
// Adds @n_bytes whose CRC is @text. false: it is none.
bool s3_crc_join(struct s3_crc *c, const char *text, uint64_t n_bytes);
void s3_crc_text(const struct s3_crc *c, char ret_text[S3_CHECKSUM_SIZE]);

// ---- what is tried ----

// CRC32C first, then CRC64NVME, SHA256, NONE: see docs/decisions/0007-s3-checksums.md.
struct s3_checksum_choice {
    enum s3_checksum now; // at first S3_CHECKSUM_FIRST
    bool is_settled;
};
#define S3_CHECKSUM_FIRST S3_CHECKSUM_CRC32C
enum s3_checksum s3_checksum_next(enum s3_checksum tried);
bool s3_checksum_comes_after(enum s3_checksum c, enum s3_checksum other);
// A store's answer to a request with @tried: @is_taken, or it was refused or ignored. true: the
// choice is settled by it.
bool s3_checksum_choice_learn(struct s3_checksum_choice *c, enum s3_checksum tried, bool is_taken);

#endif
