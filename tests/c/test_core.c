/* test_core.c - the life cycle of a mux, the results of each function, tags, ready
 * arrays and fmux_try. */
#include "harness.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- life cycle -------------------------------------------------------- */

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
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
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

static void poll_and_select_always_exist(int mechanism)
{
    (void)mechanism;
    CHECK_EQ(ON_COPIES, fmux_mechanisms() & ON_COPIES);
    CHECK_EQ(0, fmux_mechanisms() & ~ON_ALL);
}

static void every_function_of_a_closed_mux_returns_ESHUTDOWN(int mechanism)
{
    int ends[2];
    static unsigned char memory[256];
    fmux_ready_t *another;
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t mine = array_open(mux, 2, PRIVATE);
    array_t ours = array_open(mux, 2, SHARED);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    fmux_close(mux);

    CHECK_EQ(-ESHUTDOWN, fmux_fileno(mux));
    CHECK_EQ(-ESHUTDOWN, fmux_add(mux, ends[1], EPOLLOUT));
    CHECK_EQ(-ESHUTDOWN, fmux_modify(mux, ends[0], EPOLLOUT));
    CHECK_EQ(-ESHUTDOWN, fmux_remove(mux, ends[0]));
    CHECK_EQ(-ESHUTDOWN, fmux_wakeup(mux));
    CHECK_EQ(-ESHUTDOWN, fmux_ready_open(mux, memory, sizeof memory, 1, SHARED,
                                         &another));
    CHECK_EQ(-ESHUTDOWN, fmux_wait(mine.ready, 0, 1));
    CHECK_EQ(-ESHUTDOWN, array_wait(&mine, 0));
    CHECK_EQ(-ESHUTDOWN, array_wait(&mine, -1));
    CHECK_EQ(-ESHUTDOWN, fmux_wait(ours.ready, SECOND, 2));
    CHECK_EQ(-ESHUTDOWN, array_wait(&ours, 0));
    CHECK_EQ(-ESHUTDOWN, array_wait(&ours, -1));

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
    CHECK_EQ(0, array_wait(&array, 0));
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
    CHECK_EQ(0, array_wait(&first, 0));
    fmux_free(mux);
    CHECK_EQ(-ESHUTDOWN, array_wait(&first, -1));
    array_close(&first);
    CHECK_EQ(-ESHUTDOWN, array_wait(&second, -1));
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
    CHECK_EQ(0, fmux_wait(array.ready, 1, 2)); /* makes the pipe */
    for (int fd = 0; fd < LOOK_AT; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (open_before[fd] || flags < 0)
            continue;
        CHECK((flags & FD_CLOEXEC) != 0);
        new_ones++;
    }
    CHECK_EQ(mechanism == FMUX_EPOLL ? 1 : 2, new_ones);
    array_close(&array);
    fmux_free(mux);
}

static void without_descriptors_poll_returns_EMFILE_and_epoll_waits(int mechanism)
{
    fmux_t *none = NULL;
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 2, PRIVATE);
    use_up_descriptors();
    if (mechanism == FMUX_EPOLL) {
        CHECK_EQ(-EMFILE, fmux_open(mechanism, &none));
        CHECK(none == NULL);
        CHECK_EQ(0, fmux_wait(array.ready, MILLISECOND, 1));
    } else {
        CHECK_EQ(-EMFILE, array_wait(&array, 0));
        CHECK_EQ(-EMFILE, fmux_wait(array.ready, SECOND, 1));
    }
    CHECK_EQ(0, fmux_wakeup(mux));
    allow_descriptors();

    CHECK_EQ(0, array_wait(&array, -1));
    array_close(&array);
    fmux_free(mux);
}

static void a_mux_in_use_needs_no_more_descriptors(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 2, PRIVATE);
    CHECK_EQ(0, fmux_wait(array.ready, 1, 2)); /* makes the pipe */
    use_up_descriptors();
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(0, fmux_wakeup(mux));
    CHECK_EQ(0, array_wait(&array, -1));
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

