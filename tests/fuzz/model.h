/* model.h - muxes and ready arrays, and beside each what the fuzzer knows of it. */
#ifndef MODEL_H
#define MODEL_H

#include "fastmux.h"
#include "world.h"

enum { MUXES = 3,
       ARRAYS = 4,
       MOST_ROWS = 32 };

/* Whether something is so. */
typedef enum { NO,
               PERHAPS,
               YES } answer_t;

typedef struct {
    bool watched;
    uint32_t mask;
    uint32_t serial; /* the file that was under the number then */
    bool disarmed;   /* one-shot, and reported */
} entry_t;

typedef struct {
    fmux_t *mux; /* NULL: no such mux */
    int mechanism;
    bool freed; /* the handle is gone, and only arrays keep it */
    bool closed;
    int arrays;
    entry_t entries[NUMBERS];
    answer_t woken; /* a wake-up that no wait has answered */
    bool doubtful_wakes; /* it cannot be told any more whether there is one */
    bool haunted; /* the epoll set may hold what is out of reach */
} mux_t;

typedef struct {
    fmux_ready_t *ready; /* NULL: no such array */
    mux_t *mux;
    unsigned char *block; /* exactly as long as it has to be */
    unsigned char *memory; /* in it */
    int capacity;
    bool shared;
} array_t;

extern mux_t muxes[MUXES];
extern array_t arrays[ARRAYS];

static inline bool by_epoll(const mux_t *mux)
{
    return mux->mechanism == FMUX_EPOLL;
}

static inline bool is_bare(const mux_t *mux)
{
    return mux->mechanism == FMUX_BARE_EPOLL;
}

/* Events without bits that would change the machine itself (EPOLLWAKEUP). */
uint32_t input_mask(void);

/* ---- faults ------------------------------------------------------------------ */

/* Have something fail in the next call: as the input says. */
void arm_a_fault(void);

/* Around a call of the core. fault_error is what was made to fail in the last one,
 * or 0. */
extern int fault_error;
void begin_call(void);
int end_call(const char *name, int64_t argument, int result);
#define CALL(function, argument, ...) \
    (begin_call(),                    \
     end_call(#function, (argument), function(__VA_ARGS__)))

/* ---- what can be done with a mux, see mux.c ----------------------------------- */

mux_t *input_mux(void); /* one that can be called, or NULL */
void open_by(int mechanism);
void do_open(void);
void do_adopt(void);
void do_close(mux_t *mux);
void do_free(mux_t *mux);
void do_add(mux_t *mux);
void do_modify(mux_t *mux);
void do_remove(mux_t *mux);
void do_churn(mux_t *mux); /* many additions and removals */
void do_wakeup(mux_t *mux);
void do_fileno(mux_t *mux);
void do_settings(mux_t *mux);
void mux_forget(mux_t *mux); /* once neither handle nor array is left */

/* What a wait on it ought to report for a place now. *sure_out: and will, if there
 * is room. */
uint32_t expected_events(const mux_t *mux, unsigned place, bool *sure_out);

/* select: whether something is watched that was closed. */
bool has_dead_number(const mux_t *mux);

/* ---- and with arrays and lists, see waits.c and lists.c ------------------------ */

void open_array(mux_t *mux, int capacity, int bytes_less, unsigned offset,
                bool shared);
void do_array_open(void);
void do_array_free(void);
void do_array_flag(void);
void do_wait(void);
void do_stream(void);
void array_close(array_t *array);
void do_poll_once(void);
void do_select_once(void);
void do_sizes(void);

#endif
