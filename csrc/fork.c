/* fork.c - what a fork leaves to the child.
 *
 * Some facts about fork
 * =====================
 *
 * The child is a copy of the memory and of the table of descriptors, with one
 * thread in it: the one that has called fork. It follows that
 *
 * - a lock that another thread held is held for ever. So a fork waits for all locks
 *   of ours, and lets go of them on both sides;
 * - a wait of another thread is no wait any more, though our notes say that it is
 *   in progress. Closing would wait for it to end;
 * - the descriptors are new, but the open files behind them are the parent's. An epoll
 *   set in particular is the same set: what the child adds and removes is added
 *   and removed for both, and a wake-up of the child's wakes the parent.
 *
 * The last can be mended at the first use only, as most children use nothing of
 * it: they go on to another program, or do one job and end.
 *
 * Sources: fork(2), epoll(7), pthread_atfork(3).
 */
#include "internal.h"

/* Every mux of the process. This lock is taken before that of any mux. */
static pthread_mutex_t fmux__list_lock = PTHREAD_MUTEX_INITIALIZER;
static fmux_t *fmux__list; /* under the lock */

static void fmux__prepare(void)
{
    pthread_mutex_lock(&fmux__list_lock);
    for (fmux_t *mux = fmux__list; mux != NULL; mux = mux->next)
        pthread_mutex_lock(&mux->lock);
}

static void fmux__parent(void)
{
    for (fmux_t *mux = fmux__list; mux != NULL; mux = mux->next)
        pthread_mutex_unlock(&mux->lock);
    pthread_mutex_unlock(&fmux__list_lock);
}

static void fmux__child(void)
{
    for (fmux_t *mux = fmux__list; mux != NULL; mux = mux->next) {
        int state = atomic_load(&mux->state);
        for (fmux_ready_t *r = mux->all_ready; r != NULL; r = r->next)
            atomic_store(&r->inside, false);
        if (state == FMUX_RENEWING)
            atomic_store(&mux->state, FMUX_OPERATIONAL);
        if (state == FMUX_CLOSED && !mux->released) {
            mux->released = true; /* those who were to do it are not here */
            mux->mechanism->release(mux);
        } else if (state != FMUX_CLOSED && !mux->mechanism->bare) {
            mux->mechanism->forked(mux);
        }
        pthread_mutex_unlock(&mux->lock);
    }
    pthread_mutex_unlock(&fmux__list_lock);
}

static void fmux__begin(void)
{
    (void)pthread_atfork(fmux__prepare, fmux__parent, fmux__child);
}

void fmux_list_add(fmux_t *mux)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, fmux__begin);
    pthread_mutex_lock(&fmux__list_lock);
    mux->next = fmux__list;
    mux->link = &fmux__list;
    if (mux->next != NULL)
        mux->next->link = &mux->next;
    fmux__list = mux;
    pthread_mutex_unlock(&fmux__list_lock);
}

void fmux_list_remove(fmux_t *mux)
{
    pthread_mutex_lock(&fmux__list_lock);
    *mux->link = mux->next;
    if (mux->next != NULL)
        mux->next->link = mux->link;
    pthread_mutex_unlock(&fmux__list_lock);
}
