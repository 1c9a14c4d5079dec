// SPDX-License-Identifier: Apache-2.0
// The tables, as a list of steps from each version to the next, for both databases. A step that
// was released is never changed: append another one.
#include "common/cleanup.h"
#include "master/database_sql_impl.h"

#include <string.h>

static const char *const steps[] = {
    // 0 → 1
    "CREATE TABLE cluster (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL,"
    "  term INTEGER NOT NULL) STRICT;"
    "CREATE TABLE flow (id TEXT PRIMARY KEY, owner TEXT NOT NULL, request_id TEXT NOT NULL,"
    "  spec BLOB NOT NULL, created_ms INTEGER NOT NULL, state INTEGER NOT NULL,"
    "  phase INTEGER NOT NULL, outcome INTEGER NOT NULL, holders INTEGER NOT NULL,"
    "  cancel_wanted INTEGER NOT NULL, cleanup_pending INTEGER NOT NULL,"
    "  started_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL, last_seq INTEGER NOT NULL,"
    "  error BLOB NOT NULL, places BLOB NOT NULL, tally BLOB NOT NULL) STRICT;"
    "CREATE UNIQUE INDEX flow_request ON flow (owner, request_id) WHERE request_id <> '';"
    "CREATE INDEX flow_unfinished ON flow (id) WHERE state < 7;"
    "CREATE TABLE flow_label (flow TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,"
    "  PRIMARY KEY (flow, key, value)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE event (flow TEXT NOT NULL, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL,"
    "  kind TEXT NOT NULL, thin INTEGER NOT NULL, message BLOB NOT NULL,"
    "  PRIMARY KEY (flow, seq)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE object_failed (flow TEXT NOT NULL, number INTEGER NOT NULL,"
    "  walk INTEGER NOT NULL, generation INTEGER NOT NULL, path BLOB NOT NULL,"
    "  failure BLOB NOT NULL, PRIMARY KEY (flow, number)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, flow TEXT NOT NULL,"
    "  seq INTEGER NOT NULL, target TEXT NOT NULL, body BLOB NOT NULL,"
    "  attempts INTEGER NOT NULL, not_before_ms INTEGER NOT NULL) STRICT;"
    "CREATE TABLE plan (flow TEXT PRIMARY KEY, body BLOB NOT NULL, progress BLOB NOT NULL) STRICT;"
    "CREATE TABLE task_spec (task_id INTEGER PRIMARY KEY, spec BLOB NOT NULL) STRICT;"
    "CREATE TABLE task_state (task_id INTEGER PRIMARY KEY, flow TEXT NOT NULL,"
    "  kind INTEGER NOT NULL, stage INTEGER NOT NULL, rank INTEGER NOT NULL,"
    "  status INTEGER NOT NULL, attempt INTEGER NOT NULL, not_before_ms INTEGER NOT NULL,"
    "  avoid TEXT NOT NULL, object INTEGER NOT NULL, walk INTEGER NOT NULL,"
    "  generation INTEGER NOT NULL, bytes INTEGER NOT NULL, objects INTEGER NOT NULL) STRICT;"
    "CREATE INDEX task_order ON task_state (flow, status, stage, rank, task_id);"
    "CREATE INDEX task_object ON task_state (flow, object) WHERE object <> 0;"
    "CREATE INDEX task_walk ON task_state (flow, walk) WHERE walk <> 0;"
    "CREATE TABLE task_lease (task_id INTEGER NOT NULL, term INTEGER NOT NULL,"
    "  counter INTEGER NOT NULL, agent TEXT NOT NULL, flow TEXT NOT NULL,"
    "  PRIMARY KEY (task_id, term, counter)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX task_lease_flow ON task_lease (flow);"
    "CREATE TABLE walk (flow TEXT NOT NULL, id INTEGER NOT NULL, state INTEGER NOT NULL,"
    "  task INTEGER NOT NULL, depth INTEGER NOT NULL, attempt INTEGER NOT NULL,"
    "  partial INTEGER NOT NULL, generation INTEGER NOT NULL, objects INTEGER NOT NULL,"
    "  bytes INTEGER NOT NULL, objects_done INTEGER NOT NULL, bytes_done INTEGER NOT NULL,"
    "  failed INTEGER NOT NULL, skipped INTEGER NOT NULL, entry BLOB NOT NULL,"
    "  PRIMARY KEY (flow, id)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX walk_order ON walk (flow, state, depth, id);"
    "CREATE INDEX walk_partial ON walk (flow) WHERE partial = 1;"
    "CREATE TABLE large (flow TEXT NOT NULL, object INTEGER NOT NULL, state INTEGER NOT NULL,"
    "  size INTEGER NOT NULL, acked_bytes INTEGER NOT NULL, next_offset INTEGER NOT NULL,"
    "  generation INTEGER NOT NULL, attempt INTEGER NOT NULL, fresh INTEGER NOT NULL,"
    "  opened INTEGER NOT NULL, quiet_ms INTEGER NOT NULL, entry BLOB NOT NULL,"
    "  receipt BLOB NOT NULL, PRIMARY KEY (flow, object)) STRICT;"
    "CREATE TABLE seen (flow TEXT NOT NULL, walk INTEGER NOT NULL, digest BLOB NOT NULL,"
    "  PRIMARY KEY (flow, walk, digest)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE ack (flow TEXT NOT NULL, object INTEGER NOT NULL, \"offset\" INTEGER NOT NULL,"
    "  length INTEGER NOT NULL, synced INTEGER NOT NULL, agent TEXT NOT NULL,"
    "  boot_id TEXT NOT NULL, leaves BLOB NOT NULL, receipt BLOB NOT NULL,"
    "  PRIMARY KEY (flow, object, \"offset\")) STRICT, WITHOUT ROWID;",
    // 1 → 2
    "ALTER TABLE outbox ADD COLUMN thin INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE outbox ADD COLUMN dead_ms INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE outbox ADD COLUMN error TEXT NOT NULL DEFAULT '';"
    "CREATE INDEX outbox_due ON outbox (dead_ms, not_before_ms, id);"
    "CREATE INDEX outbox_flow ON outbox (flow, dead_ms, id);",
    // 2 → 3
    "CREATE TABLE credential (name TEXT PRIMARY KEY, updated_ms INTEGER NOT NULL,"
    "  sealed BLOB NOT NULL) STRICT;",
    // 3 → 4: a number that each transaction raises, so that a commit whose answer was lost is known
    "ALTER TABLE cluster ADD COLUMN written INTEGER NOT NULL DEFAULT 0;",
    // 4 → 5: events that were not stored had numbers, too, and watchers know them: go on behind
    // those
    "UPDATE flow SET last_seq = last_seq + 10000 WHERE state < 7;",
};

int sql_schema_version(void) {
    return (int)ARRAY_LEN(steps);
}

const char *sql_schema_step(int from) {
    return steps[from];
}

enum err sql_schema_refuse_foreign(const char *name, struct failure *ret_failure) {
    enum err e = failure_set(ret_failure, ERR_DATABASE, "open", name, strlen(name),
                             "this is not a database of Sluice");
    failure_remedy(ret_failure, "name another database, or move away what is there");
    return e;
}

enum err sql_schema_refuse_newer(const char *name, int version, struct failure *ret_failure) {
    enum err e = failure_set(ret_failure, ERR_DATABASE, "open", name, strlen(name),
                             "this database was made by a newer version of Sluice (schema %d, this"
                             " program knows %d)",
                             version, sql_schema_version());
    failure_remedy(ret_failure, "run that version, or restore a backup made before the upgrade");
    return e;
}
