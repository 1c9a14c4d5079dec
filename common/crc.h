// SPDX-License-Identifier: Apache-2.0
// The checksums that object stores take with what they are sent: CRC-64/NVME (NVM Command Set
// specification 1.0, 5.2.1.3.4) and CRC-32C (RFC 3720, B.4). They find accidents, not adversaries.
// Pure functions, any thread; with the processor's instructions where it has such.
#ifndef COMMON_CRC_H
#define COMMON_CRC_H

#include <stddef.h>
#include <stdint.h>

// Of the bytes whose CRC is @crc (0: none) and @len more.
uint64_t crc64nvme(uint64_t crc, const void *bytes, size_t len);
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len);

// Of two runs of bytes after each other, from the CRC of each; the second has @second_bytes.
uint64_t crc64nvme_join(uint64_t first, uint64_t second, uint64_t second_bytes);
uint32_t crc32c_join(uint32_t first, uint32_t second, uint64_t second_bytes);

// The same in a certain way, or the next best one that this processor has: for tests.
enum crc_way {
    CRC_BY_TABLES, // any processor
    CRC_BY_BLOCKS, // carry-less multiplication
    CRC_BY_PAIRS,  // two of them in one instruction
};
uint64_t crc64nvme_by(enum crc_way way, uint64_t crc, const void *bytes, size_t len);
uint32_t crc32c_by(enum crc_way way, uint32_t crc, const void *bytes, size_t len);

#endif
