/* echo.c - load on an echo server: one message at a time in flight on each
 * connection, which is compared when it is back.
 *
 *     echo HOST PORT CONNECTIONS SIZE SECONDS PID [REPEAT [close | datagrams]]
 *
 * HOST "unix" makes PORT the abstract name of a Unix socket. With REPEAT, the reply is
 * so many copies of the message. With "close", the server closes after a reply
 * and the client connects again, which is part of the request. With "datagrams", each
 * client is a UDP socket. echo_fallback.py is the same in Python, without Unix sockets
 * and what follows PID.
 */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    HEADER = 8,
    MAX_SIZE = 1 << 20,
    LETTERS = 26
};

typedef struct {
    connection_t connection;
    uint32_t number;    /* of the connection; part of each message */
    uint32_t sequence;  /* of the message; part of it, too */
    int sent;           /* bytes of the current message sent so far */
    int received;       /* bytes of its echo received so far */
} client_t;

static int size;               /* bytes per message */
static int reply;              /* bytes per reply: a multiple of size */
static bool closing;           /* the server closes after each reply */
static char *letters[LETTERS]; /* one message body per letter */
static char buffer[MAX_SIZE];

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
        ssize_t n = sendmsg(client->connection.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0) {
            load_fail(&client->connection);
            return false;
        }
        client->sent += (int)n;
    }
    return true;
}

static void open_client(void *self, uint32_t number)
{
    client_t *client = self;
    client->number = number;
    load_connect(&client->connection);
}

static void send_message(void *self)
{
    client_t *client = self;
    client->sent = client->received = 0;
    load_start(&client->connection);
    if (send_rest(client) && client->sent < size)
        load_watch(&client->connection, EPOLLIN | EPOLLOUT);
}

static void receive(client_t *client)
{
    int left = reply - client->received, done = 0;
    ssize_t n =
        recv(client->connection.fd, buffer, (size_t)(left > 0 && left < MAX_SIZE ? left : MAX_SIZE), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    bool closed = closing && n == 0 && left == 0;
    if ((n <= 0 && !closed) || n > left) {
        load_fail(&client->connection);
        return;
    }
    while (done < n) {
        int at = client->received % size;
        int length = (int)n - done < size - at ? (int)n - done : size - at;
        if (!matches(client, at, buffer + done, length)) {
            load_wrong = true;
            load_fail(&client->connection);
            return;
        }
        client->received += length;
        done += length;
    }
    if (closing ? !closed : client->received < reply)
        return;
    if (closed) {
        close(client->connection.fd);
        load_connect(&client->connection);
    }
    client->sequence++;
    if (load_finish(&client->connection))
        send_message(client);
}

static void handle(void *self, uint32_t events)
{
    client_t *client = self;
    if (events & EPOLLOUT && send_rest(client) && client->sent == size)
        load_watch(&client->connection, EPOLLIN);
    if (client->connection.fd >= 0 && events & ~(uint32_t)EPOLLOUT)
        receive(client);
}

int main(int argc, char **argv)
{
    static const load_t load = {sizeof(client_t), open_client, send_message, handle};
    if (argc < 7 || argc > 9) {
        fprintf(stderr, "usage: echo HOST PORT CONNECTIONS SIZE SECONDS PID [REPEAT [close | datagrams]]\n");
        return 2;
    }
    int connections = atoi(argv[3]);
    int repeat = argc > 7 ? atoi(argv[7]) : 1;
    size = atoi(argv[4]);
    if (argc > 8 && strcmp(argv[8], "datagrams") == 0)
        load_use_datagrams();
    else
        closing = argc > 8;
    if (!load_set_address(argv[1], argv[2]) || connections < 1 || size < HEADER || size > MAX_SIZE || repeat < 1 ||
        repeat > 16 * MAX_SIZE / size) {
        fprintf(stderr, "echo: HOST must be an IPv4 address or unix, SIZE %d to %d\n", HEADER, MAX_SIZE);
        return 2;
    }
    reply = repeat * size;
    for (int i = 0; i < LETTERS; i++) {
        letters[i] = malloc((size_t)size);
        if (!letters[i])
            load_die("malloc");
        memset(letters[i], 'a' + i, (size_t)size);
    }
    load_run(&load, connections, atof(argv[5]), atoi(argv[6]));
    return 0;
}