static void adding_twice_returns_EEXIST(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(-EEXIST, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_OK(fmux_remove(mux, ends[0]));
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    fmux_free(mux);
    pipe_close(ends);
}

static void an_unwatched_descriptor_returns_ENOENT(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    const int numbers[] = {ends[0], ends[1], -1, INT_MIN, INT_MAX, 100000};
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    CHECK_OK(fmux_remove(mux, ends[0]));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        CHECK_EQ(-ENOENT, fmux_modify(mux, numbers[i], EPOLLIN));
        CHECK_EQ(-ENOENT, fmux_remove(mux, numbers[i]));
    }
    fmux_free(mux);
    pipe_close(ends);
}

static void adding_a_closed_descriptor_returns_EBADF(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_OK(fmux_add(mux, ends[1], EPOLLOUT));
    CHECK_OK(fmux_remove(mux, ends[1]));
    pipe_close(ends);
    CHECK_EQ(-EBADF, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(-EBADF, fmux_add(mux, 100000, EPOLLIN));
    CHECK_EQ(-EBADF, fmux_add(mux, -1, EPOLLIN));
    CHECK_EQ(-EBADF, fmux_add(mux, INT_MIN, EPOLLIN));
    CHECK_EQ(-ENOENT, fmux_remove(mux, ends[0])); /* no trace of it */
    fmux_free(mux);
}

/* A descriptor that the first add opens for itself could get the same number. */
static void adding_a_closed_descriptor_first_returns_EBADF(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    pipe_close(ends);
    CHECK_EQ(-EBADF, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(-ENOENT, fmux_remove(mux, ends[0]));
    fmux_free(mux);
}

static void adding_a_huge_number_returns_EBADF(int mechanism)
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
    CHECK_OK(fmux_add(first, fmux_fileno(second), EPOLLIN));
    CHECK_EQ(-ELOOP, fmux_add(second, fmux_fileno(first), EPOLLIN));
    fmux_free(first);
    fmux_free(second);
}

static void an_impossible_mask_returns_EINVAL(int mechanism)
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

static void removing_a_closed_descriptor_is_no_error(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    pipe_close(ends);
    CHECK_OK(fmux_remove(mux, ends[0]));
    CHECK_EQ(-ENOENT, fmux_remove(mux, ends[0]));
    fmux_free(mux);
}

static void modifying_a_closed_descriptor_returns_EBADF_and_forgets_it(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    pipe_close(ends);
    CHECK_EQ(-EBADF, fmux_modify(mux, ends[0], EPOLLIN | EPOLLPRI));
    CHECK_EQ(-ENOENT, fmux_modify(mux, ends[0], EPOLLIN));
    CHECK_EQ(-ENOENT, fmux_remove(mux, ends[0]));
    fmux_free(mux);
}

static void modifying_to_the_same_mask_asks_the_kernel(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    pipe_close(ends);
    CHECK_EQ(-EBADF, fmux_modify(mux, ends[0], EPOLLIN));
    CHECK_EQ(-ENOENT, fmux_remove(mux, ends[0]));
    fmux_free(mux);
}

static void modifying_a_number_of_another_file_returns_ENOENT(int mechanism)
{
    int first[2], second[2];
    pipe_open(first);
    pipe_open(second);
    fmux_t *mux = mux_open(mechanism);
    CHECK_OK(fmux_add(mux, first[0], EPOLLIN));
    dup2(second[0], first[0]);
    CHECK_EQ(-ENOENT, fmux_modify(mux, first[0], EPOLLIN | EPOLLPRI));
    CHECK_OK(fmux_add(mux, first[0], EPOLLIN));
    fmux_free(mux);
    pipe_close(first);
    pipe_close(second);
}

static void modifying_a_number_of_a_regular_file_returns_EPERM(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    int file = memfd_create("file", MFD_CLOEXEC);
    dup2(file, ends[0]);
    CHECK_EQ(-EPERM, fmux_modify(mux, ends[0], EPOLLIN | EPOLLPRI));
    CHECK_EQ(-ENOENT, fmux_modify(mux, ends[0], EPOLLIN | EPOLLPRI));
    fmux_free(mux);
    close(file);
    pipe_close(ends);
}

/* ---- tags -------------------------------------------------------------- */

static void tags_are_dense_and_per_mux(int mechanism)
{
    enum { COUNT = 200 }; /* in several chunks of the table */
    int ends[2], copies[COUNT];
    pipe_open(ends);
    fmux_t *first = mux_open(mechanism);
    fmux_t *second = mux_open(mechanism);
    for (int i = 0; i < COUNT; i++) {
        copies[i] = fcntl(ends[0], F_DUPFD_CLOEXEC, i % 2 == 0 ? 20 : 2000);
        CHECK_EQ(-ENOENT, fmux_tag(first, copies[i]));
        CHECK_EQ(i, fmux_add(first, copies[i], EPOLLIN));
        CHECK_EQ(i, fmux_tag(first, copies[i]));
    }
    for (int i = COUNT - 1; i >= 0; i--)
        CHECK_EQ(COUNT - 1 - i, fmux_add(second, copies[i], EPOLLIN));
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(i, fmux_tag(first, copies[i]));
        CHECK_EQ(COUNT - 1 - i, fmux_tag(second, copies[i]));
        close(copies[i]);
    }
    fmux_free(first);
    fmux_free(second);
    pipe_close(ends);
}

