/* A relay that only copies: what a proxy costs that does nothing. `relay BACKEND_PORT` prints its own port and runs until killed.
 *
 * One thread, level-triggered epoll. Each connection of a client gets one of its own to the backend; what is read on one side is
 * written to the other. What does not fit is held, and its source is not read until it is gone. An end of one side is passed on.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define PIECE 65536

struct side {
    struct side *other;
    char *held; /* read from the other side, not yet taken by this one */
    size_t held_size;
    int fd;
    char ended; /* nothing more comes from it */
    char shut;  /* nothing more goes to it */
    char gone;
};

static int poller;
static char piece[PIECE];
static struct side *closed[EVENTS]; /* pairs closed in this turn: events of it may still name them */
static int closed_count;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(struct side *side, int operation) {
    struct epoll_event event = {.data.ptr = side};
    if (!side->ended && side->other->held == NULL) event.events |= EPOLLIN;
    if (side->held != NULL) event.events |= EPOLLOUT;
    if (epoll_ctl(poller, operation, side->fd, &event) < 0) fail("epoll_ctl");
}

static void close_both(struct side *side) {
    for (int i = 0; i < 2; i++, side = side->other) {
        side->gone = 1;
        close(side->fd);
        free(side->held);
    }
    closed[closed_count++] = side < side->other ? side : side->other;
}

/* Passes an end on once nothing is held; both are closed when both have ended. */
static void settle(struct side *side) {
    if (side->other->ended && side->held == NULL && !side->shut) {
        side->shut = 1;
        shutdown(side->fd, SHUT_WR);
    }
    if (side->shut && side->other->shut) close_both(side);
}

static void flush(struct side *side) {
    ssize_t sent = send(side->fd, side->held, side->held_size, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN) close_both(side);
        return;
    }
    side->held_size -= sent;
    if (side->held_size > 0) {
        memmove(side->held, side->held + sent, side->held_size);
        return;
    }
    free(side->held);
    side->held = NULL;
    watch(side, EPOLL_CTL_MOD);
    watch(side->other, EPOLL_CTL_MOD);
    settle(side);
}

static void copy(struct side *side) {
    struct side *other = side->other;
    ssize_t size = recv(side->fd, piece, PIECE, 0);
    if (size < 0) {
        if (errno != EAGAIN) close_both(side);
        return;
    }
    if (size == 0) {
        side->ended = 1;
        watch(side, EPOLL_CTL_MOD);
        settle(other);
        return;
    }
    ssize_t sent = send(other->fd, piece, size, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN) {
            close_both(side);
            return;
        }
        sent = 0;
    }
    if (sent < size) {
        other->held_size = size - sent;
        other->held = malloc(other->held_size);
        memcpy(other->held, piece + sent, other->held_size);
        watch(other, EPOLL_CTL_MOD);
        watch(side, EPOLL_CTL_MOD);
    }
}

static void accept_all(int listener, const struct sockaddr_in *backend) {
    int one = 1, fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct side *pair = calloc(2, sizeof *pair);
        pair[0].fd = fd;
        pair[1].fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (pair[1].fd < 0) fail("socket");
        for (int i = 0; i < 2; i++) {
            pair[i].other = &pair[1 - i];
            setsockopt(pair[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        }
        if (connect(pair[1].fd, (const struct sockaddr *)backend, sizeof *backend) < 0 && errno != EINPROGRESS) fail("connect");
        watch(&pair[0], EPOLL_CTL_ADD);
        watch(&pair[1], EPOLL_CTL_ADD);
    }
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    struct sockaddr_in backend = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof own;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(listener, (struct sockaddr *)&own, size) < 0 || listen(listener, 4096) < 0) fail("listen");
    getsockname(listener, (struct sockaddr *)&own, &size);
    printf("%d\n", ntohs(own.sin_port));
    fflush(stdout);
    poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN}, events[EVENTS];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct side *side = events[i].data.ptr;
            if (side == NULL) {
                accept_all(listener, &backend);
                continue;
            }
            if (!side->gone && side->held != NULL && events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) flush(side);
            if (!side->gone && !side->ended && side->other->held == NULL && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) copy(side);
            /* Both have ended their halves, or one was reset, with nothing left to copy. */
            if (!side->gone && side->ended && side->other->held == NULL && events[i].events & (EPOLLERR | EPOLLHUP)) close_both(side);
        }
        while (closed_count > 0) free(closed[--closed_count]);
    }
}
