/* http.c - load on an HTTP/1.1 server: GET / with keep-alive, one request at a
 * time in flight on each connection. A reply must have status 200, a
 * Content-Length and the expected body.
 *
 *     http HOST PORT CONNECTIONS SECONDS PID BODY [LIBSSL]
 *
 * With LIBSSL, a file name for dlopen(), the connections are encrypted.
 */
#include "load.h"
#include "tls.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum {
    MAX_REPLY = 4096
};

typedef struct {
    connection_t connection;
    tls_t *tls;   /* NULL: not encrypted */
    int received; /* bytes of the current reply */
    char reply[MAX_REPLY];
} client_t;

static char request[256];
static int request_size;
static const char *body;
static bool encrypted;

static void open_client(void *self, uint32_t number)
{
    client_t *client = self;
    (void)number;
    load_connect(&client->connection);
    /* The handshake blocks: it is not part of the measurement. */
    if (encrypted)
        client->tls = tls_open(client->connection.fd);
    if (fcntl(client->connection.fd, F_SETFL, O_NONBLOCK) < 0)
        load_die("fcntl");
}

static void send_request(void *self)
{
    client_t *client = self;
    client->received = 0;
    load_start(&client->connection);
    int n = client->tls ? tls_write(client->tls, request, request_size)
                        : (int)send(client->connection.fd, request, (size_t)request_size, MSG_NOSIGNAL);
    if (n != request_size)
        load_fail(&client->connection);
}

/* Returns the number of bytes received, 0 if there are none, -1 after an error
 * or at the end. */
static int receive(client_t *client)
{
    char *place = client->reply + client->received;
    int room = MAX_REPLY - 1 - client->received;
    if (room == 0)
        return -1;
    if (client->tls)
        return tls_read(client->tls, place, room);
    ssize_t n = recv(client->connection.fd, place, (size_t)room, 0);
    return n > 0 ? (int)n : n < 0 && errno == EAGAIN ? 0
                                                     : -1;
}

/* Finds the value of Content-Length in the lines before the end of the head;
 * returns -1 if there is none. */
static int content_length(const char *line, const char *end)
{
    static const char name[] = "\r\nContent-Length:";
    for (; line < end; line++)
        if (*line == '\r' && strncasecmp(line, name, sizeof name - 1) == 0)
            return atoi(line + sizeof name - 1);
    return -1;
}

/* Returns 1 if the reply is complete, 0 if it is not, -1 if it is wrong. */
static int check(client_t *client)
{
    static const char status[] = "HTTP/1.1 200 ";
    client->reply[client->received] = 0;
    const char *head_end = strstr(client->reply, "\r\n\r\n");
    if (!head_end)
        return 0;
    const char *content = head_end + 4;
    size_t expected = strlen(body), received = (size_t)(client->reply + client->received - content);
    if (strncmp(client->reply, status, sizeof status - 1) != 0 ||
        content_length(client->reply, head_end) != (int)expected || received > expected ||
        memcmp(content, body, received) != 0)
        return -1;
    return received == expected;
}

static void handle(void *self, uint32_t events)
{
    client_t *client = self;
    (void)events;
    /* An encrypted reply may arrive in several records, of which the library
     * reads one at a time. */
    for (int n; (n = receive(client)) != 0;) {
        if (n < 0) {
            load_fail(&client->connection);
            return;
        }
        client->received += n;
        int state = check(client);
        if (state < 0) {
            load_wrong = true;
            load_fail(&client->connection);
            return;
        }
        if (state > 0) {
            if (load_finish(&client->connection))
                send_request(client);
            return;
        }
    }
}

int main(int argc, char **argv)
{
    static const load_t load = {sizeof(client_t), open_client, send_request, handle};
    if (argc < 7 || argc > 8) {
        fprintf(stderr, "usage: http HOST PORT CONNECTIONS SECONDS PID BODY [LIBSSL]\n");
        return 2;
    }
    int connections = atoi(argv[3]);
    if (!load_set_address(argv[1], argv[2]) || connections < 1) {
        fprintf(stderr, "http: HOST must be an IPv4 address\n");
        return 2;
    }
    body = argv[6];
    request_size = snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: %s:%s\r\n\r\n", argv[1], argv[2]);
    if (argc > 7) {
        encrypted = true;
        signal(SIGPIPE, SIG_IGN); /* the library writes without MSG_NOSIGNAL */
        const char *reason = tls_load(argv[7]);
        if (reason) {
            fprintf(stderr, "http: %s\n", reason);
            return 3;
        }
    }
    load_run(&load, connections, atof(argv[4]), atoi(argv[5]));
    return 0;
}
