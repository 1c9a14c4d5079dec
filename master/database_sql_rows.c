// SPDX-License-Identifier: Apache-2.0
// What each kind of row change does, in words that SQLite and PostgreSQL both understand. The
// parameters are the row's texts, numbers and blobs, in this order (database_change.c).
#include "master/database_sql.h"

// The kinds of tasks, as in proto/sluice/v1/task.proto: LIST 1, BATCH 3, ABORT 7, LINK 8,
// CLEANUP 12.
#define LEAVES_TEMPORARIES                                                                         \
    "(task_state.kind IN (7, 12) OR (task_state.kind IN (3, 8) AND EXISTS (SELECT 1 FROM "         \
    "task_lease l"                                                                                 \
    " WHERE l.task_id = task_state.task_id)))"
#define TASKS_WITHOUT_STATE(flow)                                                                  \
    "DELETE FROM task_lease WHERE flow = " flow                                                    \
    " AND NOT EXISTS (SELECT 1 FROM task_state t WHERE t.task_id = task_lease.task_id)"
// The flow's oldest may be sent, if it was not its turn yet.
#define NEXT_OF_OUTBOX                                                                             \
    "UPDATE outbox SET not_before_ms = 0 WHERE id = (SELECT min(id) FROM outbox WHERE flow = ?1"   \
    " AND dead_ms = 0) AND not_before_ms = " SQL_OUTBOX_NOT_ITS_TURN
// What an insertion brings, where there is a row already.
#define NEW(column) #column " = excluded." #column
#define TASK_COLUMNS                                                                               \
    "(flow, avoid, task_id, kind, stage, rank, status, attempt, not_before_ms, object, walk,"      \
    " generation, bytes, objects)"
#define WALK_COLUMNS                                                                               \
    "(flow, id, state, task, depth, attempt, partial, generation, objects, bytes, objects_done,"   \
    " bytes_done, failed, skipped, entry)"

