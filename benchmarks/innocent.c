/* Innocent clients, whose waits are measured: `innocent PORT HOST SOCKETS SECONDS`.
 *
 * SOCKETS idle WebSockets stay open. Three clients have something to do each 0.1 s, in turn: one sends a request over its
 * connection, one has 64 bytes echoed over its WebSocket, one connects for a request. Waits are counted from when it was due: what
 * is due while the one before is not answered comes after it. Who is cut off comes again; a request refused with 5xx is sent again.
 * Says `open` when all are open, waits for a line, runs; prints how many idle sockets were lost and how many tries failed, then the
 * waits: `request|echo|fresh NANOSECONDS`. What has no answer long after the end has waited until then. Real-time priority where it
 * may: the greedy clients have the same core.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define EVERY (SECOND / 10)
#define AGAIN (SECOND / 100) /* after a try that failed */
#define PATIENCE (20 * SECOND)
#define GUARD 60 /* seconds beside those that were asked for, after which this ends whatever happens */
#define ECHO 66  /* a frame of 64 bytes as it comes back, without a mask */
#define ROOM 4096

enum state { CLOSED, CONNECTING, UPGRADING, READY, WAITING };

struct client {
    const char *name;
    enum state state;
    int fd, is_idle;
    int64_t again;    /* not before this time */
    int64_t next;     /* when the next thing is due */
    int64_t due;      /* when that was due which is under way; 0: nothing is */
    size_t size;
    char seen[ROOM + 1];
};

enum { REQUEST, ECHOES, FRESH, BUSY };

static struct client *all;
static char request[512], upgrade[512];
static char frame[6 + 64] = {(char)0x82, (char)0xC0, 1, 2, 3, 4};
static int port, poller;
static long lost, failures;
static int64_t now, end;

static int64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * SECOND + at.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "innocent: %s\n", what);
    exit(1);
}

static void shuts(struct client *one) {
    close(one->fd);
    one->fd = -1;
    one->state = CLOSED;
    one->size = 0;
}

/* A try that came to nothing: the same again, soon. */
static void fails(struct client *one) {
    failures++;
    shuts(one);
    one->again = now + AGAIN;
}

static int sends(struct client *to, const char *data, size_t size) {
    return send(to->fd, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static void asks(struct client *one) {
    one->state = WAITING;
    one->size = 0;
    if (!(one == &all[ECHOES] ? sends(one, frame, sizeof frame) : sends(one, request, strlen(request)))) fails(one);
}

static void connects(struct client *one) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = one};
    int yes = 1;
    one->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    one->state = CONNECTING;
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    epoll_ctl(poller, EPOLL_CTL_ADD, one->fd, &event);
    if (connect(one->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) fails(one);
}

static void connected(struct client *one) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(one->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
        fails(one);
    } else if (one == &all[ECHOES] || one->is_idle) {
        one->state = UPGRADING;
        if (!sends(one, upgrade, strlen(upgrade))) fails(one);
    } else if (one->due) {
        asks(one);
    } else {
        one->state = READY;
    }
}

/* Whether an answer of 12 bytes, or an echo, is there; -1: something else is. */
static int answered(const struct client *one) {
    if (one == &all[ECHOES]) {
        if (one->size > 0 && one->seen[0] != frame[0]) return -1;
        return one->size >= ECHO;
    }
    const char *body = strstr(one->seen, "\r\n\r\n");
    if (one->size >= 12 && memcmp(one->seen, "HTTP/1.1 200", 12) != 0) return -1;
    return body != NULL && one->seen + one->size >= body + 4 + 12;
}

static void takes(struct client *one) {
    if (one->state == UPGRADING) {
        if (strstr(one->seen, "\r\n\r\n") == NULL) return;
        if (memcmp(one->seen, "HTTP/1.1 101", 12) != 0) {
            fails(one);
        } else if (one->due) {
            asks(one);
        } else {
            one->state = READY;
        }
        return;
    }
    int found = one->state == WAITING ? answered(one) : -1;
    if (found < 0) fails(one);
    if (found <= 0) return;
    printf("%s %lld\n", one->name, (long long)(now_ns() - one->due));
    one->due = 0;
    one->state = READY;
    if (one == &all[FRESH]) shuts(one);
}

