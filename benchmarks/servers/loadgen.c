/* loadgen.c - load generator for echo servers: many connections, with one
 * message at a time in flight on each, which is compared when it is back.
 *
 *     loadgen HOST PORT CONNECTIONS SIZE SECONDS PID [REPEAT [close | datagrams]]
 *
 * HOST "unix" makes PORT the abstract name of a Unix socket. With REPEAT, the reply is
 * so many copies of the message. With "close", the server closes after a reply
 * and the client connects again, which is part of the request. With "datagrams", each
 * client is a UDP socket.
 *
 * Prints one line of JSON, including the CPU time of the server process PID
 * since every connection got its first reply. The exit status is 0 if the
 * measurement completed, even with errors in the replies. loadgen.py is the
 * same in Python, without Unix sockets and what follows PID.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCH = 256,
    HEADER = 8,
    MAX_SIZE = 1 << 20,
    LETTERS = 26
};

typedef struct {
    int fd;             /* -1: closed after an error */
    uint32_t number;    /* of the connection; part of each message */
    uint32_t sequence;  /* of the message; part of it, too */
    int sent;           /* bytes of the current message sent so far */
    int received;       /* bytes of its echo received so far */
    int64_t sent_at;    /* start time of the current message */
} client_t;

static int epfd;
static struct sockaddr_storage address;
static socklen_t address_size;
static int size;       /* bytes per message */
static int reply;      /* bytes per reply: a multiple of size */
static bool closing;   /* the server closes after each reply */
static int type = SOCK_STREAM;
static int in_flight;  /* messages without a complete echo */
static int64_t errors, wrong;
static char *letters[LETTERS]; /* one message body per letter */
static char buffer[MAX_SIZE];

#define TIMEOUT INT64_C(2000000000) /* nanoseconds to wait for the last echoes */

static uint32_t *latencies;  /* of all requests, in nanoseconds */
static size_t count, capacity;

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

/* The letter that fills the current message after the header, which holds the
 * two numbers. No two messages of a run are equal. */
static char letter(const client_t *client)
{
    return (char)('a' + (client->number + client->sequence) % LETTERS);
}

/* Compares received bytes of one copy of the message, from the offset at on. */
static bool matches(const client_t *client, int at, const char *bytes, int length)
{
    int head = at < HEADER ? HEADER - at : 0;
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

static void fail(client_t *client)
{
    in_flight--;
    errors++;
    close(client->fd);
    client->fd = -1;
}

static void watch(client_t *client, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(epfd, operation, client->fd, &event) < 0)
        die("epoll_ctl");
}

/* Sends as much of the message as the socket accepts. Returns false after an
 * error, which closes the connection. */
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
        struct msghdr message = {.msg_iov = pieces + (head == 0), .msg_iovlen = head == 0 ? 1 : 2};
        ssize_t n = sendmsg(client->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0) {
            fail(client);
            return false;
        }
        client->sent += (int)n;
    }
    return true;
}

