// SPDX-License-Identifier: Apache-2.0
// Making tasks: their specs, and what the scheduler needs to know of them.
#include "master/planner_impl.h"

#include "common/log.h"
#include "common/s3_limits.h"

#include <stdlib.h>
#include <string.h>

enum { BACKOFF_FIRST_MS = 500, BACKOFF_MAX_MS = 30000, FULL_ATTEMPTS = 2 };

static const Sluice__V1__FlowSpec *flow_spec_of(const struct plan *pl) {
    return pl->flow->spec;
}

static uint32_t plan_retries(const struct plan *pl) {
    const Sluice__V1__FlowLimits *limits = flow_spec_of(pl)->limits;
    uint32_t usual = pl->planner->core->options->task_retries;
    return limits != NULL && limits->retries > 0 ? limits->retries : usual > 0 ? usual : 5;
}

void plan_count_retry(struct plan *pl, const struct failure *why, const char *agent) {
    flow_tries_again(pl->flow, why, agent);
    pl->body.n_retries++;
    if (pl->body.n_retries == pl->planner->core->options->retries_per_flow) {
        log_event(LOG_WARN, "retries_used_up", LOG_STR("flow", pl->id),
                  LOG_U64("retries", pl->body.n_retries));
    }
}

bool plan_copies_within_store(const struct plan *pl) {
    const struct place *source = &pl->flow->source, *sink = &pl->flow->sink;
    return place_is_store(source) && place_is_store(sink) &&
           strcmp(source->volume, sink->volume) == 0;
}

bool plan_may_share_blocks(const struct plan *pl) {
    const struct place *source = &pl->flow->source, *sink = &pl->flow->sink;
    return !place_is_store(source) && !place_is_store(sink) &&
           strcmp(source->site, sink->site) == 0;
}

// Into an object store, what is not held in memory travels in parts; so does what the store copies
// within itself and would take long. Out of one, what a single connection would take long for.
uint64_t plan_large_bytes(const struct plan *pl) {
    uint64_t usual = pl->planner->core->options->large_bytes;
    if (!place_is_store(&pl->flow->sink)) {
        bool is_read = place_is_store(&pl->flow->source);
        return is_read && usual > S3_READ_WHOLE_MAX_BYTES ? S3_READ_WHOLE_MAX_BYTES : usual;
    }
    if (plan_copies_within_store(pl)) {
        return S3_COPY_MAX_BYTES;
    }
    return usual < S3_WHOLE_MAX_BYTES ? usual : S3_WHOLE_MAX_BYTES;
}

uint64_t plan_part_bytes(const struct plan *pl, uint64_t object_bytes) {
    uint64_t usual = pl->planner->core->options->part_bytes;
    return place_is_store(&pl->flow->sink) ? s3_part_bytes(object_bytes, usual) : usual;
}

uint64_t plan_part_align(const struct plan *pl, uint64_t object_bytes) {
    return place_is_store(&pl->flow->sink) ? s3_chunk_bytes(object_bytes) : LEAF_BYTES;
}

bool plan_skips_identical(const struct plan *pl) {
    return flow_spec_of(pl)->sync;
}

static uint32_t retries_after(const struct plan *pl, enum err why) {
    const Sluice__V1__FlowLimits *limits = flow_spec_of(pl)->limits;
    bool asked_for = limits != NULL && limits->retries > 0;
    bool full = why == ERR_NO_SPACE || why == ERR_QUOTA;
    uint32_t all = plan_retries(pl);
    return full && !asked_for && all > FULL_ATTEMPTS ? FULL_ATTEMPTS : all;
}

bool plan_may_retry(const struct plan *pl, uint32_t attempts, enum err why) {
    uint32_t of_flow = pl->planner->core->options->retries_per_flow;
    return attempts < retries_after(pl, why) && (of_flow == 0 || pl->body.n_retries < of_flow);
}

