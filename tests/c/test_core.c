/* test_core.c - life and death of a mux, what each function returns, and how
 * a ready array is used. */
#include "harness.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- life and death ---------------------------------------------------- */

static void a_mux_can_be_closed_twice(int mechanism)
{
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(0, fmux_close(mux));
    CHECK_EQ(0, fmux_close(mux));
    fmux_free(mux);
}

static void a_mux_can_be_freed_without_being_closed(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    fmux_free(mux);
    pipe_close(ends);
}

static void an_unknown_mechanism_is_refused(int mechanism)
{
    fmux_t *mux = NULL;
    (void)mechanism;
    CHECK_EQ(-EINVAL, fmux_open(-1, &mux));
    CHECK_EQ(-EINVAL, fmux_open(4, &mux));
    for (int m = FMUX_EPOLL; m <= FMUX_SELECT; m++)
        if ((fmux_mechanisms() >> m & 1) == 0)
            CHECK_EQ(-EINVAL, fmux_open(m, &mux));
    CHECK(mux == NULL);
}

static void poll_and_select_are_always_there(int mechanism)
{
    (void)mechanism;
    CHECK_EQ(ON_COPIES, fmux_mechanisms() & ON_COPIES);
    CHECK_EQ(0, fmux_mechanisms() & ~ON_ALL);
}

static void every_function_of_a_closed_mux_says_so(int mechanism)
{
    int ends[2];
    static unsigned char memory[256];
    fmux_ready_t *another;
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t mine = array_open(mux, 2, PRIVATE);
    array_t ours = array_open(mux, 2, SHARED);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    fmux_close(mux);

    CHECK_EQ(-ESHUTDOWN, fmux_fileno(mux));
    CHECK_EQ(-ESHUTDOWN, fmux_add(mux, ends[1], EPOLLOUT));
    CHECK_EQ(-ESHUTDOWN, fmux_modify(mux, ends[0], EPOLLOUT));
    CHECK_EQ(-ESHUTDOWN, fmux_remove(mux, ends[0]));
    CHECK_EQ(-ESHUTDOWN, fmux_wakeup(mux));
    CHECK_EQ(-ESHUTDOWN, fmux_ready_open(mux, memory, sizeof memory, 1, SHARED,
                                         &another));
    CHECK_EQ(-ESHUTDOWN, fmux_wait(mine.ready, 0, 1));
    CHECK_EQ(-ESHUTDOWN, fmux_wait_now(mine.ready));
    CHECK_EQ(-ESHUTDOWN, fmux_wait_forever(mine.ready));
    CHECK_EQ(-ESHUTDOWN, fmux_wait(ours.ready, SECOND, 2));
    CHECK_EQ(-ESHUTDOWN, fmux_wait_now(ours.ready));
    CHECK_EQ(-ESHUTDOWN, fmux_wait_forever(ours.ready));

    array_close(&mine);
    array_close(&ours);
    fmux_free(mux);
    pipe_close(ends);
}

static void closing_releases_the_descriptors(int mechanism)
{
    int before = open_descriptors();
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 2, PRIVATE);
    CHECK_EQ(0, fmux_wakeup(mux));
    CHECK_EQ(0, fmux_wait_now(array.ready));
    CHECK(open_descriptors() > before);
    fmux_close(mux);
    CHECK_EQ(before, open_descriptors());
    array_close(&array);
    fmux_free(mux);
}

static void ready_arrays_may_outlive_the_free_of_their_mux(int mechanism)
{
    fmux_t *mux = mux_open(mechanism);
    array_t first = array_open(mux, 2, PRIVATE);
    array_t second = array_open(mux, 2, SHARED);
    CHECK_EQ(0, fmux_wait_now(first.ready));
    fmux_free(mux);
    CHECK_EQ(-ESHUTDOWN, fmux_wait_forever(first.ready));
    array_close(&first);
    CHECK_EQ(-ESHUTDOWN, fmux_wait_forever(second.ready));
    array_close(&second);
}