static void open_connection(client_t *client)
{
    int one = 1;
    client->fd = socket(address.ss_family, type | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, address_size) < 0)
        die("connect");
    if (address.ss_family == AF_INET && type == SOCK_STREAM) {
        setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        /* A default such as BBR sends from a timer, whose cost would be part
         * of the measurement. */
        setsockopt(client->fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
    }
    watch(client, EPOLL_CTL_ADD, EPOLLIN);
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

static void record_latency(int64_t ns)
{
    if (count == capacity) {
        capacity = capacity ? 2 * capacity : 65536;
        latencies = realloc(latencies, capacity * sizeof *latencies);
        if (!latencies)
            die("realloc");
    }
    latencies[count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

/* Receives; after a complete reply, sends the next message, until the time end.
 * With end 0 there is only one message. */
static void receive(client_t *client, int64_t end)
{
    int left = reply - client->received, done = 0;
    ssize_t n = recv(client->fd, buffer, (size_t)(left > 0 && left < MAX_SIZE ? left : MAX_SIZE), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    bool closed = closing && n == 0 && left == 0;
    if ((n <= 0 && !closed) || n > left) {
        fail(client);
        return;
    }
    while (done < n) {
        int at = client->received % size;
        int length = (int)n - done < size - at ? (int)n - done : size - at;
        if (!matches(client, at, buffer + done, length)) {
            wrong++;
            fail(client);
            return;
        }
        client->received += length;
        done += length;
    }
    if (closing ? !closed : client->received < reply)
        return;
    if (closed) {
        close(client->fd);
        open_connection(client);
    }
    in_flight--;
    int64_t t = now();
    client->sequence++;
    if (t < end) {
        record_latency(t - client->sent_at);
        send_message(client);
    }
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Returns nanoseconds. */
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

/* Runs until nothing is in flight, or until the deadline. Returns the server's
 * CPU time at the time end, in nanoseconds. */
static int64_t drive(clockid_t server, int64_t end, int64_t deadline)
{
    int64_t used = -1;
    while (in_flight > 0 && now() < deadline) {
        struct epoll_event events[BATCH];
        int n = epoll_wait(epfd, events, BATCH, 100);
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
    if (argc < 7 || argc > 9) {
        fprintf(stderr, "usage: loadgen HOST PORT CONNECTIONS SIZE SECONDS PID [REPEAT [close | datagrams]]\n");
        return 2;
    }
    struct sockaddr_in *internet = (struct sockaddr_in *)&address;
    struct sockaddr_un *local = (struct sockaddr_un *)&address;
    bool valid;
    if (strcmp(argv[1], "unix") == 0) {
        size_t length = strlen(argv[2]);
        local->sun_family = AF_UNIX;
        address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
        valid = length < sizeof local->sun_path;
        if (valid)
            memcpy(local->sun_path + 1, argv[2], length);
    } else {
        internet->sin_family = AF_INET;
        internet->sin_port = htons((uint16_t)atoi(argv[2]));
        address_size = sizeof *internet;
        valid = inet_pton(AF_INET, argv[1], &internet->sin_addr) == 1;
    }
    int connections = atoi(argv[3]);
    size = atoi(argv[4]);
    double seconds = atof(argv[5]);
    int repeat = argc > 7 ? atoi(argv[7]) : 1;
    if (argc > 8 && strcmp(argv[8], "datagrams") == 0)
        type = SOCK_DGRAM;
    else
        closing = argc > 8;
    if (!valid || connections < 1 || size < HEADER || size > MAX_SIZE || repeat < 1 || repeat > 16 * MAX_SIZE / size) {
        fprintf(stderr, "loadgen: HOST must be an IPv4 address or unix, SIZE %d to %d\n", HEADER, MAX_SIZE);
        return 2;
    }
    reply = repeat * size;
    clockid_t server;
    if ((errno = clock_getcpuclockid(atoi(argv[6]), &server)) != 0)
        die("clock_getcpuclockid");

    epfd = epoll_create1(EPOLL_CLOEXEC);
    client_t *clients = calloc((size_t)connections, sizeof *clients);
    if (epfd < 0 || !clients)
        die("epoll_create1");
    for (int i = 0; i < LETTERS; i++) {
        letters[i] = malloc((size_t)size);
        if (!letters[i])
            die("malloc");
        memset(letters[i], 'a' + i, (size_t)size);
    }
    for (int i = 0; i < connections; i++) {
        client_t *client = &clients[i];
        client->number = (uint32_t)i;
        open_connection(client);
        send_message(client);
    }
    drive(server, 0, now() + TIMEOUT);

    /* Messages in flight at the end are still received and compared, but not
     * counted. */
    int64_t end = now() + (int64_t)(seconds * 1e9);
    int64_t used = cpu_time(server);
    for (int i = 0; i < connections; i++)
        if (clients[i].fd >= 0)
            send_message(&clients[i]);
    used = drive(server, end, end + TIMEOUT) - used;

    if (count)
        qsort(latencies, count, sizeof *latencies, by_value);
    printf("{\"requests\": %zu, \"seconds\": %.6f, \"errors\": %lld, \"wrong\": %lld, "
           "\"median_ns\": %.0f, \"p99_ns\": %.0f, \"server_cpu_ns\": %lld}\n",
           count, seconds, (long long)errors, (long long)wrong, percentile(50), percentile(99), (long long)used);
    return 0;
}
