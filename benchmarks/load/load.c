/* load.c - see load.h. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BATCH 256
#define TIMEOUT INT64_C(10000000000) /* nanoseconds to wait for the last replies */

bool load_wrong;

static int epfd;
static struct sockaddr_storage address;
static socklen_t address_size;
static int type = SOCK_STREAM;
static int in_flight; /* requests without a complete reply */
static int64_t end;   /* of the measurement; 0: one request only */
static int64_t errors, wrong;
static uint32_t *latencies; /* of all requests, in nanoseconds */
static size_t count, capacity;

static int64_t nanoseconds(clockid_t clock)
{
    struct timespec t = {0};
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t now(void)
{
    return nanoseconds(CLOCK_MONOTONIC);
}

void load_die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

bool load_set_address(const char *host, const char *port)
{
    struct sockaddr_in *internet = (struct sockaddr_in *)&address;
    struct sockaddr_un *local = (struct sockaddr_un *)&address;
    if (strcmp(host, "unix") != 0) {
        internet->sin_family = AF_INET;
        internet->sin_port = htons((uint16_t)atoi(port));
        address_size = sizeof *internet;
        return inet_pton(AF_INET, host, &internet->sin_addr) == 1;
    }
    size_t length = strlen(port);
    if (length >= sizeof local->sun_path)
        return false;
    local->sun_family = AF_UNIX;
    address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
    memcpy(local->sun_path + 1, port, length);
    return true;
}

static void control(connection_t *connection, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(epfd, operation, connection->fd, &event) < 0)
        load_die("epoll_ctl");
}

void load_use_datagrams(void)
{
    type = SOCK_DGRAM;
}

void load_connect(connection_t *connection)
{
    int one = 1;
    int fd = connection->fd = socket(address.ss_family, type | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, address_size) < 0)
        load_die("connect");
    if (address.ss_family == AF_INET && type == SOCK_STREAM) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        /* A default such as BBR sends from a timer, whose cost would be part
         * of the measurement. */
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
    }
    control(connection, EPOLL_CTL_ADD, EPOLLIN);
}

void load_watch(connection_t *connection, uint32_t events)
{
    control(connection, EPOLL_CTL_MOD, events);
}

void load_start(connection_t *connection)
{
    connection->sent_at = now();
    in_flight++;
}

void load_fail(connection_t *connection)
{
    in_flight--;
    errors++;
    wrong += load_wrong;
    load_wrong = false;
    close(connection->fd);
    connection->fd = -1;
}

static void record_latency(int64_t ns)
{
    if (count == capacity) {
        capacity = capacity ? 2 * capacity : 65536;
        latencies = realloc(latencies, capacity * sizeof *latencies);
        if (!latencies)
            load_die("realloc");
    }
    latencies[count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

bool load_finish(connection_t *connection)
{
    in_flight--;
    int64_t t = now();
    if (t >= end)
        return false;
    record_latency(t - connection->sent_at);
    return true;
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

/* Runs until nothing is in flight, or until the deadline. Returns the server's
 * CPU time at the end of the measurement, in nanoseconds. */
static int64_t drive(const load_t *load, clockid_t server, int64_t deadline)
{
    int64_t used = -1;
    while (in_flight > 0 && now() < deadline) {
        struct epoll_event events[BATCH];
        int n = epoll_wait(epfd, events, BATCH, 100);
        if (n < 0 && errno != EINTR)
            load_die("epoll_wait");
        for (int i = 0; i < n; i++)
            load->handle(events[i].data.ptr, events[i].events);
        if (used < 0 && now() >= end)
            used = nanoseconds(server);
    }
    errors += in_flight;
    return used < 0 ? nanoseconds(server) : used;
}

void load_run(const load_t *load, int connections, double seconds, int process)
{
    clockid_t server;
    if ((errno = clock_getcpuclockid(process, &server)) != 0)
        load_die("clock_getcpuclockid");
    epfd = epoll_create1(EPOLL_CLOEXEC);
    char *clients = calloc((size_t)connections, load->client_size);
    if (epfd < 0 || !clients)
        load_die("epoll_create1");
    char *last = clients + (size_t)connections * load->client_size;
    uint32_t number = 0;
    for (char *client = clients; client < last; client += load->client_size) {
        load->open(client, number++);
        load->send(client);
    }
    drive(load, server, now() + TIMEOUT);

    int64_t used = 0;
    if (errors == 0) {
        /* Requests in flight at the end are still received and checked, but
         * not counted. */
        end = now() + (int64_t)(seconds * 1e9);
        int64_t before = nanoseconds(server);
        for (char *client = clients; client < last; client += load->client_size)
            load->send(client);
        used = drive(load, server, end + TIMEOUT) - before;
    }

    if (count)
        qsort(latencies, count, sizeof *latencies, by_value);
    printf("{\"requests\": %zu, \"seconds\": %.6f, \"errors\": %lld, \"wrong\": %lld, "
           "\"median_ns\": %.0f, \"p99_ns\": %.0f, \"server_cpu_ns\": %lld}\n",
           count, seconds, (long long)errors, (long long)wrong, percentile(50), percentile(99), (long long)used);
}
