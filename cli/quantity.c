// SPDX-License-Identifier: Apache-2.0
#include "cli/quantity.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *skip_spaces(const char *p) {
    while (*p == ' ') {
        p++;
    }
    return p;
}

// A number without sign, exponent or other notation. NULL: none.
static const char *scan_number(const char *text, double *ret) {
    const char *p = text;
    bool digits = false;
    double value = 0, place = 1;
    for (; *p >= '0' && *p <= '9'; p++) {
        value = value * 10 + (*p - '0');
        digits = true;
    }
    if (*p == '.') {
        for (p++; *p >= '0' && *p <= '9'; p++) {
            place /= 10;
            value += (*p - '0') * place;
            digits = true;
        }
    }
    *ret = value;
    return digits ? p : NULL;
}

bool quantity_integer(const char *text, int64_t min, int64_t max, int64_t *ret) {
    if (!(*text == '-' || (*text >= '0' && *text <= '9'))) {
        return false;
    }
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end != '\0' || value < min || value > max) {
        return false;
    }
    *ret = value;
    return true;
}

bool quantity_duration(const char *text, int64_t *ret_ms) {
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"", 1e3},     {"ms", 1},     {"s", 1e3},    {"m", 60e3},
                 {"min", 60e3}, {"h", 3600e3}, {"d", 86400e3}};
    double number;
    const char *p = scan_number(text, &number);
    if (!p) {
        return false;
    }
    p = skip_spaces(p);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        double ms = number * units[i].ms;
        if (strcmp(p, units[i].unit) == 0 && ms < 1e17) {
            *ret_ms = (int64_t)(ms + 0.5);
            return true;
        }
    }
    return false;
}

bool quantity_time(const char *text, int64_t now_ms, int64_t *ret_ms) {
    int64_t from_now;
    if (*text == '+') {
        if (!quantity_duration(text + 1, &from_now)) {
            return false;
        }
        *ret_ms = now_ms + from_now;
        return true;
    }
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (!rest || *rest != '\0') {
        return false;
    }
    *ret_ms = (int64_t)timegm(&tm) * 1000;
    return true;
}

void quantity_format_bytes(double bytes, char ret[QUANTITY_MAX]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    while (bytes >= 1023.95 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        bytes /= 1024;
        unit++;
    }
    snprintf(ret, QUANTITY_MAX, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

void quantity_format_rate(double bytes_per_s, char ret[QUANTITY_MAX]) {
    quantity_format_bytes(bytes_per_s, ret);
    size_t len = strlen(ret);
    snprintf(ret + len, QUANTITY_MAX - len, "/s");
}

void quantity_format_duration(int64_t ms, char ret[QUANTITY_MAX]) {
    if (ms < 0) {
        ms = 0;
    }
    long long s = ms / 1000;
    if (ms < 60000) {
        snprintf(ret, QUANTITY_MAX, "%lld.%lld s", s, (long long)(ms % 1000) / 100);
    } else if (s < 3600) {
        snprintf(ret, QUANTITY_MAX, "%lld:%02lld", s / 60, s % 60);
    } else {
        snprintf(ret, QUANTITY_MAX, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    }
}

void quantity_format_count(uint64_t n, char ret[QUANTITY_MAX]) {
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);
    size_t out = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            ret[out++] = ',';
        }
        ret[out++] = digits[i];
    }
    ret[out] = '\0';
}

void quantity_format_time(int64_t ms, char ret[QUANTITY_MAX]) {
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    if (ms < 0 || !gmtime_r(&s, &tm)) {
        snprintf(ret, QUANTITY_MAX, "-");
        return;
    }
    size_t len = strftime(ret, QUANTITY_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(ret + len, QUANTITY_MAX - len, ".%03dZ", (int)(ms % 1000));
}
