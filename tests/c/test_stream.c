/* test_stream.c - waits that receive: from which sockets, how much, in which order,
 * and which events stay in the ready array. */
#include "faults.h"
#include "harness.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FLAGS = 4096,
    ROWS = 16,
    CHUNK = 64,
    ENOUGH = 100
};

/* A stream, with memory of the exact size for the sanitizers. */
typedef struct {
    fmux_t *mux;
    array_t array;
    fmux_stream_t stream;
} reader_t;

static reader_t reader_open(int mechanism)
{
    fmux_t *mux = mux_open(mechanism);
    reader_t reader = {.mux = mux, .array = array_open(mux, ROWS, SHARED)};
    reader.stream = (fmux_stream_t){
        .ready = reader.array.ready,
        .flags = calloc(FLAGS, 1),
        .flags_length = FLAGS,
        .enough = ENOUGH,
        .chunk = CHUNK,
        .arena = malloc(ENOUGH + CHUNK),
        .fds = malloc(ROWS * sizeof(int32_t)),
        .lengths = malloc(ROWS * sizeof(int32_t)),
        .waiting = malloc(ROWS * sizeof(int32_t)),
    };
    return reader;
}

static void reader_close(reader_t *reader)
{
    free(reader->stream.flags);
    free(reader->stream.arena);
    free(reader->stream.fds);
    free(reader->stream.lengths);
    free(reader->stream.waiting);
    array_close(&reader->array);
    fmux_free(reader->mux);
}

/* Open a connection; its first end is watched and flagged. */
static void connection_open(reader_t *reader, int ends[2])
{
    CHECK_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    CHECK_OK(fmux_add(reader->mux, ends[0], EPOLLIN));
    reader->stream.flags[ends[0]] = 1;
}

static void connection_close(reader_t *reader, const int ends[2])
{
    (void)fmux_remove(reader->mux, ends[0]);
    reader->stream.flags[ends[0]] = 0;
    close(ends[0]);
    close(ends[1]);
}

static void send_bytes(int fd, int count, char letter)
{
    char bytes[4 * CHUNK];
    memset(bytes, letter, sizeof bytes);
    CHECK_EQ(count, write(fd, bytes, (size_t)count));
}

static int read_now(reader_t *reader)
{
    return fmux_stream_wait(&reader->stream, 0);
}

/* ---- received data ------------------------------------------------------- */

static void flagged_sockets_are_received_from(int mechanism)
{
    reader_t reader = reader_open(mechanism);
    int one[2], other[2];
    connection_open(&reader, one);
    connection_open(&reader, other);
    CHECK_EQ(0, read_now(&reader));
    send_bytes(one[1], 3, 'a');
    send_bytes(other[1], 5, 'b');
    CHECK_EQ(2, read_now(&reader));
    bool in_order = reader.stream.fds[0] == one[0];
    CHECK_EQ(in_order ? 3 : 5, reader.stream.lengths[0]);
    CHECK_EQ(in_order ? 5 : 3, reader.stream.lengths[1]);
    CHECK(memcmp(reader.stream.arena, in_order ? "aaabbbbb" : "bbbbbaaa", 8) ==
          0);
    CHECK_EQ(0, read_now(&reader));
    connection_close(&reader, one);
    connection_close(&reader, other);
    reader_close(&reader);
}

static void unflagged_descriptors_are_reported(int mechanism)
{
    reader_t reader = reader_open(mechanism);
    int read_[2], reported[2];
    connection_open(&reader, read_);
    connection_open(&reader, reported);
    reader.stream.flags[reported[0]] = 0;
    send_bytes(read_[1], 3, 'a');
    send_bytes(reported[1], 5, 'b');
    for (int i = 0; i < 2; i++) {
        CHECK_EQ((i == 0) + FMUX_OTHERS, read_now(&reader));
        CHECK_EQ(reported[0], array_fd(&reader.array, 0));
        CHECK_EQ(EPOLLIN, array_events(&reader.array, 0));
        CHECK_EQ(1, array_tag(&reader.array, 0)); /* and the array is free */
    }
    connection_close(&reader, read_);
    connection_close(&reader, reported);
    reader_close(&reader);
}

static void descriptors_beyond_the_flags_are_reported(int mechanism)
{
    reader_t reader = reader_open(mechanism);
    int ends[2];
    connection_open(&reader, ends);
    reader.stream.flags_length = ends[0];
    send_bytes(ends[1], 1, 'a');
    CHECK_EQ(FMUX_OTHERS, read_now(&reader));
    connection_close(&reader, ends);
    reader_close(&reader);
}

