// SPDX-License-Identifier: Apache-2.0
// The packed google.protobuf.FileDescriptorSet of all our services, for server reflection.
#ifndef COMMON_RPC_DESCRIPTORS_H
#define COMMON_RPC_DESCRIPTORS_H

#include <stddef.h>

// Made by the linker from descriptors.bin (proto/CMakeLists.txt).
extern const unsigned char _binary_descriptors_bin_start[];
extern const unsigned char _binary_descriptors_bin_end[];

static inline const void *descriptors_bytes(void) {
    return _binary_descriptors_bin_start;
}

static inline size_t descriptors_len(void) {
    return (size_t)(_binary_descriptors_bin_end - _binary_descriptors_bin_start);
}

#endif
