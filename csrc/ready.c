/* ready.c - ready arrays, and the counters of their waits. */
#include "internal.h"

#include <stdlib.h>

/* Add the counters of a ready array. */
static void fmux__add_waits(fmux_stats_t *stats, fmux_ready_t *ready)
{
    fmux_counts_t *counts = &ready->counts;
    stats->waits += atomic_load(&counts->waits);
    stats->events += atomic_load(&counts->events);
    stats->stale_events += atomic_load(&counts->stale_events);
    stats->wakeups += atomic_load(&counts->wakeups);
    stats->interruptions += atomic_load(&counts->interruptions);
}

int fmux_stats(fmux_t *mux, fmux_stats_t *stats_out)
{
    pthread_mutex_lock(&mux->lock);
    *stats_out = mux->stats;
    for (fmux_ready_t *r = mux->all_ready; r != NULL; r = r->next)
        fmux__add_waits(stats_out, r);
    pthread_mutex_unlock(&mux->lock);
    return 0;
}

/* A row has three columns, and 16 bytes for the kernel's record: the largest size
 * of an epoll_event on any architecture. The records begin where the tags do, because
 * the tag of a row is written after its record was read. Another 16 bytes align the
 * records. */
enum {
    FMUX_ROW_BYTES = 2 * 4 + 16,
    FMUX_CAPACITY_MAX = INT32_MAX / FMUX_ROW_BYTES - 2
};

int fmux_ready_bytes(int capacity)
{
    if (capacity < 1 || capacity > FMUX_CAPACITY_MAX)
        return -EINVAL;
    return capacity * FMUX_ROW_BYTES + 16;
}

int fmux_ready_open(fmux_t *mux, void *memory, int bytes, int capacity,
                    int shared, fmux_ready_t **ready_out)
{
    int needed = fmux_ready_bytes(capacity);
    if (needed < 0 || bytes < needed || memory == NULL ||
        (uintptr_t)memory % 4 != 0)
        return -EINVAL;
    fmux_ready_t *ready = calloc(1, sizeof *ready);
    if (ready == NULL)
        return -ENOMEM;
    ready->mux = mux;
    ready->capacity = capacity;
    ready->shared = shared != 0;
    ready->owner = pthread_self();
    ready->fds = memory;
    ready->events = (uint32_t *)(ready->fds + capacity);
    ready->tags = (int32_t *)(ready->events + capacity);
    uintptr_t records = (uintptr_t)ready->tags;
    ready->records = (void *)((records + 15) & ~(uintptr_t)15);
    ready->wake.read.fd = ready->wake.write.fd = -1;

    int result = fmux_lock(mux);
    if (result < 0) {
        free(ready);
        return result;
    }
    mux->handles++;
    ready->next = mux->all_ready;
    mux->all_ready = ready;
    pthread_mutex_unlock(&mux->lock);
    *ready_out = ready;
    return 0;
}

void fmux_ready_release(fmux_ready_t *ready)
{
    atomic_store_explicit(&ready->held, false, memory_order_release);
}

fmux_rows_t fmux_ready_rows(const fmux_ready_t *ready)
{
    return (fmux_rows_t){
        ready->fds,
        ready->events,
        ready->tags,
        ready->capacity,
        ready->context,
        atomic_load_explicit(&ready->counts.wakeups, memory_order_relaxed),
    };
}

void fmux_ready_set_context(fmux_ready_t *ready, const void *context)
{
    ready->context = context;
}

void fmux_ready_free(fmux_ready_t *ready)
{
    fmux_t *mux = ready->mux;
    pthread_mutex_lock(&mux->lock);
    fmux_ready_t **link = &mux->all_ready;
    while (*link != ready)
        link = &(*link)->next;
    *link = ready->next;
    fmux__add_waits(&mux->stats, ready);
    fmux_pipe_close(&ready->wake);
    free(ready->copy);
    free(ready->copy_generations);
    free(ready->bits);
    free(ready);
    fmux_drop_handle(mux);
}
