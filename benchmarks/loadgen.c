/* loadgen.c - drives an echo server: many connections, on each one message at
 * a time, sent, received in full, compared, and then the next.
 *
 *     loadgen HOST PORT CONNECTIONS SIZE SECONDS PID
 *
 * Prints one line of JSON. It also tells the CPU time that the process which
 * serves, PID, has used from the moment when every connection had been answered
 * once. The exit status is 0 if it could measure, whatever it has measured;
 * loadgen.py is the same in Python.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCH = 256,
    HEADER = 8,
    MAX_SIZE = 1 << 20,
    LETTERS = 26
};

typedef struct {
    int fd;             /* -1: given up after an error */
    uint32_t number;    /* of the connection, part of each message */
    uint32_t sequence;  /* of the message, part of it too */
    int sent;           /* bytes of the present message that have gone out */
    int received;       /* bytes of it that have come back */
    int64_t sent_at;    /* when the present message was sent */
} client_t;

static int set;        /* the epoll set */
static int size;
static int in_flight;  /* messages that have not come back yet */
static int64_t errors, wrong;
static char *letters[LETTERS]; /* each a message full of one letter */
static char buffer[MAX_SIZE];

#define PATIENCE INT64_C(2000000000) /* nanoseconds without an answer */

static uint32_t *latencies;  /* of all requests, in nanoseconds */
static size_t count, room;

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "loadgen: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The bytes of a message that the client is to send, or to get back: the two
 * numbers, and then one letter. No two messages of a run are the same. */
static char letter(const client_t *client)
{
    return (char)('a' + (client->number + client->sequence) % LETTERS);
}

static bool as_sent(const client_t *client, const char *bytes, int length)
{
    int at = client->received, head = at < HEADER ? HEADER - at : 0;
    char header[HEADER];
    memcpy(header, &client->number, 4);
    memcpy(header + 4, &client->sequence, 4);
    if (head > length)
        head = length;
    if (memcmp(bytes, header + at, (size_t)head) != 0)
        return false;
    bytes += head;
    length -= head;
    return length == 0 || (*bytes == letter(client) && memcmp(bytes, bytes + 1, (size_t)length - 1) == 0);
}

static void give_up(client_t *client)
{
    in_flight--;
    errors++;
    close(client->fd);
    client->fd = -1;
}

static void watch(client_t *client, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(set, operation, client->fd, &event) < 0)
        die("epoll_ctl");
}

/* Sends what the socket takes of the rest of the message. Returns false when it
 * has given up. */
static bool send_rest(client_t *client)
{
    while (client->sent < size) {
        int head = client->sent < HEADER ? HEADER - client->sent : 0;
        char header[HEADER];
        memcpy(header, &client->number, 4);
        memcpy(header + 4, &client->sequence, 4);
        struct iovec pieces[2] = {
            {.iov_base = header + client->sent % HEADER, .iov_len = (size_t)head},
            {.iov_base = letters[letter(client) - 'a'], .iov_len = (size_t)(size - client->sent - head)},
        };
        struct msghdr what = {.msg_iov = pieces + (head == 0), .msg_iovlen = head == 0 ? 1 : 2};
        ssize_t n = sendmsg(client->fd, &what, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0) {
            give_up(client);
            return false;
        }
        client->sent += (int)n;
    }
    return true;
}

