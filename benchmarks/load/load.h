/* load.h - what the load generators share: sockets, the event loop, latencies.
 *
 * A generator has many connections with one request at a time in flight on
 * each. It prints one line of JSON, including the CPU time of the server
 * process since every connection got its first reply. The exit status is 0
 * if the measurement completed, even with errors in the replies. */
#ifndef LOAD_H
#define LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    int fd;           /* -1: closed after an error */
    int64_t sent_at;  /* start time of the current request */
} connection_t;

/* A kind of request. Its client structs begin with a connection_t. */
typedef struct {
    size_t client_size;
    /* Connects. */
    void (*open)(void *client, uint32_t number);
    /* Starts a request, after load_start(). */
    void (*send)(void *client);
    /* Handles events of epoll. After a complete reply, calls load_finish(). */
    void (*handle)(void *client, uint32_t events);
} load_t;

extern bool load_wrong; /* the next error is a wrong reply */

_Noreturn void load_die(const char *what);

/* Sets the address of the server. HOST "unix" makes PORT the abstract name of
 * a Unix socket. Returns false if it is not valid. */
bool load_set_address(const char *host, const char *port);

/* Makes datagram sockets from now on. */
void load_use_datagrams(void);

/* Connects and watches for input. */
void load_connect(connection_t *connection);

/* Changes the watched events. */
void load_watch(connection_t *connection, uint32_t events);

/* Counts a new request and takes the time. */
void load_start(connection_t *connection);

/* Counts an error and closes the connection. */
void load_fail(connection_t *connection);

/* Counts a complete reply. Returns true if another request is due. */
bool load_finish(connection_t *connection);

/* Makes one request on each connection, then measures for so many seconds,
 * and prints the results. */
void load_run(const load_t *load, int connections, double seconds, int server);

#endif
