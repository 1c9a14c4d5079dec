// SPDX-License-Identifier: Apache-2.0
#include "common/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum err address_parse(const char *text, struct address *ret_address, struct failure *ret_failure) {
    struct address a = {.port = 0};
    const char *colon = strrchr(text, ':'), *host = text;
    size_t host_len = colon != NULL ? (size_t)(colon - text) : 0;
    bool bracketed = host_len >= 2 && text[0] == '[' && text[host_len - 1] == ']';
    if (bracketed) {
        host++;
        host_len -= 2;
    }
    bool well_formed = host_len > 0 && host_len < sizeof a.host && colon[1] != '\0' &&
                       (bracketed || memchr(host, ':', host_len) == NULL);
    for (const char *p = colon; well_formed && *++p != '\0';) {
        well_formed = *p >= '0' && *p <= '9';
        a.port = a.port * 10 + (*p - '0');
        well_formed = well_formed && a.port <= 65535;
    }
    if (!well_formed) {
        enum err err = failure_set(ret_failure, ERR_INVALID, "read the address", text, strlen(text),
                                   "not of the form host:port");
        failure_remedy(ret_failure, "write for example 127.0.0.1:7000, node7:7000 or [::1]:7000");
        return err;
    }
    memcpy(a.host, host, host_len);
    a.host[host_len] = '\0';
    *ret_address = a;
    return OK;
}

bool address_is_loopback(const struct address *a) {
    struct in_addr v4;
    struct in6_addr v6;
    if (strcmp(a->host, "localhost") == 0) {
        return true;
    }
    if (inet_pton(AF_INET, a->host, &v4) == 1) {
        return ntohl(v4.s_addr) >> 24 == 127;
    }
    return inet_pton(AF_INET6, a->host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

bool address_next(const char **rest, char ret_text[ADDRESS_TEXT_SIZE]) {
    *rest += strspn(*rest, ", ");
    size_t len = strcspn(*rest, ", ");
    if (len == 0 || len >= ADDRESS_TEXT_SIZE) {
        return false;
    }
    memcpy(ret_text, *rest, len);
    ret_text[len] = '\0';
    *rest += len;
    return true;
}

enum err address_check_plaintext(const char *text, struct failure *ret_failure) {
    struct address a;
    enum err err = address_parse(text, &a, ret_failure);
    if (err != OK || address_is_loopback(&a)) {
        return err;
    }
    err = failure_set(ret_failure, ERR_DENIED, "use the address", text, strlen(text),
                      "without TLS only loopback addresses are allowed");
    failure_remedy(ret_failure, "configure tls (certificate, key, ca), or use 127.0.0.1");
    return err;
}
