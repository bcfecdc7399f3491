/* Full TLS handshakes, as many as a proxy takes: `handshakes PORT HOST CLIENTS SECONDS` prints how many were done.
 *
 * Each client is a process that connects, shakes hands and closes, one connection after the other, without tickets of earlier ones.
 * Each is given the certificate of HOST, not a default one, or nothing is printed.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
    fprintf(stderr, "handshakes: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void shake_hands(SSL_CTX *context, int port, const char *host) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
    SSL *tls = SSL_new(context);
    SSL_set_fd(tls, fd);
    SSL_set_tlsext_host_name(tls, host);
    if (SSL_connect(tls) != 1) fail("TLS handshake");
    if (X509_check_host(SSL_get0_peer_certificate(tls), host, 0, 0, NULL) != 1) fail("the certificate is not for the host");
    /* Nothing more is said, as by a client that is gone: an end that is negotiated would be measured too. */
    SSL_free(tls);
    close(fd);
}

int main(int count, char **arguments) {
    if (count != 5) fail("usage: handshakes PORT HOST CLIENTS SECONDS");
    int port = atoi(arguments[1]), clients = atoi(arguments[3]), results[2];
    double end = now() + atof(arguments[4]);
    if (pipe(results) < 0) fail("pipe");
    for (int client = 0; client < clients; client++) {
        if (fork() == 0) {
            SSL_CTX *context = SSL_CTX_new(TLS_client_method());
            SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
            long done = 0;
            for (; now() < end; done++) shake_hands(context, port, arguments[2]);
            if (write(results[1], &done, sizeof done) != sizeof done) fail("pipe");
            return 0;
        }
    }
    close(results[1]);
    long all = 0, done, status = 0;
    while (read(results[0], &done, sizeof done) == sizeof done) all += done;
    for (int one; wait(&one) > 0;) status |= one;
    if (status != 0) return 1;
    printf("%ld\n", all);
    return 0;
}