static const char *const statements[ROW_KIND_COUNT][ROW_STATEMENTS] = {
    [ROW_FLOW] = {"UPDATE flow SET state = ?2, phase = ?3, outcome = ?4, holders = ?5,"
                  " cancel_wanted = ?6, cleanup_pending = ?7, started_ms = ?8, ended_ms = ?9,"
                  " last_seq = ?10, error = ?11, places = ?12, tally = ?13 WHERE id = ?1"},
    [ROW_EVENT] = {"INSERT INTO event (flow, kind, seq, at_ms, thin, message)"
                   " VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
                   " ON CONFLICT (flow, seq) DO UPDATE SET " NEW(kind) ", " NEW(at_ms) ", " NEW(
                       thin) ", " NEW(message)},
    // Every other one goes when there are many; the newest stays.
    [ROW_EVENT_THIN] =
        {"WITH numbered AS MATERIALIZED (SELECT seq, row_number() OVER (ORDER BY seq) AS n,"
         " count(*) OVER () AS n_all FROM event WHERE flow = ?1 AND thin = 1)"
         " DELETE FROM event WHERE flow = ?1 AND thin = 1 AND seq IN"
         " (SELECT seq FROM numbered WHERE n_all > ?2 AND (n_all - n) % 2 = 1)"},
    [ROW_OUTBOX_ADD] =
        {"DELETE FROM outbox WHERE flow = ?1 AND dead_ms = 0 AND thin = 1",
         "INSERT INTO outbox (flow, target, seq, thin, body, attempts, not_before_ms)"
         " SELECT ?1, ?2, ?3, ?4, ?5, 0, CASE WHEN EXISTS (SELECT 1 FROM outbox WHERE flow = ?1"
         " AND dead_ms = 0) THEN " SQL_OUTBOX_NOT_ITS_TURN " ELSE 0 END"},
    [ROW_OUTBOX_DONE] = {"DELETE FROM outbox WHERE id = ?2", NEXT_OF_OUTBOX},
    [ROW_OUTBOX_LATER] = {"UPDATE outbox SET attempts = attempts + 1, not_before_ms = ?2"
                          " WHERE id = ?1 AND dead_ms = 0"},
    [ROW_OUTBOX_DEAD] = {"UPDATE outbox SET attempts = attempts + 1, error = ?2, dead_ms = ?4"
                         " WHERE id = ?3",
                         NEXT_OF_OUTBOX,
                         "DELETE FROM outbox WHERE dead_ms > 0 AND id NOT IN (SELECT id FROM outbox"
                         " WHERE dead_ms > 0 ORDER BY dead_ms DESC, id DESC LIMIT ?5)"},
    [ROW_OUTBOX_REVIVE] = {"UPDATE outbox SET attempts = 0, error = '', dead_ms = 0,"
                           " not_before_ms = 0 WHERE dead_ms > 0 AND flow = ?1 AND seq = ?2"},
    [ROW_PLAN] = {"INSERT INTO plan (flow, body, progress) VALUES (?1, ?2, ?3)"
                  " ON CONFLICT (flow) DO UPDATE SET " NEW(body) ", " NEW(progress)},
    // NOLINTNEXTLINE(bugprone-suspicious-missing-comma): the first statement is a long one
    [ROW_PLAN_END] = {"DELETE FROM task_spec WHERE task_id IN"
                      " (SELECT task_id FROM task_state WHERE flow = ?1)",
                      "DELETE FROM task_state WHERE flow = ?1",
                      "DELETE FROM task_lease WHERE flow = ?1", "DELETE FROM walk WHERE flow = ?1",
                      "DELETE FROM large WHERE flow = ?1", "DELETE FROM ack WHERE flow = ?1",
                      "DELETE FROM seen WHERE flow = ?1"},
    [ROW_PLAN_ABANDON] = {"DELETE FROM task_spec WHERE task_id IN (SELECT task_id FROM task_state"
                          " WHERE flow = ?1 AND NOT " LEAVES_TEMPORARIES ")",
                          "DELETE FROM task_state WHERE flow = ?1 AND NOT " LEAVES_TEMPORARIES,
                          "UPDATE task_state SET kind = CASE WHEN kind = 7 THEN 7 ELSE 12 END, "
                          "stage = 2, rank = 0, status = 0,"
                          " attempt = 1, not_before_ms = 0, avoid = '' WHERE flow = ?1",
                          TASKS_WITHOUT_STATE("?1"), "DELETE FROM walk WHERE flow = ?1",
                          "DELETE FROM large WHERE flow = ?1 AND opened = 0",
                          "DELETE FROM ack WHERE flow = ?1"},
    [ROW_PLAN_RESTART] = {"DELETE FROM task_spec WHERE task_id IN"
                          " (SELECT task_id FROM task_state WHERE flow = ?1 AND kind = 1)",
                          "DELETE FROM task_state WHERE flow = ?1 AND kind = 1",
                          "UPDATE walk SET state = 0, task = 0 WHERE flow = ?1 AND state = 1",
                          "UPDATE task_state SET status = 0 WHERE flow = ?1 AND status = 2",
                          "UPDATE task_state SET rank = 0 WHERE flow = ?1 AND status = 0 AND EXISTS"
                          " (SELECT 1 FROM task_lease l WHERE l.task_id = task_state.task_id)",
                          TASKS_WITHOUT_STATE("?1")},
    [ROW_TASK_PUT] =
        {"INSERT INTO task_state " TASK_COLUMNS
         " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
         " ON CONFLICT (task_id) DO UPDATE SET " NEW(flow) ", " NEW(avoid) ", " NEW(kind) ", " NEW(stage) ", " NEW(rank) ", " NEW(status) ", " NEW(
             attempt) ", " NEW(not_before_ms) ", " NEW(object) ", " NEW(walk) ", " NEW(generation) ", " NEW(bytes) ", " NEW(objects),
         "INSERT INTO task_spec (task_id, spec) VALUES (?3, ?15)"
         " ON CONFLICT (task_id) DO UPDATE SET " NEW(spec)},
    [ROW_TASK_STATE] = {"UPDATE task_state SET avoid = ?2, kind = ?4, stage = ?5, rank = ?6,"
                        " status = ?7, attempt = ?8, not_before_ms = ?9, object = ?10, walk = ?11,"
                        " generation = ?12, bytes = ?13, objects = ?14"
                        " WHERE task_id = ?3 AND flow = ?1"},
    [ROW_TASK_REMOVE] = {"DELETE FROM task_spec WHERE task_id = ?1",
                         "DELETE FROM task_state WHERE task_id = ?1",
                         "DELETE FROM task_lease WHERE task_id = ?1"},
    [ROW_TASKS_OF_OBJECT_REMOVE] =
        {"DELETE FROM task_spec WHERE task_id IN"
         " (SELECT task_id FROM task_state WHERE flow = ?1 AND object = ?2 AND object <> 0)",
         "DELETE FROM task_lease WHERE task_id IN"
         " (SELECT task_id FROM task_state WHERE flow = ?1 AND object = ?2 AND object <> 0)",
         "DELETE FROM task_state WHERE flow = ?1 AND object = ?2 AND object <> 0"},
    [ROW_TASKS_DROP] =
        {"DELETE FROM task_spec WHERE task_id IN (SELECT task_id FROM task_state WHERE flow = ?1"
         " AND walk = ?2 AND walk <> 0 AND generation < ?3 AND object = 0 AND NOT EXISTS"
         " (SELECT 1 FROM task_lease l WHERE l.task_id = task_state.task_id))",
         "DELETE FROM task_state WHERE flow = ?1 AND walk = ?2 AND walk <> 0 AND generation < ?3"
         " AND object = 0 AND NOT EXISTS"
         " (SELECT 1 FROM task_lease l WHERE l.task_id = task_state.task_id)",
         "UPDATE task_state SET walk = -1 WHERE flow = ?1 AND walk = ?2 AND walk <> 0"
         " AND generation < ?3 AND object = 0"},
    // Only for tasks that exist: the lease may be stored after the task's result.
    [ROW_LEASE_ADD] = {"INSERT INTO task_lease (flow, agent, task_id, term, counter)"
                       " SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS"
                       " (SELECT 1 FROM task_state WHERE task_id = ?3)"
                       " ON CONFLICT (task_id, term, counter) DO UPDATE SET " NEW(flow) ", " NEW(
                           agent)},
    [ROW_LEASE_REMOVE] = {"DELETE FROM task_lease WHERE task_id = ?1 AND term = ?2"
                          " AND counter = ?3"},
    [ROW_WALK_PUT] = {"INSERT INTO walk " WALK_COLUMNS
                      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
                      " ON CONFLICT (flow, id) DO UPDATE SET " NEW(state) ", " NEW(task) ", " NEW(depth) ", " NEW(attempt) ", " NEW(partial) ", " NEW(generation) ", " NEW(
                          objects) ", " NEW(bytes) ", " NEW(objects_done) ", " NEW(bytes_done) ","
                                                                                               " " NEW(failed) ", " NEW(
                                                                                                   skipped) ", " NEW(entry)},
    [ROW_WALK_STATE] = {"UPDATE walk SET state = ?3, task = ?4, depth = ?5, attempt = ?6,"
                        " partial = ?7, generation = ?8, objects = ?9, bytes = ?10,"
                        " objects_done = ?11, bytes_done = ?12, failed = ?13, skipped = ?14"
                        " WHERE flow = ?1 AND id = ?2"},
    [ROW_WALK_REMOVE] = {"DELETE FROM walk WHERE flow = ?1 AND id = ?2"},
    [ROW_LARGE_PUT] =
        {"INSERT INTO large (flow, object, state, size, acked_bytes, next_offset,"
         " generation, attempt, fresh, opened, quiet_ms, entry, receipt)"
         " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
         " ON CONFLICT (flow, object) DO UPDATE SET " NEW(state) ", " NEW(size) ", " NEW(acked_bytes) ", " NEW(next_offset) ", " NEW(
             generation) ", " NEW(attempt) ", " NEW(fresh) ", " NEW(opened) ", " NEW(quiet_ms) ","
                                                                                               " " NEW(entry) ", " NEW(
                                                                                                   receipt)},
    [ROW_LARGE_FRESH] = {"UPDATE large SET fresh = 1 WHERE flow = ?1 AND object = ?2"},
    [ROW_LARGE_REMOVE] = {"DELETE FROM ack WHERE flow = ?1 AND object = ?2",
                          "DELETE FROM large WHERE flow = ?1 AND object = ?2"},
    [ROW_ACK_ADD] =
        {"INSERT INTO ack (flow, agent, boot_id, object, \"offset\", length,"
         " synced, leaves, receipt) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
         " ON CONFLICT (flow, object, \"offset\") DO UPDATE SET " NEW(agent) ", " NEW(
             boot_id) ", " NEW(length) ", " NEW(synced) ", " NEW(leaves) ", " NEW(receipt)},
    [ROW_ACKS_DROP_UNSYNCED] = {"DELETE FROM ack WHERE flow = ?1 AND agent = ?2 AND object = ?3"
                                " AND synced = 0"},
    [ROW_ACKS_DROP] = {"DELETE FROM ack WHERE flow = ?1 AND object = ?2"},
    [ROW_ACKS_SYNCED] = {"UPDATE ack SET synced = 1 WHERE flow = ?1 AND agent = ?2"
                         " AND boot_id = ?3 AND object = ?4"},
    [ROW_SEEN_ADD] = {"INSERT INTO seen (flow, walk, digest) VALUES (?1, ?2, ?3)"
                      " ON CONFLICT DO NOTHING"},
    [ROW_SEEN_DROP] = {"DELETE FROM seen WHERE flow = ?1 AND walk = ?2"},
    [ROW_OBJECT_FAILED] = {"INSERT INTO object_failed (flow, number, walk, generation,"
                           " path, failure) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
                           " ON CONFLICT (flow, number) DO UPDATE SET " NEW(walk) ", " NEW(
                               generation) ", " NEW(path) ", " NEW(failure)},
    [ROW_FAILED_DROP] = {"DELETE FROM object_failed WHERE flow = ?1 AND walk = ?2 AND walk <> 0"
                         " AND generation < ?3"},
    [ROW_CREDENTIAL_PUT] = {"INSERT INTO credential (name, updated_ms, sealed)"
                            " VALUES (?1, ?2, ?3) ON CONFLICT (name)"
                            " DO UPDATE SET " NEW(updated_ms) ", " NEW(sealed)},
    [ROW_CREDENTIAL_REMOVE] = {"DELETE FROM credential WHERE name = ?1"},
};

const char *const *sql_row_statements(enum row_kind kind) {
    return statements[kind];
}