static void a_tag_is_kept_when_the_descriptor_is_registered_again(int mechanism)
{
    int first[2], second[2];
    pipe_open(first);
    pipe_open(second);
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(0, fmux_add(mux, first[0], EPOLLIN));
    CHECK_EQ(1, fmux_add(mux, second[0], EPOLLIN));
    CHECK_EQ(1, fmux_modify(mux, second[0], EPOLLIN | EPOLLPRI));
    CHECK_EQ(1, fmux_remove(mux, second[0]));
    CHECK_EQ(1, fmux_tag(mux, second[0]));
    CHECK_EQ(0, fmux_remove(mux, first[0]));
    CHECK_EQ(1, fmux_add(mux, second[0], EPOLLIN));
    CHECK_EQ(0, fmux_add(mux, first[0], EPOLLIN));
    CHECK_EQ(2, fmux_add(mux, first[1], EPOLLOUT));

    /* The number keeps the tag, whatever file it stands for. */
    CHECK_EQ(1, fmux_remove(mux, second[0]));
    CHECK_EQ(second[0], dup2(first[0], second[0]));
    CHECK_EQ(1, fmux_add(mux, second[0], EPOLLIN));
    fmux_free(mux);
    pipe_close(first);
    pipe_close(second);
}

static void a_failed_add_assigns_no_tag(int mechanism)
{
    int ends[2], closed[2];
    pipe_open(ends);
    pipe_open(closed);
    pipe_close(closed);
    fmux_t *mux = mux_open(mechanism);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(-EBADF, fmux_add(mux, closed[1], EPOLLIN));
    CHECK_EQ(-ENOENT, fmux_tag(mux, closed[1]));
    CHECK_EQ(-EEXIST, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(1, fmux_add(mux, ends[1], EPOLLOUT));

    /* An assigned one survives it. */
    CHECK_EQ(1, fmux_remove(mux, ends[1]));
    close(ends[1]);
    CHECK_EQ(-EBADF, fmux_add(mux, ends[1], EPOLLOUT));
    CHECK_EQ(1, fmux_tag(mux, ends[1]));
    fmux_free(mux);
    close(ends[0]);
}

static void an_unknown_number_has_no_tag(int mechanism)
{
    const int numbers[] = {0, -1, INT_MIN, INT_MAX, 100000};
    fmux_t *mux = mux_open(mechanism);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        CHECK_EQ(-ENOENT, fmux_tag(mux, numbers[i]));
    fmux_free(mux);
}

/* The table has a chunk for each range of descriptors. */
static void descriptors_of_every_range_have_entries_of_their_own(int mechanism)
{
    enum { COUNT = 24 };
    int ends[2], fds[COUNT];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, COUNT, PRIVATE);
    for (int i = 0; i < COUNT; i++) {
        int border = (64 << i / 8) + (16 << i / 8) * (i % 8 / 2);
        fds[i] = fcntl(ends[1], F_DUPFD, border - i % 2);
        CHECK(fds[i] >= 0);
        CHECK_EQ(i, fmux_add(mux, fds[i], EPOLLOUT));
    }
    CHECK_EQ(COUNT, array_wait(&array, 0));
    for (int row = 0; row < COUNT; row++) {
        int tag = array_tag(&array, row);
        CHECK(tag >= 0 && tag < COUNT);
        CHECK_EQ(fds[tag], array_fd(&array, row));
        CHECK_EQ(EPOLLOUT, array_events(&array, row));
        fds[tag] = -2 - fds[tag]; /* each once */
    }
    array_close(&array);
    fmux_free(mux);
    for (int i = 0; i < COUNT; i++)
        close(-2 - fds[i]);
    pipe_close(ends);
}

