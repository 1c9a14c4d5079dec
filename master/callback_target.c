// SPDX-License-Identifier: Apache-2.0
#include "master/callback_target.h"

#include "master/master_options.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

// Stricter than RFC 3986, so that no other reader of the same text finds another host in it.
static const char name_characters[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
static const char address_characters[] = "0123456789abcdefABCDEF:.";

// Reads "host[:port]" at @text; @ret_host: with brackets, if any. Returns its length, 0: none.
static size_t read_authority(const char *text, size_t *ret_host_len, unsigned *ret_port) {
    size_t n;
    *ret_port = 0;
    if (text[0] == '[') {
        n = 1 + strspn(text + 1, address_characters);
        if (n < 3 || text[n] != ']') {
            return 0;
        }
        n++;
    } else {
        n = strspn(text, name_characters);
    }
    *ret_host_len = n;
    if (n == 0 || n > 255 || text[n] != ':') {
        return n > 255 ? 0 : n;
    }
    size_t digits = strspn(text + n + 1, "0123456789");
    unsigned long port = digits == 0 || digits > 5 ? 0 : strtoul(text + n + 1, NULL, 10);
    if (port == 0 || port > 65535) {
        return 0;
    }
    *ret_port = (unsigned)port;
    return n + 1 + digits;
}

bool callback_host_is_valid(const char *host) {
    size_t host_len;
    unsigned port;
    size_t n = read_authority(host, &host_len, &port);
    return n > 0 && host[n] == '\0';
}

static enum err refuse(struct failure *f, enum err e, const char *url, const char *why,
                       const char *remedy) {
    (void)failure_set(f, e, "submit", url, strnlen(url, CALLBACK_URL_MAX), "callback_url: %s", why);
    failure_remedy(f, "%s", remedy);
    return e;
}

static bool is_listed(const char *host, size_t host_len, unsigned port,
                      const struct callback_options *o) {
    for (size_t i = 0; i < o->n_hosts; i++) {
        size_t len;
        unsigned only_port;
        if (read_authority(o->hosts[i], &len, &only_port) > 0 && len == host_len &&
            strncasecmp(o->hosts[i], host, len) == 0 && (only_port == 0 || only_port == port)) {
            return true;
        }
    }
    return false;
}

enum err callback_target_check(const char *url, const struct callback_options *o,
                               struct failure *ret_failure) {
    if (o->n_hosts == 0) {
        return refuse(ret_failure, ERR_UNIMPLEMENTED, url,
                      "callbacks are not set up on this master",
                      "leave it out, or set `callbacks` in the master's configuration");
    }
    bool is_tls = strncasecmp(url, "https://", 8) == 0;
    size_t scheme = is_tls ? 8 : 7;
    if (strnlen(url, CALLBACK_URL_MAX + 1) > CALLBACK_URL_MAX) {
        return refuse(ret_failure, ERR_INVALID, url, "is too long", "use a shorter address");
    }
    if (!is_tls && strncasecmp(url, "http://", 7) != 0) {
        return refuse(ret_failure, ERR_INVALID, url, "is neither http:// nor https://",
                      "use http://HOST[:PORT]/PATH or https://…");
    }
    size_t host_len = 0;
    unsigned port = 0;
    size_t n = read_authority(url + scheme, &host_len, &port);
    const char *rest = url + scheme + n;
    bool is_clean = n > 0 && (*rest == '\0' || *rest == '/' || *rest == '?');
    for (const char *c = rest; is_clean && *c != '\0'; c++) {
        is_clean =
            *c > ' ' && *c < 0x7f && *c != '\\' && *c != '#' && *c != '"' && *c != '<' && *c != '>';
    }
    if (!is_clean) {
        return refuse(ret_failure, ERR_INVALID, url,
                      "has no plain host, or characters that must be escaped",
                      "use http://HOST[:PORT]/PATH without user name or fragment");
    }
    if (!is_listed(url + scheme, host_len, port == 0 ? (is_tls ? 443 : 80) : port, o)) {
        return refuse(ret_failure, ERR_DENIED, url, "its host is not one that may be called",
                      "ask the operator to add it to callbacks.hosts of the master");
    }
    return OK;
}
