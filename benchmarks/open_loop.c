/* Load at a fixed rate, whatever the answers take: `open_loop http|ws PORT TLS(0|1) CONNECTIONS RATE SECONDS SPIN(0|1)`.
 *
 * Requests are due at times of a Poisson process with a fixed seed, the same for every proxy; the latency of each is counted from
 * when it was due, not from when it could be sent. http: keep-alive GETs, one at a time on a connection; what is due while all are
 * taken waits. ws: echoes of 64 bytes, the sockets in turn, any number under way. The first half second is not counted. SPIN: never
 * sleeps, for a core of its own. Prints the longest time without an answer, the longest pause of its own, and the latencies, in ns;
 * ends with 3 where the rate is too much.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 128
#define BUFFER 16384
#define UNDER_WAY 4096 /* on one socket, of two: what a ring of theirs holds */
#define ECHO 66        /* a frame of 64 bytes as it comes back, without a mask */
#define WARM 500000000LL
#define PATIENCE 10000000000LL

static const char GET[] = "GET / HTTP/1.1\r\nHost: bench.localhost\r\nAccept: */*\r\n\r\n";
static const char UPGRADE[] =
    "GET /echo HTTP/1.1\r\nHost: bench.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

struct connection {
    int64_t due[UNDER_WAY]; /* of what is under way, a ring */
    unsigned first, last;
    SSL *tls;
    int fd;
    size_t size;
    char seen[BUFFER + 1];
};

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "open_loop: %s\n", what);
    exit(1);
}

static void too_much(const char *what) {
    fprintf(stderr, "open_loop: the rate is too high: %s\n", what);
    exit(3);
}

static void sends(struct connection *to, const char *data, int size) {
    int sent = to->tls != NULL ? SSL_write(to->tls, data, size) : (int)send(to->fd, data, size, MSG_NOSIGNAL);
    if (sent != size) too_much("a send was not taken whole");
}

/* Reads what there is; 0: nothing more now. */
static int reads(struct connection *from) {
    int room = BUFFER - from->size, got;
    if (from->tls != NULL) {
        got = SSL_read(from->tls, from->seen + from->size, room);
        if (got <= 0 && SSL_get_error(from->tls, got) == SSL_ERROR_WANT_READ) return 0;
    } else {
        got = recv(from->fd, from->seen + from->size, room, MSG_DONTWAIT);
        if (got < 0) return 0;
    }
    if (got <= 0) fail("the proxy closed a connection");
    from->size += got;
    from->seen[from->size] = 0;
    return got;
}

/* Takes one answer off what was seen; 0: it is not whole yet. */
static int takes(struct connection *from, int http) {
    size_t whole = ECHO;
    if (http) {
        char *end = strstr(from->seen, "\r\n\r\n");
        if (end == NULL) return 0;
        if (strncmp(from->seen, "HTTP/1.1 200", 12) != 0) fail(from->seen);
        char *length = strcasestr(from->seen, "\r\ncontent-length:");
        if (length == NULL || length > end) fail("an answer without Content-Length");
        whole = end + 4 - from->seen + atoi(length + 17);
    }
    if (from->size < whole) return 0;
    from->size -= whole;
    memmove(from->seen, from->seen + whole, from->size + 1);
    return 1;
}

static void opens(struct connection *one, int port, SSL_CTX *context, int http) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int yes = 1;
    one->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(one->fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (context != NULL) {
        one->tls = SSL_new(context);
        SSL_set_fd(one->tls, one->fd);
        SSL_set_tlsext_host_name(one->tls, "bench.localhost");
        if (SSL_connect(one->tls) != 1) fail("TLS handshake");
    }
    if (!http) {
        sends(one, UPGRADE, sizeof UPGRADE - 1);
        while (strstr(one->seen, "\r\n\r\n") == NULL) {
            int got = one->tls != NULL ? SSL_read(one->tls, one->seen + one->size, BUFFER - one->size)
                                       : (int)recv(one->fd, one->seen + one->size, BUFFER - one->size, 0);
            if (got <= 0) fail("no answer to the upgrade");
            one->size += got;
        }
        if (strncmp(one->seen, "HTTP/1.1 101", 12) != 0) fail(one->seen);
        one->size = 0;
    }
    fcntl(one->fd, F_SETFL, O_NONBLOCK);
}