static void the_end_of_a_stream_and_errors_are_rows(int mechanism)
{
    reader_t reader = reader_open(mechanism);
    int ends[2];
    connection_open(&reader, ends);
    CHECK_EQ(0, shutdown(ends[1], SHUT_WR));
    CHECK_EQ(1, read_now(&reader));
    CHECK_EQ(0, reader.stream.lengths[0]);
    connection_close(&reader, ends);

    /* Not a socket. */
    pipe_open(ends);
    CHECK_OK(fmux_add(reader.mux, ends[0], EPOLLIN));
    reader.stream.flags[ends[0]] = 1;
    put(ends[1]);
    CHECK_EQ(1, read_now(&reader));
    CHECK_EQ(-ENOTSOCK, reader.stream.lengths[0]);
    pipe_close(ends);
    reader_close(&reader);
}

static void a_writable_or_broken_socket_is_also_reported(int mechanism)
{
    reader_t reader = reader_open(mechanism);
    int ends[2];
    connection_open(&reader, ends);
    CHECK_OK(fmux_modify(reader.mux, ends[0], EPOLLIN | EPOLLOUT));
    CHECK_EQ(FMUX_OTHERS, read_now(&reader));
    send_bytes(ends[1], 2, 'a');
    CHECK_EQ(1 + FMUX_OTHERS, read_now(&reader));
    CHECK_EQ(2, reader.stream.lengths[0]);
    CHECK_EQ(EPOLLOUT, array_events(&reader.array, 0));
    close(ends[1]);
    CHECK_EQ(1 + FMUX_OTHERS, read_now(&reader));
    CHECK_EQ(EPOLLOUT, array_events(&reader.array, 0));
    ends[1] = dup(ends[0]);
    connection_close(&reader, ends);
    reader_close(&reader);
}

static void a_blocking_socket_does_not_block(int mechanism)
{
    reader_t reader = reader_open(mechanism);
    int ends[2];
    connection_open(&reader, ends);
    send_bytes(ends[1], 1, 'a');
    /* The copy is ready too, but the first recv empties the socket. */
    int copy = dup(ends[0]);
    CHECK_OK(fmux_add(reader.mux, copy, EPOLLIN));
    reader.stream.flags[copy] = 1;
    CHECK_EQ(1, read_now(&reader));
    CHECK_EQ(1, reader.stream.lengths[0]);
    CHECK_OK(fmux_remove(reader.mux, copy));
    close(copy);
    connection_close(&reader, ends);
    reader_close(&reader);
}

/* ---- amount and order ---------------------------------------------------- */

static void no_row_is_longer_than_a_chunk(int mechanism)
{
    reader_t reader = reader_open(mechanism);
    int ends[2];
    connection_open(&reader, ends);
    send_bytes(ends[1], 2 * CHUNK + 1, 'a');
    CHECK_EQ(1, read_now(&reader));
    CHECK_EQ(CHUNK, reader.stream.lengths[0]);
    CHECK_EQ(1, read_now(&reader));
    CHECK_EQ(CHUNK, reader.stream.lengths[0]);
    CHECK_EQ(1, read_now(&reader));
    CHECK_EQ(1, reader.stream.lengths[0]);
    connection_close(&reader, ends);
    reader_close(&reader);
}

static void sockets_take_turns(int mechanism)
{
    enum { MANY = 7 };
    reader_t reader = reader_open(mechanism);
    int ends[MANY][2];
    int turns[MANY] = {0};
    for (int i = 0; i < MANY; i++)
        connection_open(&reader, ends[i]);
    for (int call = 0; call < 10 * MANY; call++) {
        for (int i = 0; i < MANY; i++) /* always more data */
            (void)send(ends[i][1], "0123456789012345678901234567890123456789"
                                   "0123456789012345678901234567890123456789",
                       80, MSG_DONTWAIT);
        int rows = read_now(&reader);
        CHECK(rows >= 1 && rows <= 2);
        for (int row = 0; row < rows; row++)
            for (int i = 0; i < MANY; i++)
                turns[i] += reader.stream.fds[row] == ends[i][0];
        int least = turns[0], most = turns[0];
        for (int i = 1; i < MANY; i++) {
            least = turns[i] < least ? turns[i] : least;
            most = turns[i] > most ? turns[i] : most;
        }
        CHECK(most - least <= 1);
    }
    for (int i = 0; i < MANY; i++)
        connection_close(&reader, ends[i]);
    reader_close(&reader);
}