static void tags_are_reported_beside_the_descriptors(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_EQ(0, fmux_add(mux, ends[1], EPOLLOUT));
    CHECK_EQ(1, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(1, array_wait(&array, 0));
    CHECK_EQ(ends[1], array_fd(&array, 0));
    CHECK_EQ(EPOLLOUT, array_events(&array, 0));
    CHECK_EQ(0, array_tag(&array, 0));

    put(ends[1]);
    CHECK_EQ(2, array_wait(&array, -1));
    int reader = array_fd(&array, 0) == ends[0] ? 0 : 1;
    CHECK_EQ(ends[0], array_fd(&array, reader));
    CHECK_EQ(EPOLLIN, array_events(&array, reader));
    CHECK_EQ(1, array_tag(&array, reader));
    CHECK_EQ(ends[1], array_fd(&array, 1 - reader));
    CHECK_EQ(EPOLLOUT, array_events(&array, 1 - reader));
    CHECK_EQ(0, array_tag(&array, 1 - reader));
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
    CHECK(fmux_ready_bytes(1) >= 12 + 16);
    CHECK(fmux_ready_bytes(1000) > fmux_ready_bytes(999));
    /* The greatest capacity: an int still holds the number of bytes. */
    int low = 1, high = INT_MAX;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (fmux_ready_bytes(middle) > 0)
            low = middle;
        else
            high = middle;
    }
    CHECK(fmux_ready_bytes(low) / 12 >= low);
}

static void too_little_or_misaligned_memory_is_refused(int mechanism)
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

