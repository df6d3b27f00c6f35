/* tls.h - TLS by the libssl that is there at run time: no headers are needed. */
#ifndef LOAD_TLS_H
#define LOAD_TLS_H

typedef struct ssl_st tls_t; /* libssl's SSL */

/* Loads the library. Returns NULL, or the reason of the failure. */
const char *tls_load(const char *library);

/* Makes the handshake of a client on a blocking socket. The certificate is not
 * checked. Exits after an error. */
tls_t *tls_open(int fd);

/* Return the number of bytes; 0 if the socket is not ready; -1 after an error
 * or at the end. */
int tls_read(tls_t *tls, void *buffer, int size);
int tls_write(tls_t *tls, const void *buffer, int size);

#endif
