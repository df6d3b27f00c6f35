/* tls.c - see tls.h. The prototypes are those of OpenSSL 1.1 and 3. */
#include "tls.h"

#include "load.h"

#include <dlfcn.h>
#include <string.h>

enum {
    WANT_READ = 2, /* SSL_ERROR_WANT_READ */
    WANT_WRITE = 3 /* SSL_ERROR_WANT_WRITE */
};

static struct {
    const void *(*client_method)(void);
    void *(*new_context)(const void *method);
    tls_t *(*new_connection)(void *context);
    int (*set_fd)(tls_t *tls, int fd);
    int (*connect)(tls_t *tls);
    int (*read)(tls_t *tls, void *buffer, int size);
    int (*write)(tls_t *tls, const void *buffer, int size);
    int (*get_error)(const tls_t *tls, int result);
} ssl;

static void *context;

const char *tls_load(const char *library)
{
    static const struct {
        const char *name;
        void *function;
    } functions[] = {
        {"TLS_client_method", &ssl.client_method},
        {"SSL_CTX_new", &ssl.new_context},
        {"SSL_new", &ssl.new_connection},
        {"SSL_set_fd", &ssl.set_fd},
        {"SSL_connect", &ssl.connect},
        {"SSL_read", &ssl.read},
        {"SSL_write", &ssl.write},
        {"SSL_get_error", &ssl.get_error},
    };
    void *handle = dlopen(library, RTLD_NOW);
    if (!handle)
        return dlerror();
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *found = dlsym(handle, functions[i].name);
        if (!found)
            return dlerror();
        /* ISO C has no conversion from void * to a function pointer. */
        memcpy(functions[i].function, &found, sizeof found);
    }
    context = ssl.new_context(ssl.client_method());
    return context ? NULL : "SSL_CTX_new failed";
}

tls_t *tls_open(int fd)
{
    tls_t *tls = ssl.new_connection(context);
    if (!tls || ssl.set_fd(tls, fd) != 1 || ssl.connect(tls) != 1)
        load_die("TLS handshake");
    return tls;
}

static int result(const tls_t *tls, int n)
{
    if (n > 0)
        return n;
    int error = ssl.get_error(tls, n);
    return error == WANT_READ || error == WANT_WRITE ? 0 : -1;
}

int tls_read(tls_t *tls, void *buffer, int size)
{
    return result(tls, ssl.read(tls, buffer, size));
}

int tls_write(tls_t *tls, const void *buffer, int size)
{
    return result(tls, ssl.write(tls, buffer, size));
}
