// SPDX-License-Identifier: Apache-2.0
// credentials: keys to object stores that the cluster keeps.
#include "cli/client.h"
#include "cli/json_fields.h"
#include "cli/report.h"
#include "common/s3_credentials.h"
#include "sluice/v1/credential_service.pb-c.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

// protobuf-c has no const; nothing is written through this.
static char *borrowed(const char *text) {
    return (char *)(uintptr_t)text;
}

static int list(const struct invocation *inv, struct client *client) {
    struct failure f;
    AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
    Sluice__V1__ListCredentialsRequest request = SLUICE__V1__LIST_CREDENTIALS_REQUEST__INIT;
    if (client_call(client, "CredentialService/ListCredentials", &request.base,
                    &sluice__v1__list_credentials_response__descriptor, CALL_TIMEOUT_MS, &reply,
                    &f) != OK) {
        return report_failure(inv, &f);
    }
    const Sluice__V1__ListCredentialsResponse *all =
        (const Sluice__V1__ListCredentialsResponse *)reply;
    for (size_t i = 0; i < all->n_credentials; i++) {
        const Sluice__V1__CredentialInfo *c = all->credentials[i];
        time_t at = (time_t)(c->updated_ms / 1000);
        struct tm tm = {0};
        char text[32] = "";
        (void)gmtime_r(&at, &tm);
        (void)strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &tm);
        if (!inv->json) {
            printf("%s  stored %s\n", c->name, text);
            continue;
        }
        struct fields line = fields_begin();
        fields_text(&line, "name", c->name);
        fields_text_or_null(&line, "owner", c->owner);
        fields_time(&line, "updated", c->updated_ms);
        int code = report_json(inv, fields_end(&line));
        if (code != EXIT_DELIVERED) {
            return code;
        }
    }
    return EXIT_DELIVERED;
}

static int say_updated(const struct invocation *inv, const char *name, uint32_t agents,
                       uint32_t flows) {
    if (inv->json) {
        struct fields f = fields_begin();
        fields_text(&f, "name", name);
        fields_u64(&f, "agents", agents);
        fields_u64(&f, "flows_resumed", flows);
        return report_json(inv, fields_end(&f));
    }
    printf("%s: %u agents were told, %u flows go on\n", name, agents, flows);
    return EXIT_DELIVERED;
}

static int send_update(const struct invocation *inv, struct client *client, const char *name,
                       const struct s3_credentials *keys) {
    struct failure f;
    AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
    Sluice__V1__UpdateCredentialsRequest request = SLUICE__V1__UPDATE_CREDENTIALS_REQUEST__INIT;
    Sluice__V1__S3Keys m = SLUICE__V1__S3_KEYS__INIT;
    request.name = borrowed(name);
    if (keys != NULL) {
        m.access_key = borrowed(keys->access_key);
        m.secret_key = borrowed(keys->secret_key);
        m.session_token = borrowed(keys->session_token);
        request.keys = &m;
    }
    if (client_call(client, "CredentialService/UpdateCredentials", &request.base,
                    &sluice__v1__update_credentials_response__descriptor, CALL_TIMEOUT_MS, &reply,
                    &f) != OK) {
        return report_failure(inv, &f);
    }
    const Sluice__V1__UpdateCredentialsResponse *done =
        (const Sluice__V1__UpdateCredentialsResponse *)reply;
    return say_updated(inv, name, done->agents, done->flows_resumed);
}

static int update(const struct invocation *inv, struct client *client, const char *name) {
    struct failure f = {0};
    struct s3_credentials keys = {0};
    const struct s3_credentials_options o = {
        .profile = invocation_value(inv, "profile", 0),
        .credentials_file = invocation_value(inv, "file", 0),
    };
    if (invocation_has(inv, "look-again")) {
        return send_update(inv, client, name, NULL);
    }
    enum err e = s3_credentials_find(&o, &keys, &f);
    int code = e == OK ? send_update(inv, client, name, &keys) : report_failure(inv, &f);
    s3_credentials_wipe(&keys);
    return code;
}

static int take_back(const struct invocation *inv, struct client *client, const char *name) {
    struct failure f;
    AUTO(auto_free_reply) ProtobufCMessage *reply = NULL;
    Sluice__V1__RemoveCredentialsRequest request = SLUICE__V1__REMOVE_CREDENTIALS_REQUEST__INIT;
    request.name = borrowed(name);
    if (client_call(client, "CredentialService/RemoveCredentials", &request.base,
                    &sluice__v1__remove_credentials_response__descriptor, CALL_TIMEOUT_MS, &reply,
                    &f) != OK) {
        return report_failure(inv, &f);
    }
    const Sluice__V1__RemoveCredentialsResponse *done =
        (const Sluice__V1__RemoveCredentialsResponse *)reply;
    return say_updated(inv, name, done->agents, 0);
}

int run_credentials(const struct invocation *inv) {
    struct client client = {0};
    struct failure f;
    const char *what = inv->n_args > 0 ? inv->args[0] : "";
    bool is_update = strcmp(what, "update") == 0, is_removal = strcmp(what, "remove") == 0;
    if ((inv->n_args > 0 && !is_update && !is_removal) || inv->n_args == 1) {
        (void)failure_set(&f, ERR_INVALID, "use", what, strlen(what),
                          "this is neither update NAME nor remove NAME");
        failure_remedy(&f, "see `sluice credentials --help`");
        return report_failure(inv, &f);
    }
    int code = EXIT_FAILED;
    if (client_open(inv, &client, &f) != OK) {
        code = report_failure(inv, &f);
    } else if (inv->n_args == 0) {
        code = list(inv, &client);
    } else {
        code =
            is_update ? update(inv, &client, inv->args[1]) : take_back(inv, &client, inv->args[1]);
    }
    client_close(&client);
    return report_end(inv, code);
}