int64_t planner_backoff_ms(struct planner *p, uint32_t attempt, enum err why) {
    int64_t ms = BACKOFF_FIRST_MS;
    for (uint32_t i = 1; i < attempt && ms < BACKOFF_MAX_MS; i++) {
        ms *= 2;
    }
    if (err_retry_class(why) == RETRY_LATER) {
        ms *= 4;
    }
    ms = ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
    p->chance = p->chance * 6364136223846793005ULL + 1442695040888963407ULL;
    int64_t quarter = ms / 4;
    return ms - quarter + (int64_t)((p->chance >> 33) % (uint64_t)(2 * quarter + 1));
}

void spec_init(const struct plan *pl, Sluice__V1__TaskKind kind, Sluice__V1__TaskSpec *ret_spec) {
    const Sluice__V1__FlowSpec *f = flow_spec_of(pl);
    sluice__v1__task_spec__init(ret_spec);
    ret_spec->flow_id = (char *)(uintptr_t)pl->id;
    ret_spec->kind = kind;
    ret_spec->durability = f->durability != SLUICE__V1__DURABILITY__DURABILITY_UNSPECIFIED
                               ? f->durability
                               : SLUICE__V1__DURABILITY__OBJECT;
    ret_spec->digest = f->digest != SLUICE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_UNSPECIFIED
                           ? f->digest
                           : SLUICE__V1__DIGEST_ALGORITHM__XXH3_128;
    ret_spec->transport = f->transport;
    ret_spec->streams = f->limits != NULL ? f->limits->streams : 0;
    ret_spec->if_none_match = f->if_none_match;
    if (kind == SLUICE__V1__TASK_KIND__BATCH || kind == SLUICE__V1__TASK_KIND__OPEN ||
        kind == SLUICE__V1__TASK_KIND__FINISH) {
        ret_spec->store = f->store;
    }
    ret_spec->part_bytes = pl->planner->core->options->part_bytes;
}

static void place_init(const struct place *p, Sluice__V1__Place *ret_place) {
    sluice__v1__place__init(ret_place);
    ret_place->volume = (char *)(uintptr_t)p->volume;
    ret_place->root.data = (uint8_t *)(uintptr_t)p->root;
    ret_place->root.len = p->root_len;
}

void spec_set_places(const struct plan *pl, Sluice__V1__TaskSpec *spec, struct spec_places *storage,
                     bool source, bool sink) {
    if (source) {
        place_init(&pl->flow->source, &storage->source);
        spec->source = &storage->source;
    }
    if (sink) {
        place_init(&pl->flow->sink, &storage->sink);
        spec->sink = &storage->sink;
    }
}

struct task_row task_row_new(const struct plan *pl, Sluice__V1__TaskKind kind) {
    struct task_row row = {.kind = (uint32_t)kind, .rank = RANK_USUAL, .attempt = 1};
    memcpy(row.flow, pl->id, sizeof row.flow);
    switch ((int)kind) {
    case SLUICE__V1__TASK_KIND__STAT:
    case SLUICE__V1__TASK_KIND__FINISH:
    case SLUICE__V1__TASK_KIND__SYNC:
    case SLUICE__V1__TASK_KIND__ABORT: row.rank = RANK_URGENT; break;
    case SLUICE__V1__TASK_KIND__PART: row.rank = RANK_PART; break;
    case SLUICE__V1__TASK_KIND__LINK: row.stage = STAGE_LINKS; break;
    case SLUICE__V1__TASK_KIND__CLEANUP:
        row.stage = STAGE_CLEANUP;
        row.rank = RANK_URGENT;
        break;
    case SLUICE__V1__TASK_KIND__DIRMETA: row.stage = STAGE_DIRECTORIES; break;
    default: break;
    }
    return row;
}

void work_put_task(struct work *w, struct task_row *row, Sluice__V1__TaskSpec *spec) {
    if (row->task_id == 0) {
        row->task_id = w->plan->planner->next_task++;
    }
    spec->task_id = row->task_id;
    size_t len = sluice__v1__task_spec__get_packed_size(spec);
    uint8_t *bytes = malloc(len + 1);
    if (bytes == NULL) {
        w->failed = true;
        return;
    }
    sluice__v1__task_spec__pack(spec, bytes);
    row->spec = (struct blob){bytes, len};
    change_task_put(w->change, row);
    row->spec = (struct blob){0};
    free(bytes);
    if (row->status == TASK_READY) {
        w->adds = true;
    }
}