static void a_socket_that_is_unflagged_meanwhile_is_reported(int mechanism)
{
    reader_t reader = reader_open(mechanism);
    int ends[4][2];
    for (int i = 0; i < 4; i++) {
        connection_open(&reader, ends[i]);
        send_bytes(ends[i][1], CHUNK, 'a');
    }
    CHECK_EQ(2, read_now(&reader));
    for (int i = 0; i < 4; i++)
        reader.stream.flags[ends[i][0]] = 0;
    CHECK_EQ(2 * FMUX_OTHERS, read_now(&reader));
    for (int i = 0; i < 4; i++)
        connection_close(&reader, ends[i]);
    reader_close(&reader);
}

/* ---- waiting ------------------------------------------------------------- */

static void it_sleeps_and_can_be_woken(int mechanism)
{
    reader_t reader = reader_open(mechanism);
    int64_t begin_ns = now_ns();
    CHECK_EQ(0, fmux_stream_wait(&reader.stream, 2 * MILLISECOND));
    CHECK(now_ns() - begin_ns >= 2 * MILLISECOND);
    CHECK_EQ(0, fmux_wakeup(reader.mux));
    CHECK_EQ(0, fmux_stream_wait(&reader.stream, -1));
    CHECK_EQ(0, fmux_close(reader.mux));
    CHECK_EQ(-ESHUTDOWN, read_now(&reader));
    reader_close(&reader);
}

static void an_error_of_recv_is_a_row_unless_it_is_temporary(int mechanism)
{
    static const struct {
        int error, rows;
    } cases[] = {{ECONNRESET, 1}, {EINTR, 0}, {EAGAIN, 0}};
    int ends[2];
    reader_t reader = reader_open(mechanism);
    connection_open(&reader, ends);
    send_bytes(ends[1], 1, 'a');
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fault_arm(FAULT_RECV, 1, 1, cases[i].error);
        CHECK_EQ(cases[i].rows, read_now(&reader));
        CHECK_EQ(1, fault_disarm());
        if (cases[i].rows == 1)
            CHECK_EQ(-cases[i].error, reader.stream.lengths[0]);
    }
    CHECK_EQ(1, read_now(&reader));
    CHECK_EQ(1, reader.stream.lengths[0]);
    connection_close(&reader, ends);
    reader_close(&reader);
}

static void an_array_of_too_many_rows_is_refused(int mechanism)
{
    reader_t reader = reader_open(mechanism);
    array_t large = array_open(reader.mux, FMUX_OTHERS, SHARED);
    fmux_stream_t stream = reader.stream;
    stream.ready = large.ready;
    CHECK_EQ(-EINVAL, fmux_stream_wait(&stream, 0));
    array_close(&large);
    reader_close(&reader);
}

static void a_held_array_is_EBUSY(int mechanism)
{
    int ends[2];
    reader_t reader = reader_open(mechanism);
    connection_open(&reader, ends);
    send_bytes(ends[1], 1, 'a');
    CHECK_EQ(1, array_wait(&reader.array, 0));
    CHECK_EQ(-EBUSY, read_now(&reader));
    fmux_ready_release(reader.array.ready);
    CHECK_EQ(1, read_now(&reader));
    CHECK_EQ(0, array_wait(&reader.array, 0)); /* not held by the stream */
    connection_close(&reader, ends);
    reader_close(&reader);
}

const test_t stream_tests[] = {
    TEST(flagged_sockets_are_received_from, ON_ALL),
    TEST(unflagged_descriptors_are_reported, ON_ALL),
    TEST(descriptors_beyond_the_flags_are_reported, ON_ALL),
    TEST(the_end_of_a_stream_and_errors_are_rows, ON_ALL),
    TEST(a_writable_or_broken_socket_is_also_reported, ON_ALL),
    TEST(a_blocking_socket_does_not_block, ON_ALL),
    TEST(no_row_is_longer_than_a_chunk, ON_ALL),
    TEST(sockets_take_turns, ON_ALL),
    TEST(a_socket_that_is_unflagged_meanwhile_is_reported, ON_ALL),
    TEST(it_sleeps_and_can_be_woken, ON_ALL),
    TEST(an_error_of_recv_is_a_row_unless_it_is_temporary, ON_ALL),
    TEST(an_array_of_too_many_rows_is_refused, ON_EPOLL),
    TEST(a_held_array_is_EBUSY, ON_ALL),
    {NULL, NULL, 0},
};