static void send_message(client_t *client)
{
    client->sent = client->received = 0;
    client->sent_at = now();
    in_flight++;
    if (send_rest(client) && client->sent < size)
        watch(client, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
}

static void send_more(client_t *client)
{
    if (send_rest(client) && client->sent == size)
        watch(client, EPOLL_CTL_MOD, EPOLLIN);
}

static void keep_latency(int64_t ns)
{
    if (count == room) {
        room = room ? 2 * room : 65536;
        latencies = realloc(latencies, room * sizeof *latencies);
        if (!latencies)
            die("realloc");
    }
    latencies[count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

/* Receives what has come; after a whole message, sends the next one until the
 * time is up. end is 0 while there is to be one message only. */
static void receive(client_t *client, int64_t end)
{
    ssize_t n = recv(client->fd, buffer, (size_t)(size - client->received), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        give_up(client);
        return;
    }
    if (!as_sent(client, buffer, (int)n)) {
        wrong++;
        give_up(client);
        return;
    }
    client->received += (int)n;
    if (client->received < size)
        return;
    in_flight--;
    int64_t t = now();
    client->sequence++;
    if (t < end) {
        keep_latency(t - client->sent_at);
        send_message(client);
    }
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* In nanoseconds. */
static int64_t cpu_time(clockid_t process)
{
    struct timespec t = {0};
    clock_gettime(process, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static double percentile(int percent)
{
    return count ? latencies[(count - 1) * (size_t)percent / 100] : 0;
}

/* Has every message that is under way come back, until the clock says patience.
 * When it says end, CPU time is taken. Returns it, in nanoseconds. */
static int64_t drive(clockid_t server, int64_t end, int64_t patience)
{
    int64_t used = -1;
    while (in_flight > 0 && now() < patience) {
        struct epoll_event events[BATCH];
        int n = epoll_wait(set, events, BATCH, 100);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            client_t *client = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                send_more(client);
            if (client->fd >= 0 && events[i].events & ~(uint32_t)EPOLLOUT)
                receive(client, end);
        }
        if (used < 0 && now() >= end)
            used = cpu_time(server);
    }
    errors += in_flight;
    return used;
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: loadgen HOST PORT CONNECTIONS SIZE SECONDS PID\n");
        return 2;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    int connections = atoi(argv[3]);
    size = atoi(argv[4]);
    double seconds = atof(argv[5]);
    if (inet_pton(AF_INET, argv[1], &address.sin_addr) != 1 || connections < 1 || size < HEADER || size > MAX_SIZE) {
        fprintf(stderr, "loadgen: HOST must be an IPv4 address, SIZE %d to %d\n", HEADER, MAX_SIZE);
        return 2;
    }
    clockid_t server;
    if ((errno = clock_getcpuclockid(atoi(argv[6]), &server)) != 0)
        die("clock_getcpuclockid");

    set = epoll_create1(EPOLL_CLOEXEC);
    client_t *clients = calloc((size_t)connections, sizeof *clients);
    if (set < 0 || !clients)
        die("epoll_create1");
    for (int i = 0; i < LETTERS; i++) {
        letters[i] = malloc((size_t)size);
        if (!letters[i])
            die("malloc");
        memset(letters[i], 'a' + i, (size_t)size);
    }
    for (int i = 0; i < connections; i++) {
        client_t *client = &clients[i];
        int one = 1;
        client->number = (uint32_t)i;
        client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address) < 0)
            die("connect");
        setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        /* Where there is another default, one that sends by a timer, its cost
         * would be part of what is measured. */
        setsockopt(client->fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
        watch(client, EPOLL_CTL_ADD, EPOLLIN);
        send_message(client);
    }
    drive(server, 0, now() + PATIENCE);

    /* What is under way at the end has a while to come back; it is compared,
     * but not counted. */
    int64_t end = now() + (int64_t)(seconds * 1e9);
    int64_t used = cpu_time(server);
    for (int i = 0; i < connections; i++)
        if (clients[i].fd >= 0)
            send_message(&clients[i]);
    used = drive(server, end, end + PATIENCE) - used;

    if (count)
        qsort(latencies, count, sizeof *latencies, by_value);
    printf("{\"requests\": %zu, \"seconds\": %.6f, \"errors\": %lld, \"wrong\": %lld, "
           "\"median_ns\": %.0f, \"p99_ns\": %.0f, \"server_cpu_ns\": %lld}\n",
           count, seconds, (long long)errors, (long long)wrong, percentile(50), percentile(99), (long long)used);
    return 0;
}
