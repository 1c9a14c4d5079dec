// SPDX-License-Identifier: Apache-2.0
#include "common/s3_credentials.h"

#include "common/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 8192 };

void s3_credentials_wipe(struct s3_credentials *c) {
    explicit_bzero(c, sizeof *c);
}

// ERR_FULL: too long.
static enum err copy(const char *text, char *to, size_t cap) {
    size_t n = text != NULL ? strlen(text) : 0;
    if (n >= cap) {
        return ERR_FULL;
    }
    if (n > 0) {
        memcpy(to, text, n);
    }
    to[n] = '\0';
    return OK;
}

static enum err take(const char *access_key, const char *secret_key, const char *token,
                     struct s3_credentials *c) {
    enum err e = copy(access_key, c->access_key, sizeof c->access_key);
    if (e == OK) {
        e = copy(secret_key, c->secret_key, sizeof c->secret_key);
    }
    return e == OK ? copy(token, c->session_token, sizeof c->session_token) : e;
}

// ---- the AWS files ----

static char *trim(char *text) {
    text += strspn(text, " \t\r\n");
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r\n", text[n - 1]) != NULL) {
        text[--n] = '\0';
    }
    return text;
}

// Is "[NAME]" (or "[profile NAME]") this profile?
static bool is_section(char *line, const char *profile) {
    char *end = strchr(line, ']');
    if (end == NULL) {
        return false;
    }
    *end = '\0';
    char *name = trim(line + 1);
    if (strncmp(name, "profile ", 8) == 0) {
        name = trim(name + 8);
    }
    return strcmp(name, profile) == 0;
}

static void close_file(FILE **f) {
    if (*f != NULL) {
        fclose(*f);
    }
}

// ERR_NOT_FOUND: no such file, profile or setting.
static enum err read_setting(const char *file, const char *profile, const char *name,
                             char *ret_value, size_t cap) {
    AUTO(close_file) FILE *in = fopen(file, "re");
    AUTO(auto_free) char *line = malloc(LINE_MAX_BYTES);
    bool is_ours = false;
    if (in == NULL) {
        return ERR_NOT_FOUND;
    }
    if (line == NULL) {
        return ERR_NO_MEMORY;
    }
    while (fgets(line, LINE_MAX_BYTES, in) != NULL) {
        char *text = trim(line);
        if (text[0] == '[') {
            is_ours = is_section(text, profile);
            continue;
        }
        char *equals = is_ours && text[0] != '#' && text[0] != ';' ? strchr(text, '=') : NULL;
        if (equals == NULL) {
            continue;
        }
        *equals = '\0';
        if (strcmp(trim(text), name) == 0) {
            return copy(trim(equals + 1), ret_value, cap);
        }
    }
    return ERR_NOT_FOUND;
}

static const char *profile_or_default(const char *profile) {
    const char *p = profile != NULL ? profile : getenv("AWS_PROFILE");
    return p != NULL && p[0] != '\0' ? p : "default";
}

// NULL: out of memory, or there is no home.
static char *file_path(const char *given, const char *variable, const char *name) {
    char *path = NULL;
    const char *from = given != NULL ? given : getenv(variable), *home = getenv("HOME");
    if (from != NULL && from[0] != '\0') {
        return strdup(from);
    }
    if (home == NULL || asprintf(&path, "%s/.aws/%s", home, name) < 0) {
        return NULL;
    }
    return path;
}

enum err s3_profile_setting(const char *profile, const char *name, char *ret_value, size_t cap) {
    AUTO(auto_free) char *path = file_path(NULL, "AWS_CONFIG_FILE", "config");
    return path != NULL ? read_setting(path, profile_or_default(profile), name, ret_value, cap)
                        : ERR_NOT_FOUND;
}

static enum err find_in_files(const struct s3_credentials_options *o, struct s3_credentials *c) {
    const char *profile = profile_or_default(o->profile);
    char *paths[] = {
        file_path(o->credentials_file, "AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        o->credentials_file == NULL ? file_path(NULL, "AWS_CONFIG_FILE", "config") : NULL,
    };
    enum err e = ERR_NOT_FOUND;
    for (size_t i = 0; i < ARRAY_LEN(paths) && e == ERR_NOT_FOUND; i++) {
        if (paths[i] == NULL) {
            continue;
        }
        e = read_setting(paths[i], profile, "aws_access_key_id", c->access_key,
                         sizeof c->access_key);
        if (e == OK) {
            e = read_setting(paths[i], profile, "aws_secret_access_key", c->secret_key,
                             sizeof c->secret_key);
        }
        if (e == OK) {
            enum err token = read_setting(paths[i], profile, "aws_session_token", c->session_token,
                                          sizeof c->session_token);
            e = token == ERR_NOT_FOUND ? OK : token;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        free(paths[i]);
    }
    return e;
}

enum err s3_credentials_find(const struct s3_credentials_options *o,
                             struct s3_credentials *ret_credentials, struct failure *ret_failure) {
    struct s3_credentials c = {.is_anonymous = o->is_anonymous};
    const char *key = getenv("AWS_ACCESS_KEY_ID"), *secret = getenv("AWS_SECRET_ACCESS_KEY");
    enum err e = OK;
    if (o->is_anonymous) {
        *ret_credentials = c;
        return OK;
    }
    if (o->access_key != NULL && o->secret_key != NULL) {
        e = take(o->access_key, o->secret_key, o->session_token, &c);
    } else if (o->profile == NULL && o->credentials_file == NULL && key != NULL && secret != NULL &&
               key[0] != '\0') {
        e = take(key, secret, getenv("AWS_SESSION_TOKEN"), &c);
    } else {
        e = find_in_files(o, &c);
    }
    if (e == ERR_FULL) {
        e = failure_set(ret_failure, ERR_CONFIG, "find credentials", NULL, 0,
                        "a key or token is longer than any that makes sense");
    } else if (e != OK) {
        const char *profile = profile_or_default(o->profile);
        e = failure_set(ret_failure, ERR_UNAUTHENTICATED, "find credentials", profile,
                        strlen(profile),
                        "neither the configuration nor the environment nor the AWS files have "
                        "credentials for S3");
        failure_remedy(ret_failure, "set access_key and secret_key of the volume, or "
                                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the agent, "
                                    "or anonymous: true");
    }
    if (e == OK) {
        *ret_credentials = c;
    }
    s3_credentials_wipe(&c);
    return e;
}