static void all_descriptors_of_a_mux_are_close_on_exec(int mechanism)
{
    enum { LOOK_AT = 64 };
    bool open_before[LOOK_AT];
    int new_ones = 0;
    for (int fd = 0; fd < LOOK_AT; fd++)
        open_before[fd] = fcntl(fd, F_GETFD) >= 0;
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 2, PRIVATE);
    CHECK_EQ(0, fmux_wait(array.ready, 1, 2)); /* may sleep */
    for (int fd = 0; fd < LOOK_AT; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (open_before[fd] || flags < 0)
            continue;
        CHECK((flags & FD_CLOEXEC) != 0);
        new_ones++;
    }
    CHECK_EQ(mechanism == FMUX_EPOLL ? 2 : 1, new_ones);
    array_close(&array);
    fmux_free(mux);
}

static void without_descriptors_poll_says_EMFILE_and_epoll_gets_by(int mechanism)
{
    int ends[2];
    fmux_t *none = NULL;
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 2, PRIVATE);
    use_up_descriptors();
    if (mechanism == FMUX_EPOLL) {
        CHECK_EQ(-EMFILE, fmux_open(mechanism, &none));
        CHECK(none == NULL);
        /* It gets by without a wake-up descriptor, in short sleeps. */
        CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
        CHECK_EQ(0, fmux_wait_now(array.ready));
        CHECK_EQ(-EAGAIN, fmux_wait_try(array.ready));
        CHECK_EQ(0, fmux_wait(array.ready, MILLISECOND, 1));
        CHECK_EQ(-EINTR, fmux_wait(array.ready, SECOND, 1));
        CHECK_EQ(-EINTR, fmux_wait_forever(array.ready));
        CHECK_EQ(0, fmux_wakeup(mux));
        CHECK_EQ(0, fmux_wait_forever(array.ready));
        put(ends[1]);
        CHECK_EQ(1, fmux_wait_forever(array.ready));
        CHECK_EQ(0, fmux_remove(mux, ends[0]));
        CHECK_EQ(0, fmux_wakeup(mux)); /* not answered before there is one */
    } else {
        CHECK_EQ(-EMFILE, fmux_wait_now(array.ready));
        CHECK_EQ(-EMFILE, fmux_wait(array.ready, SECOND, 1));
        CHECK_EQ(0, fmux_wakeup(mux));
    }
    allow_descriptors();

    /* And no harm is done. */
    CHECK_EQ(0, fmux_wait_forever(array.ready));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void a_mux_in_use_needs_no_more_descriptors(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 2, PRIVATE);
    CHECK_EQ(0, fmux_wait(array.ready, 1, 2)); /* may sleep */
    use_up_descriptors();
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(0, fmux_wakeup(mux));
    CHECK_EQ(0, fmux_wait_forever(array.ready));
    allow_descriptors();
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void only_epoll_has_a_descriptor_of_its_own(int mechanism)
{
    fmux_t *mux = mux_open(mechanism);
    if (mechanism == FMUX_EPOLL)
        CHECK(fcntl(fmux_fileno(mux), F_GETFD) >= 0);
    else
        CHECK_EQ(-EOPNOTSUPP, fmux_fileno(mux));
    fmux_free(mux);
}

/* ---- what add, modify and remove return -------------------------------- */

static void adding_twice_says_EEXIST(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(-EEXIST, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(0, fmux_remove(mux, ends[0]));
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    fmux_free(mux);
    pipe_close(ends);
}

static void what_is_not_watched_is_ENOENT(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    const int numbers[] = {ends[0], ends[1], -1, INT_MIN, INT_MAX, 100000};
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(0, fmux_remove(mux, ends[0]));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        CHECK_EQ(-ENOENT, fmux_modify(mux, numbers[i], EPOLLIN));
        CHECK_EQ(-ENOENT, fmux_remove(mux, numbers[i]));
    }
    fmux_free(mux);
    pipe_close(ends);
}

