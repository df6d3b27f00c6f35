/* loadgen.c - drives an echo server: many connections, on each one message at
 * a time, sent, received in full, compared, and then the next.
 *
 *     loadgen HOST PORT CONNECTIONS SIZE SECONDS
 *
 * Prints one line of JSON. The exit status is 0 if it could measure, whatever
 * it has measured; loadgen.py is the same in Python.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 256, MAX_SIZE = 65536 };

typedef struct {
    int fd;             /* -1: given up after an error */
    uint32_t number;    /* of the connection, part of each message */
    uint32_t sequence;  /* of the message, part of it too */
    int received;       /* bytes of the present message that have come back */
    int64_t sent_at;    /* when the present message was sent */
} client_t;

static int size;
static int in_flight;  /* messages that have not come back yet */
static int64_t errors, wrong;
static char message[MAX_SIZE], buffer[MAX_SIZE];

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

/* Builds the message that the client is to send, or to get back. No two
 * messages of a run are the same. */
static void compose(const client_t *client)
{
    memcpy(message, &client->number, 4);
    memcpy(message + 4, &client->sequence, 4);
    memset(message + 8, 'a' + (int)((client->number + client->sequence) % 26), (size_t)size - 8);
}

static void give_up(client_t *client)
{
    in_flight--;
    errors++;
    close(client->fd);
    client->fd = -1;
}

/* A message is far smaller than a socket's buffer, and the one before it has
 * come back: it goes out at once and whole, or something is wrong. */
static void send_message(client_t *client)
{
    compose(client);
    client->received = 0;
    client->sent_at = now();
    in_flight++;
    if (send(client->fd, message, (size_t)size, MSG_NOSIGNAL) != size)
        give_up(client);
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

static void receive(client_t *client, int64_t end)
{
    ssize_t n = recv(client->fd, buffer, (size_t)(size - client->received), 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        give_up(client);
        return;
    }
    compose(client);
    if (memcmp(buffer, message + client->received, (size_t)n) != 0) {
        wrong++;
        give_up(client);
        return;
    }
    client->received += (int)n;
    if (client->received < size)
        return;
    in_flight--;
    int64_t t = now();
    if (t < end) {
        keep_latency(t - client->sent_at);
        client->sequence++;
        send_message(client);
    }
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile(int percent)
{
    return count ? latencies[(count - 1) * (size_t)percent / 100] : 0;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: loadgen HOST PORT CONNECTIONS SIZE SECONDS\n");
        return 2;
    }
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2])) };
    int connections = atoi(argv[3]);
    size = atoi(argv[4]);
    double seconds = atof(argv[5]);
    if (inet_pton(AF_INET, argv[1], &address.sin_addr) != 1 || connections < 1 || size < 8 || size > MAX_SIZE) {
        fprintf(stderr, "loadgen: HOST must be an IPv4 address, SIZE 8 to %d\n", MAX_SIZE);
        return 2;
    }

    int set = epoll_create1(EPOLL_CLOEXEC);
    client_t *clients = calloc((size_t)connections, sizeof *clients);
    if (set < 0 || !clients)
        die("epoll_create1");
    for (int i = 0; i < connections; i++) {
        client_t *client = &clients[i];
        int one = 1;
        client->number = (uint32_t)i;
        client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address) < 0)
            die("connect");
        setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = client };
        if (epoll_ctl(set, EPOLL_CTL_ADD, client->fd, &event) < 0)
            die("epoll_ctl");
    }

    /* What is under way at the end has a while to come back; it is compared,
     * but not counted. */
    int64_t end = now() + (int64_t)(seconds * 1e9), patience = end + 2000000000;
    for (int i = 0; i < connections; i++)
        send_message(&clients[i]);
    while (in_flight > 0 && now() < patience) {
        struct epoll_event events[BATCH];
        int n = epoll_wait(set, events, BATCH, 100);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++)
            receive(events[i].data.ptr, end);
    }
    errors += in_flight;

    if (count)
        qsort(latencies, count, sizeof *latencies, by_value);
    printf("{\"requests\": %zu, \"seconds\": %.6f, \"errors\": %lld, \"wrong\": %lld, "
           "\"median_ns\": %.0f, \"p99_ns\": %.0f}\n",
           count, seconds, (long long)errors, (long long)wrong, percentile(50), percentile(99));
    return 0;
}