/* Nanoseconds to the next request: exponentially distributed. */
static double gap(double mean) {
    static uint64_t state = 88172645463325252ULL; /* xorshift64 */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return -log((double)((state >> 11) + 1) / 9007199254740993.0) * mean;
}

int main(int count, char **arguments) {
    if (count != 8) return 2;
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1);
    int http = strcmp(arguments[1], "http") == 0, port = atoi(arguments[2]), connections = atoi(arguments[4]), spin = atoi(arguments[7]);
    double mean = 1e9 / atof(arguments[5]), seconds = atof(arguments[6]);
    SSL_CTX *context = atoi(arguments[3]) ? SSL_CTX_new(TLS_client_method()) : NULL;
    struct connection *all = calloc(connections, sizeof *all);
    /* Connections that are free, a ring: the one that waited longest is next. ws: all are, always. */
    int *free_ones = calloc(connections, sizeof *free_ones);
    unsigned free_first = 0, free_last = 0, next = 0;
    int poller = epoll_create1(0);
    for (int i = 0; i < connections; i++) {
        opens(&all[i], port, context, http);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(poller, EPOLL_CTL_ADD, all[i].fd, &event);
        free_ones[free_last++ % connections] = i;
    }
    char frame[6 + 64] = {(char)0x82, (char)0xC0, 1, 2, 3, 4};
    size_t room = (size_t)(seconds / mean * 1e9 * 1.2) + 10000, waiting = 0, queued = 0, found = 0;
    int64_t *queue = calloc(room, sizeof *queue), *latencies = calloc(room, sizeof *latencies);
    int64_t start = now_ns() + 1000000, counted = start + WARM, end = counted + (int64_t)(seconds * 1e9);
    int64_t last_turn = 0, last_answer = 0, longest_pause = 0, longest_gap = 0;
    double due = start;
    for (;;) {
        int64_t now = now_ns();
        if (spin && last_turn > counted && now - last_turn > longest_pause) longest_pause = now - last_turn;
        last_turn = now;
        for (; due <= now && due < end && queued < room; due += gap(mean)) queue[queued++] = (int64_t)due;
        for (; waiting < queued && (!http || free_first != free_last); waiting++) {
            struct connection *to = http ? &all[free_ones[free_first++ % connections]] : &all[next++ % connections];
            if (to->last - to->first == UNDER_WAY) too_much("nothing comes back");
            to->due[to->last++ % UNDER_WAY] = queue[waiting];
            sends(to, http ? GET : frame, http ? sizeof GET - 1 : sizeof frame);
        }
        if (due >= end && waiting == queued && found == queued) break;
        if (now > end + PATIENCE) too_much("answers are missing long after the last request");
        struct epoll_event events[EVENTS];
        int64_t left = due < end ? (int64_t)due - now : 100000000;
        struct timespec pause = {0, spin || left < 0 ? 0 : left > 999999999 ? 999999999 : left};
        int ready = epoll_pwait2(poller, events, EVENTS, &pause, NULL);
        for (int i = 0; i < ready; i++) {
            struct connection *from = &all[events[i].data.u32];
            while (reads(from) > 0) {
                while (from->first != from->last && takes(from, http)) {
                    int64_t at = now_ns(), was = from->due[from->first++ % UNDER_WAY];
                    if (last_answer > counted && at - last_answer > longest_gap) longest_gap = at - last_answer;
                    last_answer = at;
                    latencies[found++] = was < counted ? -1 : at - was;
                    if (http) free_ones[free_last++ % connections] = events[i].data.u32;
                }
                if (from->tls == NULL) break;
            }
        }
    }
    printf("%lld %lld\n", (long long)longest_gap, (long long)longest_pause);
    for (size_t i = 0; i < found; i++)
        if (latencies[i] >= 0) printf("%lld\n", (long long)latencies[i]);
    return 0;
}