static void memory_aligned_to_4_bytes_is_accepted(int mechanism)
{
    int ends[2];
    int bytes = fmux_ready_bytes(3);
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_OK(fmux_add(mux, ends[1], EPOLLOUT));
    for (size_t off = 0; off < 16; off += 4) {
        /* The exact size, so that a sanitizer detects an overrun. */
        array_t array = {.mux = mux,
                         .memory = calloc(1, (size_t)bytes + off)};
        unsigned char *block = array.memory;
        array.memory += off;
        array.capacity = 3;
        CHECK_EQ(0, fmux_ready_open(mux, array.memory, bytes, 3, PRIVATE,
                                    &array.ready));
        CHECK_EQ(1, array_wait(&array, 0));
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

static void the_columns_are_in_the_callers_memory(int mechanism)
{
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 3, SHARED);
    fmux_rows_t rows = fmux_ready_rows(array.ready);
    CHECK_EQ(3, rows.capacity);
    CHECK((const void *)rows.fds == array.memory);
    CHECK((const void *)rows.events == rows.fds + 3);
    CHECK((const void *)rows.tags == rows.events + 3);
    array_close(&array);
    fmux_free(mux);
}

static void each_array_keeps_the_context_of_its_caller(int mechanism)
{
    const int content = 0, other = 0;
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    array_t second = array_open(mux, 4, SHARED);
    CHECK(fmux_ready_rows(array.ready).context == NULL);
    fmux_ready_set_context(array.ready, &content);
    CHECK(fmux_ready_rows(array.ready).context == &content);
    CHECK(fmux_ready_rows(second.ready).context == NULL);
    CHECK_EQ(0, array_wait(&array, MILLISECOND));
    CHECK(fmux_ready_rows(array.ready).context == &content);
    fmux_ready_set_context(array.ready, &other);
    CHECK(fmux_ready_rows(array.ready).context == &other);
    fmux_ready_set_context(array.ready, NULL);
    CHECK(fmux_ready_rows(array.ready).context == NULL);
    array_close(&second);
    array_close(&array);
    fmux_free(mux);
}

static void a_shared_array_with_rows_is_EBUSY_until_it_is_released(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, SHARED);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    CHECK_OK(fmux_add(mux, ends[1], EPOLLOUT));
    put(ends[1]);
    for (int round = 0; round < 2; round++) {
        CHECK_EQ(2, array_wait(&array, round == 0 ? 0 : SECOND));
        CHECK_EQ(-EBUSY, array_wait(&array, 0));
        CHECK_EQ(-EBUSY, fmux_wait(array.ready, SECOND, 1));
        CHECK_EQ(-EBUSY, array_wait(&array, -1));
        CHECK_EQ(-EBUSY, array_try(&array));
        CHECK_EQ(ends[0] + ends[1], /* the rows are still there */
                 array_fd(&array, 0) + array_fd(&array, 1));
        fmux_ready_release(array.ready);
    }
    CHECK_EQ(2, array_try(&array));
    CHECK_EQ(-EBUSY, array_wait(&array, 0));
    fmux_ready_release(array.ready);
    CHECK_EQ(1, fmux_wait(array.ready, 0, 1)); /* a single row, too */
    CHECK_EQ(-EBUSY, array_wait(&array, 0));
    array_close(&array); /* while it is held */
    fmux_free(mux);
    pipe_close(ends);
}

static void a_shared_array_without_rows_is_not_held(int mechanism)
{
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, SHARED);
    CHECK_EQ(0, array_wait(&array, 0));
    CHECK_EQ(-EAGAIN, array_try(&array));
    CHECK_EQ(0, array_wait(&array, MILLISECOND));
    CHECK_EQ(0, fmux_wakeup(mux));
    CHECK_EQ(0, array_wait(&array, -1));
    fmux_ready_release(array.ready); /* a no-op */
    CHECK_EQ(0, array_wait(&array, 0));
    array_close(&array);
    fmux_free(mux);
}

static void a_held_array_does_not_consume_a_wake_up(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, SHARED);
    CHECK_OK(fmux_add(mux, ends[1], EPOLLOUT));
    CHECK_EQ(1, array_wait(&array, 0));
    CHECK_EQ(0, fmux_wakeup(mux));
    CHECK_EQ(-EBUSY, array_wait(&array, -1));
    CHECK_OK(fmux_remove(mux, ends[1]));
    fmux_ready_release(array.ready);
    CHECK_EQ(0, array_wait(&array, -1));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void a_held_array_does_not_delay_closing(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    int before = open_descriptors();
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, SHARED);
    CHECK_OK(fmux_add(mux, ends[1], EPOLLOUT));
    CHECK_EQ(1, array_wait(&array, 0));
    CHECK_EQ(0, fmux_close(mux));
    CHECK_EQ(before, open_descriptors());
    CHECK_EQ(ends[1], array_fd(&array, 0)); /* the rows are still there */
    CHECK_EQ(-ESHUTDOWN, array_wait(&array, 0));
    CHECK_EQ(-ESHUTDOWN, array_wait(&array, -1));
    CHECK_EQ(-ESHUTDOWN, array_try(&array));
    fmux_ready_release(array.ready);
    CHECK_EQ(-ESHUTDOWN, array_wait(&array, -1));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void a_private_array_is_never_held(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_OK(fmux_add(mux, ends[1], EPOLLOUT));
    CHECK_EQ(1, array_wait(&array, 0));
    CHECK_EQ(1, array_wait(&array, -1));
    CHECK_EQ(1, array_try(&array));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void *wait_in_a_thread(void *argument)
{
    return (void *)(intptr_t)array_wait(argument, 0);
}

static int wait_elsewhere(array_t *array)
{
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, wait_in_a_thread, array);
    pthread_join(thread, &result);
    return (int)(intptr_t)result;
}