static void adding_what_is_not_open_says_EBADF(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(0, fmux_add(mux, ends[1], EPOLLOUT));
    CHECK_EQ(0, fmux_remove(mux, ends[1]));
    pipe_close(ends);
    CHECK_EQ(-EBADF, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(-EBADF, fmux_add(mux, 100000, EPOLLIN));
    CHECK_EQ(-EBADF, fmux_add(mux, -1, EPOLLIN));
    CHECK_EQ(-EBADF, fmux_add(mux, INT_MIN, EPOLLIN));
    CHECK_EQ(-ENOENT, fmux_remove(mux, ends[0])); /* nothing was left behind */
    fmux_free(mux);
}

/* What the first add opens for itself may get the very number. */
static void first_adding_what_is_not_open_says_EBADF(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    pipe_close(ends);
    CHECK_EQ(-EBADF, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(-ENOENT, fmux_remove(mux, ends[0]));
    fmux_free(mux);
}

static void adding_an_enormous_number_says_EBADF(int mechanism)
{
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(-EBADF, fmux_add(mux, INT_MAX, EPOLLIN));
    fmux_free(mux);
}

static void epoll_refuses_a_regular_file_and_a_directory(int mechanism)
{
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int directory = open("/", O_RDONLY | O_CLOEXEC);
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(-EPERM, fmux_add(mux, file, EPOLLIN));
    CHECK_EQ(-EPERM, fmux_add(mux, directory, EPOLLIN));
    CHECK_EQ(-ENOENT, fmux_remove(mux, file));
    fmux_free(mux);
    close(file);
    close(directory);
}

static void an_epoll_set_cannot_watch_itself(int mechanism)
{
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(-EINVAL, fmux_add(mux, fmux_fileno(mux), EPOLLIN));
    fmux_free(mux);
}

static void epoll_sets_cannot_watch_each_other(int mechanism)
{
    fmux_t *first = mux_open(mechanism);
    fmux_t *second = mux_open(mechanism);
    CHECK_EQ(0, fmux_add(first, fmux_fileno(second), EPOLLIN));
    CHECK_EQ(-ELOOP, fmux_add(second, fmux_fileno(first), EPOLLIN));
    fmux_free(first);
    fmux_free(second);
}

static void an_impossible_mask_says_EINVAL(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(-EINVAL, fmux_add(mux, ends[0],
                               EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT));
    CHECK_EQ(-ENOENT, fmux_modify(mux, ends[0], EPOLLIN));
    fmux_free(mux);
    pipe_close(ends);
}

static void removing_what_was_closed_is_no_error(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    pipe_close(ends);
    CHECK_EQ(0, fmux_remove(mux, ends[0]));
    CHECK_EQ(-ENOENT, fmux_remove(mux, ends[0]));
    fmux_free(mux);
}

static void modifying_what_was_closed_says_EBADF_and_forgets_it(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    pipe_close(ends);
    CHECK_EQ(-EBADF, fmux_modify(mux, ends[0], EPOLLIN | EPOLLPRI));
    CHECK_EQ(-ENOENT, fmux_modify(mux, ends[0], EPOLLIN));
    CHECK_EQ(-ENOENT, fmux_remove(mux, ends[0]));
    fmux_free(mux);
}

static void modifying_to_the_same_mask_is_no_system_call(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    pipe_close(ends);
    CHECK_EQ(0, fmux_modify(mux, ends[0], EPOLLIN)); /* else: EBADF */
    CHECK_EQ(0, fmux_remove(mux, ends[0]));
    fmux_free(mux);
}

static void modifying_a_number_that_is_another_file_says_ENOENT(int mechanism)
{
    int first[2], second[2];
    pipe_open(first);
    pipe_open(second);
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(0, fmux_add(mux, first[0], EPOLLIN));
    dup2(second[0], first[0]);
    CHECK_EQ(-ENOENT, fmux_modify(mux, first[0], EPOLLIN | EPOLLPRI));
    CHECK_EQ(0, fmux_add(mux, first[0], EPOLLIN));
    fmux_free(mux);
    pipe_close(first);
    pipe_close(second);
}

static void modifying_a_number_that_is_a_regular_file_says_EPERM(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    int file = memfd_create("file", MFD_CLOEXEC);
    dup2(file, ends[0]);
    CHECK_EQ(-EPERM, fmux_modify(mux, ends[0], EPOLLIN | EPOLLPRI));
    CHECK_EQ(-ENOENT, fmux_modify(mux, ends[0], EPOLLIN | EPOLLPRI));
    fmux_free(mux);
    close(file);
    pipe_close(ends);
}

/* ---- indices ----------------------------------------------------------- */

static void a_shared_array_returns_the_index_of_a_single_event(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, SHARED);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    put(ends[1]);
    CHECK_EQ(ends[0] * 4 + 1, fmux_wait_forever(array.ready));
    CHECK_EQ(0, array_flag(&array));
    take(ends[0]);
    CHECK_EQ(0, fmux_wait_now(array.ready));

    CHECK_EQ(0, fmux_add(mux, ends[1], EPOLLOUT));
    CHECK_EQ(ends[1] * 4 + 2, fmux_wait(array.ready, SECOND, 4));
    CHECK_EQ(0, array_flag(&array));

    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void an_event_without_a_code_comes_as_a_row(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, SHARED);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    close(ends[1]);
    CHECK_EQ(FMUX_ROWS + 1, fmux_wait_now(array.ready));
    CHECK_EQ(FMUX_UNKNOWN, array_index(&array, 0));
    CHECK_EQ(ends[0], array_fd(&array, 0));
    CHECK_EQ(EPOLLHUP, array_events(&array, 0));
    CHECK_EQ(1, array_flag(&array));
    array_close(&array);
    fmux_free(mux);
    close(ends[0]);
}

static void several_events_come_as_rows_with_their_indices(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, SHARED);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(0, fmux_add(mux, ends[1], EPOLLOUT));
    put(ends[1]);
    CHECK_EQ(FMUX_ROWS + 2, fmux_wait_forever(array.ready));
    int reader = array_fd(&array, 0) == ends[0] ? 0 : 1;
    CHECK_EQ(ends[0], array_fd(&array, reader));
    CHECK_EQ(EPOLLIN, array_events(&array, reader));
    CHECK_EQ(ends[0] * 4 + 1, array_index(&array, reader));
    CHECK_EQ(ends[1], array_fd(&array, 1 - reader));
    CHECK_EQ(EPOLLOUT, array_events(&array, 1 - reader));
    CHECK_EQ(ends[1] * 4 + 2, array_index(&array, 1 - reader));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void a_private_array_counts_rows_and_leaves_the_flag_alone(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_EQ(0, fmux_add(mux, ends[1], EPOLLOUT));
    CHECK_EQ(1, fmux_wait_now(array.ready));
    CHECK_EQ(1, fmux_wait_forever(array.ready));
    CHECK_EQ(ends[1] * 4 + 2, array_index(&array, 0));
    CHECK_EQ(0, array_flag(&array));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

/* ---- ready arrays ------------------------------------------------------ */

static void the_bytes_of_an_array_grow_with_its_capacity(int mechanism)
{
    (void)mechanism;
    CHECK_EQ(-EINVAL, fmux_ready_bytes(0));
    CHECK_EQ(-EINVAL, fmux_ready_bytes(-1));
    CHECK_EQ(-EINVAL, fmux_ready_bytes(INT_MIN));
    CHECK_EQ(-EINVAL, fmux_ready_bytes(INT_MAX));
    CHECK(fmux_ready_bytes(1) >= 16 + 12);
    CHECK(fmux_ready_bytes(1000) > fmux_ready_bytes(999));
    /* The greatest capacity: all is still counted by an int. */
    int low = 1, high = INT_MAX;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (fmux_ready_bytes(middle) > 0)
            low = middle;
        else
            high = middle;
    }
    CHECK(fmux_ready_bytes(low) / 12 >= low);
    CHECK(low < INT_MAX - FMUX_ROWS);
}

static void memory_that_does_not_fit_is_refused(int mechanism)
{
    int bytes = fmux_ready_bytes(4);
    unsigned char *memory = calloc(2, (size_t)bytes);
    fmux_ready_t *ready = NULL;
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(-EINVAL, fmux_ready_open(mux, memory, bytes - 1, 4, 0, &ready));
    CHECK_EQ(-EINVAL, fmux_ready_open(mux, memory, 0, 4, 0, &ready));
    CHECK_EQ(-EINVAL, fmux_ready_open(mux, memory, -1, 4, 0, &ready));
    CHECK_EQ(-EINVAL, fmux_ready_open(mux, memory, bytes, 0, 0, &ready));
    CHECK_EQ(-EINVAL, fmux_ready_open(mux, memory, bytes, -4, 0, &ready));
    for (int off = 1; off < 4; off++)
        CHECK_EQ(-EINVAL,
                 fmux_ready_open(mux, memory + off, bytes, 4, 0, &ready));
    CHECK(ready == NULL);
    fmux_free(mux);
    free(memory);
}

static void memory_aligned_to_4_bytes_is_enough(int mechanism)
{
    int ends[2];
    int bytes = fmux_ready_bytes(3);
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(0, fmux_add(mux, ends[1], EPOLLOUT));
    for (size_t off = 0; off < 16; off += 4) {
        /* To the byte, so that a sanitizer sees what lies outside. */
        array_t array = {.memory = calloc(1, (size_t)bytes + off)};
        unsigned char *block = array.memory;
        array.memory += off;
        array.capacity = 3;
        CHECK_EQ(0, fmux_ready_open(mux, array.memory, bytes, 3, PRIVATE,
                                    &array.ready));
        CHECK_EQ(1, fmux_wait_now(array.ready));
        CHECK_EQ(ends[1], array_fd(&array, 0));
        CHECK_EQ(EPOLLOUT, array_events(&array, 0));
        fmux_ready_free(array.ready);
        free(block);
    }
    fmux_free(mux);
    pipe_close(ends);
}

static void max_events_goes_from_1_to_the_capacity(int mechanism)
{
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_EQ(-EINVAL, fmux_wait(array.ready, 0, 0));
    CHECK_EQ(-EINVAL, fmux_wait(array.ready, 0, -1));
    CHECK_EQ(-EINVAL, fmux_wait(array.ready, 0, 5));
    CHECK_EQ(0, fmux_wait(array.ready, 0, 1));
    CHECK_EQ(0, fmux_wait(array.ready, 0, 4));
    array_close(&array);
    fmux_free(mux);
}

static void no_array_is_EBUSY(int mechanism)
{
    (void)mechanism;
    CHECK_EQ(-EBUSY, fmux_wait(NULL, 0, 1));
    CHECK_EQ(-EBUSY, fmux_wait_now(NULL));
    CHECK_EQ(-EBUSY, fmux_wait_forever(NULL));
}

static void an_unread_shared_array_is_EBUSY_until_the_flag_is_cleared(
    int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, SHARED);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(0, fmux_add(mux, ends[1], EPOLLOUT));
    put(ends[1]);
    CHECK_EQ(FMUX_ROWS + 2, fmux_wait_now(array.ready));
    CHECK_EQ(-EBUSY, fmux_wait_now(array.ready));
    CHECK_EQ(-EBUSY, fmux_wait(array.ready, SECOND, 1));
    CHECK_EQ(-EBUSY, fmux_wait_forever(array.ready));
    CHECK_EQ(ends[0] + ends[1], /* still there to be read */
             array_fd(&array, 0) + array_fd(&array, 1));
    array_mark_read(&array);
    CHECK_EQ(FMUX_ROWS + 2, fmux_wait_now(array.ready));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void *wait_now_in_a_thread(void *argument)
{
    return (void *)(intptr_t)fmux_wait_now(argument);
}

static int wait_now_elsewhere(fmux_ready_t *ready)
{
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, wait_now_in_a_thread, ready);
    pthread_join(thread, &result);
    return (int)(intptr_t)result;
}

