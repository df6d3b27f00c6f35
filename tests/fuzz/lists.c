/* lists.c - fmux_poll_once and fmux_select_once, on lists that need not make sense. */
#include "model.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum { MOST_ASKED = 96 };

/* A list of the input's, in memory that is exactly as large as it has to be. */
static int32_t *input_list(int mechanism, int lengths[3])
{
    int total = lengths[0] + lengths[1] + lengths[2];
    int capacity = total + (int)input_pick(3);
    if (capacity == 0)
        capacity = 1;
    int size = fmux_once_size(mechanism, capacity);
    REQUIRE(size > 0);
    int32_t *memory = malloc((size_t)size * sizeof *memory);
    REQUIRE(memory != NULL);
    memset(memory, (int)input_byte(), (size_t)size * sizeof *memory);
    memory[0] = 0;
    memory[1] = capacity;
    memcpy(memory + 2, lengths, 3 * sizeof *memory);
    struct pollfd *records = (struct pollfd *)(memory + 8);
    int different = 1 + (int)input_pick(12); /* then they are repeated */
    for (int i = 0; i < total; i++) {
        if (i >= different) {
            records[i] = records[i - different];
            continue;
        }
        records[i].fd = input_fd();
        records[i].events = (short)(uint16_t)input_mask();
    }
    return memory;
}

void do_poll_once(void)
{
    int lengths[3] = {(int)input_pick(20), 0, 0};
    int32_t *memory = input_list(FMUX_POLL, lengths);
    int wake_fd = input_pick(3) == 0 ? input_fd() : -1;
    unsigned flag = input_byte(), time = input_byte();
    flag = flag < 240 ? 0 : flag;
    *(uint8_t *)memory = (uint8_t)flag;

    struct pollfd expected[20 + 1];
    memcpy(expected, memory + 8, (size_t)lengths[0] * sizeof *expected);
    expected[lengths[0]] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
    int found = poll_now(expected, (unsigned)lengths[0] + 1);
    int rows = found - (expected[lengths[0]].revents != 0);
    int64_t timeout_ns = found > 0 && time % 2 ? INT64_MIN + time : time * 10;

    int result = wake_fd < 0 && timeout_ns == 0
                     ? CALL(fmux_poll_once_now, lengths[0], memory)
                     : CALL(fmux_poll_once, lengths[0], memory, timeout_ns,
                            wake_fd);
    int left = *(uint8_t *)memory;
    if (flag != 0) {
        REQUIRE(result == -EBUSY && left == (int)flag);
    } else if (result < 0) {
        REQUIRE((result == -fault_error || result == -EINTR) && left == 0);
    } else {
        const int32_t *columns = memory + 8 + 2 * (memory[1] + 1);
        bool single = result > 0 && result < FMUX_ROWS;
        REQUIRE(left == (rows > 0 && !single ? 2 : 0));
        REQUIRE(rows == (single ? 1 : result == 0 ? 0
                                                  : result - FMUX_ROWS));
        for (int i = 0, row = 0; row < rows; i++) {
            if (expected[i].revents == 0)
                continue;
            REQUIRE(columns[memory[1] + row] == expected[i].fd);
            REQUIRE(columns[2 * memory[1] + row] ==
                    (uint16_t)expected[i].revents);
            REQUIRE(!single || result == columns[row]);
            row++;
        }
    }
    free(memory);
}

void do_select_once(void)
{
    int lengths[3];
    for (int kind = 0; kind < 3; kind++)
        lengths[kind] = (int)input_pick(MOST_ASKED / 3);
    int32_t *memory = input_list(FMUX_SELECT, lengths);
    unsigned flag = input_byte(), time = input_byte();
    flag = flag < 240 ? 0 : flag;
    *(uint8_t *)memory = (uint8_t)flag;

    static const uint32_t asked[3] = {EPOLLIN, EPOLLOUT, EPOLLPRI};
    const struct pollfd *record = (const struct pollfd *)(memory + 8);
    int places[MOST_ASKED], found[3] = {0, 0, 0}, total = 0;
    bool bad = false;
    for (int kind = 0; kind < 3; kind++)
        for (int i = 0; i < lengths[kind]; i++, record++) {
            int place = place_of(record->fd);
            bad = bad || place < 0 || files[place].kind == CLOSED;
            if (!bad && ask_as_select(record->fd, asked[kind]) != 0) {
                places[total++] = i;
                found[kind]++;
            }
        }
    int64_t timeout_ns = (bad || total > 0) && time % 2 ? INT64_MIN + time
                                                        : time * 10;
    int result = CALL(fmux_select_once, lengths[0], memory, timeout_ns);
    REQUIRE(*(uint8_t *)memory == flag);
    if (flag != 0) {
        REQUIRE(result == -EBUSY);
    } else if (result < 0 && result != -EBADF) {
        REQUIRE(result == -fault_error || result == -EINTR);
    } else if (bad) {
        REQUIRE(result == -EBADF);
    } else {
        REQUIRE(result == total);
        REQUIRE(memcmp(found, memory + 5, sizeof found) == 0);
        REQUIRE(memcmp(places, memory + 8 + 2 * memory[1],
                       (size_t)total * sizeof *places) == 0);
    }
    free(memory);
}

void do_sizes(void)
{
    int mechanism = input_int(), capacity = input_int();
    int bytes = fmux_ready_bytes(capacity);
    int numbers = fmux_once_size(mechanism, capacity);
    REQUIRE(bytes == -EINVAL || bytes / 28 >= capacity);
    REQUIRE(numbers == -EINVAL || numbers / 3 >= capacity);
    REQUIRE(fmux_epoll_nanoseconds() >> 1 == 0);
    REQUIRE(capacity > 0 || (bytes == -EINVAL && numbers == -EINVAL));
}