static void another_threads_private_array_is_EBUSY(int mechanism)
{
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_EQ(-EBUSY, wait_elsewhere(&array));
    CHECK_EQ(0, array_wait(&array, 0));
    array_close(&array);
    fmux_free(mux);
}

static void a_shared_array_serves_any_thread(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, SHARED);
    CHECK_OK(fmux_add(mux, ends[1], EPOLLOUT));
    CHECK_EQ(1, wait_elsewhere(&array));
    CHECK_EQ(-EBUSY, wait_elsewhere(&array));
    CHECK_EQ(-EBUSY, array_wait(&array, 0));
    fmux_ready_release(array.ready); /* by any thread */
    CHECK_EQ(1, array_wait(&array, 0));
    CHECK_EQ(-EBUSY, wait_elsewhere(&array));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

/* ---- fmux_try ------------------------------------------------------------ */

static void trying_distinguishes_a_wake_up_from_nothing(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(-EAGAIN, array_try(&array));
    CHECK_EQ(-EAGAIN, fmux_try(array.ready, 1));
    CHECK_EQ(0, fmux_wakeup(mux));
    CHECK_EQ(0, array_try(&array));
    CHECK_EQ(-EAGAIN, array_try(&array));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void trying_reports_events_as_a_wait_does(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    CHECK_OK(fmux_add(mux, ends[1], EPOLLOUT));
    put(ends[1]);
    CHECK_EQ(1, fmux_try(array.ready, 1));
    CHECK_EQ(2, array_try(&array));
    CHECK(array_has(&array, 2, ends[0]));
    CHECK(array_has(&array, 2, ends[1]));
    CHECK_EQ(EPOLLIN | EPOLLOUT,
             array_events(&array, 0) | array_events(&array, 1));
    CHECK_EQ(-EINVAL, fmux_try(array.ready, 5));
    CHECK_EQ(-EINVAL, fmux_try(array.ready, 0));
    CHECK_EQ(-EINVAL, fmux_try(array.ready, INT_MIN));
    CHECK_EQ(0, fmux_close(mux));
    CHECK_EQ(-ESHUTDOWN, array_try(&array));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void trying_is_skipped_on_a_long_set_of_poll_or_select(int mechanism)
{
    int ends[2], copies[FMUX_FEW];
    pipe_open(ends);
    put(ends[1]);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 2 * FMUX_FEW, PRIVATE);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    for (int i = 0; i < FMUX_FEW; i++) {
        CHECK_EQ(i + 1, array_try(&array));
        copies[i] = dup(ends[0]);
        CHECK_OK(fmux_add(mux, copies[i], EPOLLIN));
    }
    bool skipped = mechanism != FMUX_EPOLL;
    CHECK_EQ(skipped ? -EAGAIN : FMUX_FEW + 1, array_try(&array));
    CHECK_EQ(FMUX_FEW + 1, array_wait(&array, 0));
    CHECK_OK(fmux_remove(mux, ends[0]));
    CHECK_EQ(FMUX_FEW, array_try(&array));
    for (int i = 0; i < FMUX_FEW; i++)
        close(copies[i]);
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void removed_descriptors_do_not_count_as_a_long_set(int mechanism)
{
    int ends[2], other[2];
    pipe_open(ends);
    pipe_open(other);
    put(ends[1]);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    CHECK_OK(fmux_add(mux, other[0], EPOLLIN));
    for (int round = 0; round < 200; round++) {
        CHECK_OK(fmux_add(mux, ends[1], EPOLLOUT));
        CHECK_OK(fmux_remove(mux, ends[1]));
        CHECK_EQ(1, array_try(&array));
    }
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
    pipe_close(other);
}

const test_t core_tests[] = {
    TEST(a_mux_can_be_closed_twice, ON_ALL),
    TEST(a_mux_can_be_freed_without_being_closed, ON_ALL),
    TEST(an_unknown_mechanism_is_refused, ON_POLL),
    TEST(poll_and_select_always_exist, ON_POLL),
    TEST(every_function_of_a_closed_mux_returns_ESHUTDOWN, ON_ALL),
    TEST(closing_releases_the_descriptors, ON_ALL),
    TEST(ready_arrays_may_outlive_the_free_of_their_mux, ON_ALL),
    TEST(all_descriptors_of_a_mux_are_close_on_exec, ON_ALL),
    TEST(without_descriptors_poll_returns_EMFILE_and_epoll_waits, ON_ALL),
    TEST(a_mux_in_use_needs_no_more_descriptors, ON_ALL),
    TEST(only_epoll_has_a_descriptor_of_its_own, ON_ALL),
    TEST(adding_twice_returns_EEXIST, ON_ALL),
    TEST(an_unwatched_descriptor_returns_ENOENT, ON_ALL),
    TEST(adding_a_closed_descriptor_returns_EBADF, ON_ALL),
    TEST(adding_a_closed_descriptor_first_returns_EBADF, ON_ALL),
    TEST(adding_a_huge_number_returns_EBADF, ON_ALL),
    TEST(epoll_refuses_a_regular_file_and_a_directory, ON_EPOLL),
    TEST(an_epoll_set_cannot_watch_itself, ON_EPOLL),
    TEST(epoll_sets_cannot_watch_each_other, ON_EPOLL),
    TEST(an_impossible_mask_returns_EINVAL, ON_EPOLL),
    TEST(removing_a_closed_descriptor_is_no_error, ON_ALL),
    TEST(modifying_a_closed_descriptor_returns_EBADF_and_forgets_it, ON_EPOLL),
    TEST(modifying_to_the_same_mask_asks_the_kernel, ON_EPOLL),
    TEST(modifying_a_number_of_another_file_returns_ENOENT, ON_EPOLL),
    TEST(modifying_a_number_of_a_regular_file_returns_EPERM, ON_EPOLL),
    TEST(tags_are_dense_and_per_mux, ON_ALL),
    TEST(a_tag_is_kept_when_the_descriptor_is_registered_again, ON_ALL),
    TEST(a_failed_add_assigns_no_tag, ON_ALL),
    TEST(an_unknown_number_has_no_tag, ON_ALL),
    TEST(descriptors_of_every_range_have_entries_of_their_own, ON_ALL),
    TEST(tags_are_reported_beside_the_descriptors, ON_ALL),
    TEST(the_bytes_of_an_array_grow_with_its_capacity, ON_POLL),
    TEST(too_little_or_misaligned_memory_is_refused, ON_POLL),
    TEST(memory_aligned_to_4_bytes_is_accepted, ON_ALL),
    TEST(max_events_goes_from_1_to_the_capacity, ON_ALL),
    TEST(the_columns_are_in_the_callers_memory, ON_ALL),
    TEST(each_array_keeps_the_context_of_its_caller, ON_ALL),
    TEST(a_shared_array_with_rows_is_EBUSY_until_it_is_released, ON_ALL),
    TEST(a_shared_array_without_rows_is_not_held, ON_ALL),
    TEST(a_held_array_does_not_consume_a_wake_up, ON_ALL),
    TEST(a_held_array_does_not_delay_closing, ON_ALL),
    TEST(a_private_array_is_never_held, ON_ALL),
    TEST(another_threads_private_array_is_EBUSY, ON_ALL),
    TEST(a_shared_array_serves_any_thread, ON_ALL),
    TEST(trying_distinguishes_a_wake_up_from_nothing, ON_ALL),
    TEST(trying_reports_events_as_a_wait_does, ON_ALL),
    TEST(trying_is_skipped_on_a_long_set_of_poll_or_select, ON_ALL),
    TEST(removed_descriptors_do_not_count_as_a_long_set, ON_ALL),
    {NULL, NULL, 0},
};