static void another_threads_private_array_is_EBUSY(int mechanism)
{
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_EQ(-EBUSY, wait_now_elsewhere(array.ready));
    CHECK_EQ(0, fmux_wait_now(array.ready));
    array_close(&array);
    fmux_free(mux);
}

static void a_shared_array_serves_any_thread(int mechanism)
{
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, SHARED);
    CHECK_EQ(0, wait_now_elsewhere(array.ready));
    CHECK_EQ(0, fmux_wait_now(array.ready));
    array_close(&array);
    fmux_free(mux);
}

const test_t core_tests[] = {
    TEST(a_mux_can_be_closed_twice, ON_ALL),
    TEST(a_mux_can_be_freed_without_being_closed, ON_ALL),
    TEST(an_unknown_mechanism_is_refused, ON_POLL),
    TEST(poll_and_select_are_always_there, ON_POLL),
    TEST(every_function_of_a_closed_mux_says_so, ON_ALL),
    TEST(closing_releases_the_descriptors, ON_ALL),
    TEST(ready_arrays_may_outlive_the_free_of_their_mux, ON_ALL),
    TEST(all_descriptors_of_a_mux_are_close_on_exec, ON_ALL),
    TEST(without_descriptors_poll_says_EMFILE_and_epoll_gets_by, ON_ALL),
    TEST(a_mux_in_use_needs_no_more_descriptors, ON_ALL),
    TEST(only_epoll_has_a_descriptor_of_its_own, ON_ALL),
    TEST(adding_twice_says_EEXIST, ON_ALL),
    TEST(what_is_not_watched_is_ENOENT, ON_ALL),
    TEST(adding_what_is_not_open_says_EBADF, ON_ALL),
    TEST(first_adding_what_is_not_open_says_EBADF, ON_ALL),
    TEST(adding_an_enormous_number_says_EBADF, ON_ALL),
    TEST(epoll_refuses_a_regular_file_and_a_directory, ON_EPOLL),
    TEST(an_epoll_set_cannot_watch_itself, ON_EPOLL),
    TEST(epoll_sets_cannot_watch_each_other, ON_EPOLL),
    TEST(an_impossible_mask_says_EINVAL, ON_EPOLL),
    TEST(removing_what_was_closed_is_no_error, ON_ALL),
    TEST(modifying_what_was_closed_says_EBADF_and_forgets_it, ON_EPOLL),
    TEST(modifying_to_the_same_mask_is_no_system_call, ON_EPOLL),
    TEST(modifying_a_number_that_is_another_file_says_ENOENT, ON_EPOLL),
    TEST(modifying_a_number_that_is_a_regular_file_says_EPERM, ON_EPOLL),
    TEST(a_shared_array_returns_the_index_of_a_single_event, ON_ALL),
    TEST(an_event_without_a_code_comes_as_a_row, ON_POLL),
    TEST(several_events_come_as_rows_with_their_indices, ON_ALL),
    TEST(a_private_array_counts_rows_and_leaves_the_flag_alone, ON_ALL),
    TEST(the_bytes_of_an_array_grow_with_its_capacity, ON_POLL),
    TEST(memory_that_does_not_fit_is_refused, ON_POLL),
    TEST(memory_aligned_to_4_bytes_is_enough, ON_ALL),
    TEST(max_events_goes_from_1_to_the_capacity, ON_ALL),
    TEST(no_array_is_EBUSY, ON_POLL),
    TEST(an_unread_shared_array_is_EBUSY_until_the_flag_is_cleared, ON_ALL),
    TEST(another_threads_private_array_is_EBUSY, ON_ALL),
    TEST(a_shared_array_serves_any_thread, ON_ALL),
    {NULL, NULL, 0},
};