enum err entry_table(const struct object_entry *e, struct blob *ret_table) {
    struct object_table_builder b;
    object_table_init(&b);
    const uint8_t *bytes;
    size_t len;
    enum err err = object_table_add(&b, e);
    if (err == OK) {
        err = object_table_bytes(&b, &bytes, &len);
    }
    if (err == OK) {
        err = blob_copy((struct blob){bytes, len}, ret_table);
    }
    object_table_deinit(&b);
    return err;
}

void work_add_task(struct work *w, struct task_row *row, struct blob table) {
    Sluice__V1__TaskKind kind = (Sluice__V1__TaskKind)row->kind;
    Sluice__V1__TaskSpec spec;
    struct spec_places places;
    spec_init(w->plan, kind, &spec);
    bool source = kind == SLUICE__V1__TASK_KIND__LIST || kind == SLUICE__V1__TASK_KIND__BATCH;
    spec_set_places(w->plan, &spec, &places, source, kind != SLUICE__V1__TASK_KIND__LIST);
    spec.objects.data = (uint8_t *)(uintptr_t)table.bytes;
    spec.objects.len = table.len;
    spec.generation = row->generation;
    if (kind == SLUICE__V1__TASK_KIND__LIST && place_is_store(&w->plan->flow->source)) {
        spec.part_bytes =
            place_is_store(&w->plan->flow->sink) ? UINT64_MAX : plan_large_bytes(w->plan);
    }
    spec.skip_identical = plan_skips_identical(w->plan) || row->attempt > 1 ||
                          (row->walk != 0 && row->generation > 0);
    work_put_task(w, row, &spec);
}

void scheduler_task_of(const struct planned_task *t, struct scheduler_task *ret_task) {
    const struct planner *p = t->plan->planner;
    const struct task_row *row = &t->row;
    struct scheduler_task s = {.task_id = row->task_id,
                               .rule = EXECUTOR_SINK,
                               .writes = true,
                               .cost_bytes = row->bytes,
                               .cost_objects = row->objects,
                               .attempt = row->attempt};
    memcpy(s.flow, row->flow, sizeof s.flow);
    memcpy(s.avoid, row->avoid, sizeof s.avoid);
    if (row->not_before_ms > 0) {
        int64_t in_ms = row->not_before_ms - planner_wall_ms(p);
        s.not_before_ms = in_ms > 0 ? planner_mono_ms(p) + in_ms : 0;
    }
    switch ((int)row->kind) {
    case SLUICE__V1__TASK_KIND__CLEANUP: s.disowns = true; break; // it was another before
    case SLUICE__V1__TASK_KIND__LIST:
        s.rule = EXECUTOR_SOURCE;
        s.writes = false;
        break;
    case SLUICE__V1__TASK_KIND__STAT:
        s.rule = t->spec->source != NULL ? EXECUTOR_SOURCE : EXECUTOR_SINK;
        s.writes = false;
        break;
    case SLUICE__V1__TASK_KIND__BATCH:
    case SLUICE__V1__TASK_KIND__PART:
        s.rule = EXECUTOR_MOVE;
        s.reads = !place_is_store(&t->plan->flow->source); // else the executor reads itself
        s.can_yield = true;
        break;
    case SLUICE__V1__TASK_KIND__SYNC:
        s.rule = EXECUTOR_AGENT;
        memcpy(s.agent, row->avoid, sizeof s.agent);
        s.avoid[0] = '\0';
        break;
    case SLUICE__V1__TASK_KIND__OPEN:
        if (t->spec->source != NULL) {
            s.rule = EXECUTOR_MOVE;
        }
        break;
    case SLUICE__V1__TASK_KIND__FINISH:
        s.exclusive = true;            // two would fight for the fresh inode
        if (t->spec->source != NULL) { // a store, which is asked for its digest
            s.rule = EXECUTOR_MOVE;
        }
        break;
    default: break;
    }
    *ret_task = s;
}
