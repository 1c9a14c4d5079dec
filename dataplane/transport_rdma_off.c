// SPDX-License-Identifier: Apache-2.0
// In the place of transport_rdma.c where Sluice is built without RDMA (SLUICE_RDMA=OFF).
#include "dataplane/transport_rdma.h"

static enum err refuse(struct failure *f) {
    enum err e = failure_set(f, ERR_UNIMPLEMENTED, "open RDMA device", NULL, 0,
                             "this program was built without RDMA");
    failure_remedy(f, "build it with -DSLUICE_RDMA=ON, which needs libibverbs and librdmacm");
    return e;
}

enum err transport_rdma_new(const struct transport_rdma_options *o,
                            struct transport **ret_transport, struct failure *ret_failure) {
    (void)o;
    (void)ret_transport;
    return refuse(ret_failure);
}

enum err transport_rdma_check(uint64_t pool_bytes, struct rdma_device_report *ret_reports,
                              size_t *ret_n, struct failure *ret_failure) {
    (void)pool_bytes;
    (void)ret_reports;
    (void)ret_n;
    return refuse(ret_failure);
}