/* An idle socket: whatever comes is its end, as nothing is sent to it. */
static void idles(struct client *one) {
    if (one->state != READY) return;
    lost++;
    shuts(one);
}

static void reads(struct client *one) {
    while (one->fd >= 0) {
        ssize_t got = recv(one->fd, one->seen + one->size, ROOM - one->size, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (one->is_idle && one->state == READY) {
            idles(one);
        } else if (got <= 0) {
            fails(one);
        } else {
            one->size += got;
            one->seen[one->size] = 0;
            takes(one);
        }
    }
}

static void turns(int64_t until) {
    struct epoll_event events[64];
    struct timespec pause = {0, until <= 0 ? 0 : until < AGAIN ? until : AGAIN};
    int ready = epoll_pwait2(poller, events, 64, &pause, NULL);
    now = now_ns();
    for (int i = 0; i < ready; i++) {
        struct client *one = events[i].data.ptr;
        if (one->state == CONNECTING) connected(one);
        if (one->state > CONNECTING) reads(one);
    }
}

/* Begins what is due; returns how long nothing more will be. */
static int64_t begins(void) {
    int64_t least = AGAIN;
    for (int i = 0; i < BUSY; i++) {
        struct client *one = &all[i];
        if (!one->due && one->next <= now && one->next < end) {
            one->due = one->next;
            one->next += EVERY;
        }
        if (one->due && one->state == READY) asks(one);
        if (one->state == CLOSED && one->again <= now && (one->due || one != &all[FRESH])) connects(one);
        if (!one->due && one->next < end && one->next - now < least) least = one->next - now;
    }
    return least;
}

static int finished(void) {
    for (int i = 0; i < BUSY; i++)
        if (all[i].due || all[i].next < end) return 0;
    return now >= end;
}

/* What is still due has waited until now. */
static void gives_up(void) {
    for (int i = 0; i < BUSY; i++)
        for (struct client *one = &all[i]; one->due; one->due = one->next < end ? one->next : 0, one->next += EVERY)
            printf("%s %lld\n", one->name, (long long)(now - one->due));
}

int main(int count, char **arguments) {
    if (count != 5) return 2;
    const char *names[] = {"request", "echo", "fresh"}, *host = arguments[2];
    struct sched_param first = {1};
    struct rlimit most = {SECOND / 1000, SECOND / 1000};
    int sockets = atoi(arguments[3]);
    double seconds = atof(arguments[4]);
    port = atoi(arguments[1]);
    sched_setscheduler(0, SCHED_RR, &first); /* refused without the right to it */
    setrlimit(RLIMIT_RTTIME, &most);         /* µs without a pause: nobody else has the core then */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);
    alarm((unsigned)seconds + GUARD);
    snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host);
    snprintf(upgrade, sizeof upgrade,
             "GET /echo HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", host);
    poller = epoll_create1(0);
    all = calloc(BUSY + sockets, sizeof *all);
    now = now_ns();
    int64_t start = now + 10 * SECOND;
    for (int i = 0; i < BUSY + sockets; i++) {
        struct client *one = &all[i];
        one->name = i < BUSY ? names[i] : "";
        one->is_idle = i >= BUSY;
        if (i == FRESH) continue;
        connects(one);
        while (one->state > CLOSED && one->state < READY && now < start) turns(SECOND);
        if (one->state != READY) fail("a connection did not open");
    }
    puts("open");
    fflush(stdout);
    if (getchar() != '\n') return 1;
    start = now = now_ns();
    end = start + (int64_t)(seconds * 1e9);
    for (int i = 0; i < BUSY; i++) all[i].next = start + i * EVERY / BUSY;
    while (!finished() && now < end + PATIENCE) turns(begins());
    gives_up();
    printf("lost %ld\nfailures %ld\n", lost, failures);
    return 0;
}
